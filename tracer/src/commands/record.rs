//! `tracer record`: writes a recording to a file, for a later replay.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, IsTerminal as _, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{Stop, Wakeup, start_beside_references};
use crate::{
    agent::log,
    cli::recordings::RecordArgs,
    output::units::{bytes, rate, span},
    session::Options,
};
use tracer_recording::recorder::Progress;

/// The line of progress is rewritten at this interval.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

/// # Errors
///
/// When the tracer cannot start, or the recording cannot be written: what was
/// written until then can be replayed.
pub async fn run(args: &RecordArgs, options: &Options) -> Result<()> {
    // Before anything is loaded, and again when it is made.
    if !args.force && args.output != Path::new("-") && args.output.exists() {
        return Err(exists(&args.output));
    }
    let mut session = start_beside_references(options)?;
    let wakeup = Wakeup::new(&session)?;
    session.begin_recording(open(args)?)?;
    let mut stop = Stop::new(args.duration)?;
    let mut slow = Vec::new();
    let begin = Instant::now();
    let mut shown = begin;
    let shows_progress = io::stderr().is_terminal();
    if let Some(why) = session.unproven() {
        log::say(&format!("unproven: {why}"));
    }
    loop {
        let last = tokio::select! {
            () = wakeup.wait() => false,
            () = stop.wait() => true,
        };
        session.poll(None, &mut slow);
        let progress = session.check_recording()?;
        if last {
            break;
        }
        if shows_progress && shown.elapsed() >= PROGRESS_PERIOD {
            shown = Instant::now();
            show(begin.elapsed(), progress.unwrap_or_default(), "");
        }
    }
    let progress = session.end_recording()?;
    if shows_progress {
        show(begin.elapsed(), progress.unwrap_or_default(), "\n");
    }
    Ok(())
}

fn open(args: &RecordArgs) -> Result<Box<dyn Write>> {
    let path = &args.output;
    if path == Path::new("-") {
        if io::stdout().is_terminal() {
            bail!("a recording is binary and not for a terminal: name a file or use a pipe");
        }
        return Ok(Box::new(io::stdout()));
    }
    let file = match args.force {
        true => File::create(path),
        false => OpenOptions::new().write(true).create_new(true).open(path),
    };
    match file {
        Ok(file) => Ok(Box::new(file)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(path)),
        Err(error) => Err(error).with_context(|| format!("failed to make `{}`", path.display())),
    }
}

fn exists(path: &Path) -> anyhow::Error {
    anyhow::anyhow!("`{}` already exists; --force overwrites it", path.display())
}

/// Rewrites the line of progress in place.
fn show(elapsed: Duration, progress: Progress, end: &str) {
    let Progress { syncs, bytes: size } = progress;
    let line = format!(
        "\rrecorded {}: {} syncs, {}\x1b[K{end}",
        span(elapsed.as_secs() as f64),
        rate(syncs as f64),
        bytes(size as f64),
    );
    // A terminal that is gone is no reason to stop the recording.
    let _ = io::stderr().write_all(line.as_bytes());
}
