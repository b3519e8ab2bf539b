//! The tracer as users run it: the CPU time and memory that it uses, and what it takes
//! away from the load.

use std::{path::Path, time::Instant};

use anyhow::Result;

use crate::{
    Round,
    fio::{Figures, FioWork, Stand},
    ours::Tracer,
    report::{
        rows::{ITSELF, LOAD},
        table::Table,
    },
};

pub async fn measure(stand: &Stand, tracer: &Path, round: &Round, table: &mut Table) -> Result<()> {
    if round.reversed {
        measure_bare(stand, round, table).await?;
        measure_traced(stand, tracer, round, table).await
    } else {
        measure_traced(stand, tracer, round, table).await?;
        measure_bare(stand, round, table).await
    }
}

async fn measure_bare(stand: &Stand, round: &Round, table: &mut Table) -> Result<()> {
    for (work, what) in [(FioWork::Reads, "random reads"), (FioWork::Syncs, "fdatasync")] {
        round.say(&format!("{what}, without the tracer"));
        let figures = stand.run(work, round.length).await?;
        for (what, _, value) in figures_of(work, &figures) {
            table.note_base(&LOAD, what, value);
        }
    }
    Ok(())
}

async fn measure_traced(
    stand: &Stand,
    tracer: &Path,
    round: &Round,
    table: &mut Table,
) -> Result<()> {
    let tracer = Tracer::start(tracer).await?;
    measure_itself(stand, &tracer, round, table).await?;

    for (work, what) in [(FioWork::Reads, "random reads"), (FioWork::Syncs, "fdatasync")] {
        round.say(&format!("{what}, with the tracer"));
        let figures = stand.run(work, round.length).await?;
        for (what, unit, value) in figures_of(work, &figures) {
            table.note(&LOAD, what, unit, value);
        }
    }
    tracer.stop()
}

/// Measures the CPU time and memory of a running tracer.
pub async fn measure_itself(
    stand: &Stand,
    tracer: &Tracer,
    round: &Round,
    table: &mut Table,
) -> Result<()> {
    round.say("a steady load, what the tracer takes");
    let before = tracer.usage()?;
    let begin = Instant::now();
    let figures = stand.run(FioWork::STEADY, round.length).await?;
    let after = tracer.usage()?;
    let percent = 100.0 / begin.elapsed().as_secs_f64();
    for (what, seconds) in [
        ("CPU", after.cpu_s - before.cpu_s),
        ("CPU, user (by clock ticks)", after.user_s - before.user_s),
        ("CPU, system (by clock ticks)", after.system_s - before.system_s),
    ] {
        table.note(&ITSELF, what, "% of a core", seconds * percent);
    }
    let peak = after.peak_rss_bytes as f64 / f64::from(1 << 20);
    table.note(&ITSELF, "largest resident size", "MiB", peak);
    table.note(&ITSELF, "reads that the load got", "/s", figures.reads_per_second);
    table.note(&ITSELF, "fdatasyncs that the load got", "/s", figures.syncs_per_second);
    Ok(())
}

/// The figures of a load that are reported, with their units.
fn figures_of(work: FioWork, figures: &Figures) -> Vec<(&'static str, &'static str, f64)> {
    match work {
        FioWork::Reads => vec![("random 4k reads, depth 16", "/s", figures.reads_per_second)],
        FioWork::Syncs => vec![
            ("4k writes with fdatasync", "/s", figures.syncs_per_second),
            ("fdatasync, median", "us", figures.sync_p50_us),
            ("fdatasync, p99", "us", figures.sync_p99_us),
        ],
        FioWork::Both(_) => Vec::new(),
    }
}
