//! `tracer replay`: the views of `why`, `top` and `watch` over a recording.

use anyhow::Result;

use super::{
    past::{Source, finish},
    top, watch, why,
};
use crate::cli::recordings::{ReplayArgs, View};

/// # Errors
///
/// When the recording cannot be read whole (after what could be read was
/// shown), when there is nothing to say, or the output cannot be written.
pub async fn run(args: &ReplayArgs) -> Result<()> {
    let (time, length) = match &args.view {
        None => (&args.why.past.time, args.why.duration),
        Some(View::Why(why)) => (&why.past.time, why.duration),
        Some(View::Top(top)) => (&top.past.time, top.scope.duration),
        Some(View::Watch(watch)) => (&watch.past.time, watch.scope.duration),
    };
    let (mut replay, asked) = time.open(&Source::at(args.file.clone()), length)?;
    let (replay, asked) = (&mut replay, asked.as_ref());
    let shown = match &args.view {
        None => why::replay(&args.why, replay, asked),
        Some(View::Why(args)) => why::replay(args, replay, asked),
        Some(View::Top(args)) => top::replay(args, replay, asked).await,
        Some(View::Watch(args)) => watch::replay(args, replay, asked),
    };
    // If nothing could be shown, a damaged recording is the reason: report that first.
    finish(replay).and(shown)
}
