//! `tracer replay`: the views of `why`, `top` and `watch` over a recording.

use anyhow::Result;

use super::{top, watch, why};
use crate::cli::{ReplayArgs, View};
use tracer_recording::replay::Replay;

/// # Errors
///
/// When the recording cannot be read whole (after what could be read was
/// shown), when there is nothing to say, or the output cannot be written.
pub async fn run(args: &ReplayArgs) -> Result<()> {
    let mut replay = Replay::open(&args.file)?;
    let shown = match &args.view {
        None => why::replay(&args.why, &mut replay),
        Some(View::Why(args)) => why::replay(args, &mut replay),
        Some(View::Top(args)) => top::replay(args, &mut replay).await,
        Some(View::Watch(args)) => watch::replay(args, &mut replay),
    };
    // A damaged recording is why there may be nothing to say.
    replay.check().and(shown)
}
