//! Results of boots, which are kept in the cache. A long run that was stopped, or whose
//! failures were the tests' fault, need not begin again.
//!
//! A result counts only for the same build of the tracer, and for the same selection of
//! tests.

use std::{
    fs,
    hash::{DefaultHasher, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{
    console::Cell,
    files,
    plan::Boot,
    report::{Report, Verdict},
    tally::Test,
};

#[derive(Deserialize, Serialize)]
struct KeptResult {
    /// The hash of the tracer's binary.
    tracer: u64,
    tests: Vec<String>,
    release: String,
    duration_seconds: f64,
    passed: u64,
    skipped: u64,
    #[serde(default)]
    ended: Vec<Test>,
    cells: Vec<Cell>,
    remarks: Vec<String>,
}

/// Keeps the result of a boot that passed.
pub fn keep(report: &Report, tracer: &Path) -> Result<()> {
    if report.verdict != Verdict::Passed {
        return files::remove(&place(&report.boot));
    }
    let kept = KeptResult {
        tracer: hash(tracer)?,
        tests: report.boot.tests.clone(),
        release: report.release.clone(),
        duration_seconds: report.duration_seconds,
        passed: report.passed,
        skipped: report.skipped,
        ended: report.tests.clone(),
        cells: report.cells.clone(),
        remarks: report.remarks.clone(),
    };
    files::create_folder(&files::cache().join("results"))?;
    files::write(&place(&report.boot), &serde_json::to_vec(&kept)?)
}

/// The result of a boot that has passed with this tracer.
pub fn find(boot: &Boot, tracer: &Path) -> Option<Report> {
    let kept: KeptResult = serde_json::from_slice(&fs::read(place(boot)).ok()?).ok()?;
    if kept.tests != boot.tests || kept.tracer != hash(tracer).ok()? {
        return None;
    }
    let mut report = Report::new(boot, &kept.release, Verdict::Passed);
    report.duration_seconds = kept.duration_seconds;
    (report.passed, report.skipped) = (kept.passed, kept.skipped);
    report.tests = kept.ended;
    (report.cells, report.remarks) = (kept.cells, kept.remarks);
    Some(report)
}

fn place(boot: &Boot) -> PathBuf {
    files::cache().join("results").join(format!("{boot}.json"))
}

fn hash(file: &Path) -> Result<u64> {
    let bytes = fs::read(file).with_context(|| format!("failed to read `{}`", file.display()))?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    Ok(hasher.finish())
}
