//! `tracer top`: who is slow, where the time goes, whose fault it is.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Stop, filter_snapshot, start};
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

/// The first screen comes sooner than the first interval: people wait for it.
const FIRST_SCREEN: Duration = Duration::from_millis(500);

/// # Errors
///
/// When the tracer cannot start or its output cannot be written.
pub async fn run(args: &TopArgs, options: &Options) -> Result<()> {
    let session = start(options)?;
    let stop = Stop::new(args.scope.duration)?;
    if args.batch || args.json || !io::stdout().is_terminal() {
        print(args, session, stop).await
    } else {
        draw(args, session, stop).await
    }
}

/// One picture after another as text or JSON.
async fn print(args: &TopArgs, mut session: Session, mut stop: Stop) -> Result<()> {
    let mut ticks = interval_at(Instant::now() + args.interval, args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut left = args.iterations;
    let mut slow = Vec::new();
    let mut bytes = Vec::new();
    while left != Some(0) {
        let last = tokio::select! {
            () = session.wait() => {
                session.poll(None, &mut slow);
                continue;
            }
            _ = ticks.tick() => false,
            () = stop.wait() => true,
        };
        session.poll(None, &mut slow);
        let mut snapshot = session.snapshot();
        filter_snapshot(&mut snapshot, args.scope.filter.as_deref());
        bytes.clear();
        if args.json {
            json::write_json(&mut bytes, &snapshot)?;
        } else {
            text::write_snapshot(&mut bytes, &snapshot)?;
        }
        let mut out = io::stdout().lock();
        out.write_all(&bytes).and_then(|()| out.flush()).context("cannot print")?;
        if last {
            return Ok(());
        }
        left = left.map(|n| n - 1);
    }
    Ok(())
}

/// The full screen.
async fn draw(args: &TopArgs, mut session: Session, mut stop: Stop) -> Result<()> {
    let mut screen = terminal::enter()?;
    let mut keys = terminal::spawn_keys()?;
    let mut view = View::default();
    let mut slow = Vec::new();
    let mut ticks = interval_at(Instant::now() + FIRST_SCREEN, args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let filter = args.scope.filter.as_deref();
    let mut snapshot = session.snapshot();
    filter_snapshot(&mut snapshot, filter);
    loop {
        screen.draw(&view, &snapshot)?;
        let stale = loop {
            tokio::select! {
                () = session.wait() => session.poll(None, &mut slow),
                _ = ticks.tick() => break !view.paused,
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
            snapshot = session.snapshot();
            filter_snapshot(&mut snapshot, filter);
        }
    }
}
