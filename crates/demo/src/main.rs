//! `tracer-demo`: a disk of our own, a real etcd on it, and two culprits.
//!
//! There are four acts: quiet, an fstrim, quiet again, a tenant that writes. The tracer
//! watches as it would anywhere, and does not know what the demo does. At the end the
//! demo prints the tracer's findings next to what really happened, and the tracer's
//! histogram of the WAL next to etcd's own.

mod act;
mod acts;
mod report;
mod say;
mod stage;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use tracer::{
    cli::{DemoArgs, KernelArgs, examples},
    commands::{Stop, block_on, exit, start},
    output::json,
    session::{Options, check_user},
};

use act::Act;
use acts::Watcher;
use say::say;
use stage::Stage;

/// Make a disk slow in a lab of its own, and find the culprit.
///
/// `tracer demo` runs this program. Only this program can make filesystems; the tracer,
/// which watches a node, cannot.
#[derive(Debug, Parser)]
#[command(name = "tracer-demo", version, after_long_help = examples::DEMO)]
struct Cli {
    #[command(flatten)]
    kernel: KernelArgs,
    #[command(flatten)]
    demo: DemoArgs,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    exit::report(block_on(run(&cli.demo, &cli.kernel.to_options())))
}

/// The acts, how long each lasts, and how long with `--fast`.
const ACTS: [(Act, u64, u64); 4] =
    [(Act::Quiet, 15, 6), (Act::Trim, 15, 7), (Act::Rest, 6, 3), (Act::Tenant, 15, 7)];

/// Runs the demo; everything that it made is gone afterwards.
///
/// # Errors
///
/// The lab or the tracer cannot be set up, the demo is interrupted, or the tracer names
/// another culprit than the real one.
async fn run(args: &DemoArgs, options: &Options) -> Result<()> {
    // This is checked before anything is created.
    check_user()?;
    let mut stop = Stop::new(None)?;
    say("making a disk of our own, with ext4, and an etcd on it ...");
    let mut stage = Stage::build(args.dir.as_deref())?;
    say(&stage.describe());
    let mut session = start(options)?;
    let live = !args.json && io::stdout().is_terminal();
    let mut watcher = Watcher::new(&mut session, &stage, live)?;
    stage.begin_puts()?;
    let mut reports = Vec::new();
    for (act, seconds, fast_seconds) in ACTS {
        let length = Duration::from_secs(if args.fast { fast_seconds } else { seconds });
        stage.begin(act, length)?;
        let report = watcher.watch(act, length, &mut stop).await;
        let done = stage.end(act);
        let Some(report) = report? else { bail!("interrupted; everything is cleaned up") };
        done?;
        reports.push(report);
        if !watcher.settle(&mut stop).await {
            bail!("interrupted; everything is cleaned up");
        }
    }
    stage.end_puts();
    let wal = stage.compare_wal(watcher.wal_buckets())?;
    let dropped = watcher.finish();
    stage.notes().iter().for_each(|note| say(note));
    let findings = report::Findings::new(reports, wal, dropped);

    let mut bytes = Vec::new();
    if args.json {
        json::write_json(&mut bytes, &findings)?;
    } else {
        findings.write(&mut bytes)?;
    }
    let mut out = io::stdout().lock();
    out.write_all(&bytes).and_then(|()| out.flush()).context("failed to print")?;
    drop(out);
    drop(stage);
    match findings.mistakes().as_slice() {
        [] => Ok(()),
        mistakes => bail!("the tracer was wrong: {}", mistakes.join("; ")),
    }
}
