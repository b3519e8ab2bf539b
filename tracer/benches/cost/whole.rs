//! The tracer as users run it: what it takes for itself, and what it takes
//! from the load.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tracer::lab::{cgroup::Cgroup, process::Process, tool::last_line};

use crate::{
    Round,
    fio::{Figures, Stand, Work},
    table::{Section, Table},
    usage::Usage,
};

const ITSELF: Section =
    Section { title: "`tracer top --batch`, under 2000 reads/s and 200 fdatasyncs/s", base: "" };
const LOAD: Section =
    Section { title: "the load beside `tracer top --batch`", base: "without the tracer" };

/// How long the first picture may take.
const START: Duration = Duration::from_secs(30);

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
    for (work, what) in [(Work::Reads, "random reads"), (Work::Syncs, "fdatasync")] {
        round.say(&format!("{what}, without the tracer"));
        let figures = stand.run(work, round.length).await?;
        for (what, _, value) in told(work, &figures) {
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
    let mut process = start(tracer).await?;
    round.say("a steady load, what the tracer takes");
    let before = Usage::read(process.pid())?;
    let begin = Instant::now();
    let figures = stand.run(Work::Steady, round.length).await?;
    let after = Usage::read(process.pid())?;
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

    for (work, what) in [(Work::Reads, "random reads"), (Work::Syncs, "fdatasync")] {
        round.say(&format!("{what}, with the tracer"));
        let figures = stand.run(work, round.length).await?;
        for (what, unit, value) in told(work, &figures) {
            table.note(&LOAD, what, unit, value);
        }
    }
    check_alive(&process)?;
    process.stop(Duration::from_secs(5)).map(drop)
}

/// What is told of a load.
fn told(work: Work, figures: &Figures) -> Vec<(&'static str, &'static str, f64)> {
    match work {
        Work::Reads => vec![("random 4k reads, depth 16", "/s", figures.reads_per_second)],
        Work::Syncs => vec![
            ("4k writes with fdatasync", "/s", figures.syncs_per_second),
            ("fdatasync, median", "us", figures.sync_p50_us),
            ("fdatasync, p99", "us", figures.sync_p99_us),
        ],
        Work::Steady => Vec::new(),
    }
}

/// Starts the tracer and waits for its first picture.
async fn start(tracer: &Path) -> Result<Process> {
    let output = tempfile::tempfile().context("failed to make a file for the tracer's output")?;
    let mut command = Command::new(tracer);
    command.args(["top", "--batch", "--interval", "1"]).stdout(output.try_clone()?);
    let process = Process::spawn(command, &Cgroup::none())?;
    let until = Instant::now() + START;
    while output.metadata()?.len() == 0 {
        check_alive(&process)?;
        if Instant::now() > until {
            bail!("`{}` printed nothing for {} s", tracer.display(), START.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(process)
}

fn check_alive(process: &Process) -> Result<()> {
    match process.ended() {
        Some(ended) => bail!("the tracer ended ({}): {}", ended.status, last_line(&ended.stderr)),
        None => Ok(()),
    }
}
