//! Writes the page, its charts and its JSON as files.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use crate::report::{Report, page, paired::Paired, plot, requirements};

/// The directory next to the page, with the charts, the JSON, and what is written by hand.
const BESIDE: &str = "cost";
const JSON: &str = "cost.json";
/// The results of a run on another disk; the file may be absent.
const NULL_BLK: &str = "null_blk.json";
const PAGE: &str = "cost.md";
/// The paired comparison, which is included in the page, and its figures.
const PAIRED: &str = "paired.md";
const PAIRED_JSON: &str = "paired.json";

pub fn write(report: &Report, folder: &Path) -> Result<()> {
    let beside = folder.join(BESIDE);
    let null_blk = beside.join(NULL_BLK);
    let null_blk: Option<Report> = if null_blk.exists() { Some(read(&null_blk)?) } else { None };
    fs::create_dir_all(&beside)
        .with_context(|| format!("failed to make `{}`", beside.display()))?;
    let mut json = Vec::new();
    report.write_json(&mut json)?;
    put(folder, &beside.join(JSON), &json)?;
    let of_null_blk = null_blk.iter().flat_map(|report| &report.curves);
    for curve in report.curves.iter().chain(of_null_blk) {
        let svg = plot::draw(curve)?;
        put(folder, &beside.join(format!("{}.svg", curve.name)), svg.as_bytes())?;
    }
    let by_hand = |name: &str| {
        let path = beside.join(name);
        fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))
    };
    let page = page::write(report, null_blk.as_ref(), by_hand)?;
    put(folder, &folder.join(PAGE), page.as_bytes())
}

/// Writes a page again from its JSON and from that of the paired comparison.
pub fn again(folder: &Path) -> Result<()> {
    let beside = folder.join(BESIDE);
    let mut paired: Paired = read(&beside.join(PAIRED_JSON))?;
    paired.evaluate();
    put(folder, &beside.join(PAIRED), paired.page().as_bytes())?;
    let mut report: Report = read(&folder.join(BESIDE).join(JSON))?;
    report.requirements = requirements::evaluate(&report);
    write(&report, folder)
}

/// Writes the paired comparison, and the page again with it.
pub fn write_paired(paired: &Paired, folder: &Path) -> Result<()> {
    let beside = folder.join(BESIDE);
    let mut json = Vec::new();
    paired.write_json(&mut json)?;
    put(folder, &beside.join(PAIRED_JSON), &json)?;
    again(folder)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let json = fs::read_to_string(path)
        .with_context(|| format!("failed to read `{}`: measure first", path.display()))?;
    serde_json::from_str(&json)
        .with_context(|| format!("`{}` is not what this bench writes", path.display()))
}

/// Writes a file, and gives it to the owner of the directory: we may be root by sudo.
fn put(folder: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("failed to write `{}`", path.display()))?;
    let owner = fs::metadata(folder)?;
    for path in [Some(path), path.parent()].into_iter().flatten() {
        // Only root can change the owner, and only root needs to.
        let _ = std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()));
    }
    Ok(())
}
