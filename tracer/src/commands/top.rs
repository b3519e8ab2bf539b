//! `tracer top`: who is slow, where the time goes, whose fault it is.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    POLL, Stop, Wakeup,
    past::{Asked, Source, Until, finish},
    start_beside_references,
};
use crate::{
    cli::TopArgs,
    output::{
        json, text,
        top::{
            state::{Action, View},
            terminal::{self, Input},
        },
    },
    session::{Options, Session},
};
use tracer_engine::victim::Span;
use tracer_recording::replay::Replay;
use tracer_snapshot::Snapshot;

/// The first screen comes sooner than the first interval: people wait for it.
const FIRST_SCREEN: Duration = Duration::from_millis(500);

/// A recording is shown this many times faster than real time.
const SPEED: u32 = 10;

/// # Errors
///
/// When the tracer cannot start or its output cannot be written.
pub async fn run(args: &TopArgs, options: &Options) -> Result<()> {
    if args.past.is_asked() {
        let (named, length) = (args.past.recording.as_deref(), args.scope.duration);
        let source = Source::find(named, None, &args.past.time, length).await?;
        let (mut past, asked) = args.past.time.open(&source, length)?;
        let shown = replay(args, &mut past, asked.as_ref()).await;
        return finish(&past).and(shown);
    }
    let session = start_beside_references(options)?;
    let wakeup = Wakeup::new(&session)?;
    let stop = Stop::new(args.scope.duration)?;
    if is_text(args) {
        print(args, session, &wakeup, stop).await
    } else {
        draw(args, &mut Shown::Live { session: Box::new(session), wakeup }, stop).await
    }
}

/// Shows the same over a recording: times are the recording's, and screens follow
/// each other as fast as they can be printed, or at `SPEED` on a terminal.
///
/// # Errors
///
/// When the output cannot be written.
pub async fn replay(args: &TopArgs, replay: &mut Replay, asked: Option<&Asked>) -> Result<()> {
    let end = Until::of(replay, asked, args.scope.duration);
    if !is_text(args) {
        return draw(args, &mut Shown::Recorded { replay, end, is_over: false }, Stop::new(None)?)
            .await;
    }
    if let Some(asked) = asked {
        asked.say();
    }
    let mut left = args.iterations;
    while left != Some(0) {
        let is_over = end.play(replay, Some(args.interval), None, &mut Vec::new());
        show(args, replay.snapshot_of(Span::Window))?;
        if is_over {
            return Ok(());
        }
        left = left.map(|n| n - 1);
    }
    Ok(())
}

fn is_text(args: &TopArgs) -> bool {
    args.batch || args.json || !io::stdout().is_terminal()
}

/// The source of what the full screen shows.
enum Shown<'a> {
    Live { session: Box<Session>, wakeup: Wakeup },
    Recorded { replay: &'a mut Replay, end: Until, is_over: bool },
}

impl Shown<'_> {
    /// Takes in what there is, until the time of the next screen.
    async fn follow(&mut self) {
        match self {
            Self::Live { session, wakeup } => {
                wakeup.wait().await;
                session.poll(None, &mut Vec::new());
            }
            Self::Recorded { .. } => std::future::pending().await,
        }
    }

    /// The next screen, an interval after the last.
    fn next(&mut self, interval: Duration) -> Snapshot {
        match self {
            Self::Live { session, .. } => session.snapshot(),
            Self::Recorded { replay, end, is_over } => {
                *is_over = end.play(replay, Some(interval), None, &mut Vec::new());
                replay.snapshot_of(Span::Window)
            }
        }
    }

    /// Whether the last screen stays: a recording has ended.
    fn is_over(&self) -> bool {
        matches!(self, Self::Recorded { is_over: true, .. })
    }

    /// Time between two screens.
    fn pace(&self, interval: Duration) -> Duration {
        match self {
            Self::Live { .. } => interval,
            Self::Recorded { .. } => interval / SPEED,
        }
    }
}

/// Prints one snapshot after another as text or JSON.
async fn print(
    args: &TopArgs,
    mut session: Session,
    wakeup: &Wakeup,
    mut stop: Stop,
) -> Result<()> {
    // A user whose disk does not answer should not wait for a whole interval as well.
    let first = if session.unproven().is_some() { POLL } else { args.interval };
    let mut ticks = interval_at(Instant::now() + first.min(args.interval), args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut left = args.iterations;
    let mut slow = Vec::new();
    while left != Some(0) {
        let last = tokio::select! {
            () = wakeup.wait() => {
                session.poll(None, &mut slow);
                continue;
            }
            _ = ticks.tick() => false,
            () = stop.wait() => true,
        };
        session.poll(None, &mut slow);
        show(args, session.snapshot())?;
        if last {
            return Ok(());
        }
        left = left.map(|n| n - 1);
    }
    Ok(())
}

fn show(args: &TopArgs, mut snapshot: Snapshot) -> Result<()> {
    args.scope.to_filter().narrow(&mut snapshot);
    let mut bytes = Vec::new();
    if args.json {
        json::write_json(&mut bytes, &snapshot)?;
    } else {
        text::write_snapshot(&mut bytes, &snapshot)?;
    }
    let mut out = io::stdout().lock();
    out.write_all(&bytes).and_then(|()| out.flush()).context("failed to print")
}

/// The full screen.
async fn draw(args: &TopArgs, shown: &mut Shown<'_>, mut stop: Stop) -> Result<()> {
    let mut screen = terminal::enter()?;
    let mut keys = terminal::spawn_keys()?;
    let mut view = View::default();
    let mut ticks = interval_at(Instant::now() + FIRST_SCREEN, shown.pace(args.interval));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let filter = args.scope.to_filter();
    let mut snapshot = shown.next(args.interval);
    filter.narrow(&mut snapshot);
    loop {
        screen.draw(&view, &snapshot)?;
        let stale = loop {
            tokio::select! {
                () = shown.follow() => {}
                _ = ticks.tick(), if !shown.is_over() => break !view.paused,
                () = stop.wait() => return Ok(()),
                input = keys.recv() => match input {
                    Some(Input::Key(key)) => match view.key(key, &snapshot) {
                        Action::Quit => return Ok(()),
                        Action::Continue => break false,
                    },
                    Some(Input::Resize) => break false,
                    // The terminal is gone.
                    None => return Ok(()),
                },
            }
        };
        if stale {
            snapshot = shown.next(args.interval);
            filter.narrow(&mut snapshot);
        }
    }
}
