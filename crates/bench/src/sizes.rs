//! Measures the tracer's memory and CPU at given loads, its response time and its size.

use std::{
    env, fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tracer::session::{Options, Session};

use crate::{
    Round,
    fio::{FioWork, Rate, Rates, Stand},
    load::{Action, Spec},
    ours::Tracer,
    report::{
        rows::{BINARY, CPU, CROWD, FIRST_ANSWER, MAPS, PEAK, RSS, START, STATIC_BINARY, THOUSAND},
        table::Table,
    },
};

const MIB: f64 = (1 << 20) as f64;

/// The victim in [`measure_start`].
const WAITS: &str = "fio";

pub async fn measure(stand: &Stand, tracer: &Path, round: &Round, table: &mut Table) -> Result<()> {
    measure_start(stand, tracer, round, table).await?;
    measure_thousand(stand, tracer, round, table).await?;
    measure_crowd(stand, tracer, round, table).await
}

async fn measure_start(
    stand: &Stand,
    program: &Path,
    round: &Round,
    table: &mut Table,
) -> Result<()> {
    round.say("starts");
    let length = Duration::from_secs(3);
    let load = stand.start(syncs(500), length)?;
    // It creates no files: they exist already.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let tracer = Tracer::spawn(program, "0.1")?;
    let mut shown = vec![0; 1 << 16];
    loop {
        // Not the file's own place: the tracer writes there.
        let read = tracer.output.read_at(&mut shown, 0)?;
        if String::from_utf8_lossy(&shown[..read]).contains(WAITS) {
            break;
        }
        tracer.check_in_time()?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    table.note(&START, FIRST_ANSWER, "s", tracer.began.elapsed().as_secs_f64());
    let usage = tracer.usage()?;
    table.note(&START, "its CPU time until then", "s", usage.cpu_s);
    table.note(&START, "its largest resident size until then", "MiB", mib(usage.peak_rss_bytes));
    table.note(&START, "kernel memory of its maps", "MiB", mib(tracer.since.map_bytes()));
    table.note(&START, "programs that it has loaded", "", tracer.since.runs().programs as f64);
    tracer.stop()?;

    let begin = Instant::now();
    let session = Session::start(&Options::default())?;
    let seconds = begin.elapsed().as_secs_f64();
    table.note(&START, "of this: maps, programs, self-test (a session's start)", "s", seconds);
    drop(session);
    while load.is_running()? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    load.finish()?;

    note_size(table, BINARY, program)?;
    match env::var_os("TRACER_STATIC_BIN").map(PathBuf::from) {
        Some(program) => note_size(table, STATIC_BINARY, &program)?,
        None => table.note_missing(&START, STATIC_BINARY, "it was not built"),
    }
    Ok(())
}

fn note_size(table: &mut Table, what: &str, program: &Path) -> Result<()> {
    let bytes = fs::metadata(program)
        .with_context(|| format!("failed to read the metadata of `{}`", program.display()))?
        .len();
    table.note(&START, what, "MB", bytes as f64 / 1e6);
    Ok(())
}

async fn measure_thousand(
    stand: &Stand,
    program: &Path,
    round: &Round,
    table: &mut Table,
) -> Result<()> {
    round.say("a thousand syncs a second");
    let tracer = Tracer::start(program).await?;
    let (before, begin) = (tracer.usage()?, Instant::now());
    let figures = stand.run(syncs(1000), round.length).await?;
    let cpu_s = tracer.usage()?.cpu_s - before.cpu_s;
    table.note(&THOUSAND, CPU, "% of a core", cpu_s * 100.0 / begin.elapsed().as_secs_f64());
    table.note(&THOUSAND, "fdatasyncs that the load got", "/s", figures.syncs_per_second);
    tracer.stop()
}

fn syncs(per_second: u32) -> FioWork {
    let syncs = Some(Rate::PerSecond(per_second));
    FioWork::Both(Rates { syncs, ..Rates::NONE })
}

async fn measure_crowd(
    stand: &Stand,
    program: &Path,
    round: &Round,
    table: &mut Table,
) -> Result<()> {
    round.say("a thousand owners and a hundred victims");
    let tracer = Tracer::start(program).await?;
    let mut reads = Spec::new(vec![stand.read_file()], Action::Read, round.length);
    reads.owners = 1000;
    let mut syncs = Spec::new(vec![stand.append_file()], Action::Sync, round.length);
    syncs.owners = 100;
    let reading = reads.start()?;
    syncs.run().await?;
    while reading.is_running() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    reading.finish()?;
    // The tracer prints a snapshot with all of them.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let usage = tracer.usage()?;
    table.note(&CROWD, RSS, "MiB", mib(usage.rss_bytes));
    table.note(&CROWD, PEAK, "MiB", mib(usage.peak_rss_bytes));
    table.note(&CROWD, MAPS, "MiB", mib(tracer.since.map_bytes()));
    tracer.stop()
}

pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}
