//! The page: a template of prose with the figures put in.
//!
//! `{{rows: TITLE}}` is the table of a section, and `{{curve: NAME}}` is a chart with its
//! description in words. `{{null_blk rows: TITLE}}` and `{{null_blk curve: NAME}}` are
//! those of the run on null_blk, `{{file: NAME}}` is a file that is written by hand; the
//! rest are listed in [`fill`]. Text belongs in the template and in such files, because
//! the page itself is overwritten.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};

use super::{
    Report,
    curve::Curve,
    machine::Machine,
    requirements::Requirement,
    rows::{BESIDE, NOBODY, TRACER},
    spread::number,
    table::{Row, Table},
};

pub const TEMPLATE: &str = include_str!("page.md");

/// Returns the page, with the run on null_blk if there is one; `file` reads what is
/// written by hand.
///
/// # Errors
///
/// The template names something that does not exist, or that `file` cannot read.
pub fn write(
    report: &Report,
    null_blk: Option<&Report>,
    file: impl Fn(&str) -> Result<String>,
) -> Result<String> {
    fill(TEMPLATE, report, null_blk, file)
}

pub fn fill(
    template: &str,
    report: &Report,
    null_blk: Option<&Report>,
    file: impl Fn(&str) -> Result<String>,
) -> Result<String> {
    let not_measured = || "Not measured.".to_owned();
    let mut page = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").context("a placeholder has no end")?;
        page.push_str(before);
        page.push_str(&match name.split_once(": ").unwrap_or((name, "")) {
            ("machine", "") => machine(&report.machine),
            ("requirements", "") => requirements(&report.requirements),
            ("beside", "") => matrix(&report.table),
            ("rows", title) => rows(&report.table, title),
            ("null_blk machine", "") => {
                null_blk.map_or_else(not_measured, |report| machine(&report.machine))
            }
            ("null_blk rows", title) => {
                null_blk.map_or_else(not_measured, |report| rows(&report.table, title))
            }
            ("curve", name) => curve(&report.curves, name),
            ("null_blk curve", name) => {
                null_blk.map_or_else(not_measured, |report| curve(&report.curves, name))
            }
            ("file", name) => file(name)?.trim().to_owned(),
            _ => bail!("the page's template has an unknown placeholder `{name}`"),
        });
        rest = after;
    }
    page.push_str(rest);
    Ok(page)
}

fn machine(machine: &Machine) -> String {
    let Machine { cpu, cores, memory_bytes, kernel, date, command, rounds, seconds, .. } = machine;
    let Machine { load_before, took_seconds, .. } = machine;
    let gib = number((*memory_bytes as f64 / f64::from(1 << 30)).round());
    let minutes = number((*took_seconds as f64 / 60.0).round());
    format!(
        "{cpu}, {cores} cores, {gib} GiB; Linux {kernel}; {date}; `{command}`, {rounds} rounds of \
         {seconds} s, {minutes} minutes; load of others before: {load_before}."
    )
}

fn requirements(requirements: &[Requirement]) -> String {
    let mut text = String::from("| asked | measured | reached |\n|---|---|---|\n");
    for Requirement { asked, measured, reached } in requirements {
        let reached = match reached {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "unknown",
        };
        let _ = writeln!(text, "| {} | {} | {reached} |", cell(asked), cell(measured));
    }
    text.trim_end().to_owned()
}

fn rows(table: &Table, title: &str) -> String {
    let rows: Vec<_> = table.rows().filter(|row| row.section == title).collect();
    let Some(base) = rows.iter().find_map(|row| row.base()).map(|(name, _)| name) else {
        return bare_rows(&rows);
    };
    let mut text = format!("| | median | min–max | {base} | ratio |\n|---|---:|---:|---:|---:|\n");
    for row in &rows {
        // A row that was not measured has nothing to compare with.
        let base = row.base().filter(|_| row.spread().is_some());
        let base = base.map(|(_, base)| number(base.median)).unwrap_or_default();
        let ratio = row.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let _ = writeln!(text, "| {} | {base} | {ratio} |", cells(row));
    }
    text.trim_end().to_owned()
}

fn bare_rows(rows: &[&Row]) -> String {
    if rows.is_empty() {
        return "Not measured.".to_owned();
    }
    let mut text = String::from("| | median | min–max |\n|---|---:|---:|\n");
    for row in rows {
        let _ = writeln!(text, "| {} |", cells(row));
    }
    text.trim_end().to_owned()
}

/// The cells with name, median and range, or with the reason why there are none.
fn cells(row: &Row) -> String {
    let what = cell(&row.what);
    match (row.spread(), &row.not_measured) {
        (Some(spread), _) => {
            format!("{what} | {} {} | {}", number(spread.median), row.unit, spread.range())
        }
        (None, why) => {
            format!("{what} | not measured: {} | ", cell(why.as_deref().unwrap_or("")))
        }
    }
}

/// A table with a row per tool: what the load reaches beside it, and the ratio to the
/// load alone.
fn matrix(table: &Table) -> String {
    let mut names: Vec<&str> = vec![NOBODY, TRACER];
    for (_, section) in BESIDE {
        for row in table.rows_of(section) {
            if !names.contains(&row.what.as_str()) {
                names.push(&row.what);
            }
        }
    }
    let mut text = String::from("| beside |");
    for (head, _) in BESIDE {
        let _ = write!(text, " {head} |");
    }
    let _ = write!(text, "\n|---|{}\n", "---:|".repeat(BESIDE.len()));
    for name in names {
        let _ = write!(text, "| {} |", cell(name));
        for (_, section) in BESIDE {
            let shown = table.find(section, name).map(|row| match (row.spread(), row.ratio()) {
                (Some(spread), Some(ratio)) => {
                    format!("{} {} ({ratio:.2})", number(spread.median), row.unit)
                }
                (Some(spread), None) => format!("{} {}", number(spread.median), row.unit),
                (None, _) => {
                    format!("not measured: {}", cell(row.not_measured.as_deref().unwrap_or("")))
                }
            });
            let _ = write!(text, " {} |", shown.unwrap_or_default());
        }
        text.push('\n');
    }
    text.trim_end().to_owned()
}

fn curve(curves: &[Curve], name: &str) -> String {
    let Some(curve) = curves.iter().find(|curve| curve.name == name) else {
        return "Not measured.".to_owned();
    };
    let mut text = format!("![{}](cost/{name}.svg)\n\n", curve.title);
    for series in &curve.series {
        let _ = writeln!(text, "- {}", series.describe());
    }
    text.trim_end().to_owned()
}

/// Escapes text from peers, which may contain anything.
fn cell(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('|', "\\|").replace('<', "&lt;")
}
