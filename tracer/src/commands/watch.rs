//! `tracer watch`: one line for each slow sync, as it ends.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};

use super::{Stop, start};
use crate::{
    cli::WatchArgs,
    output::{json, names, watch},
    session::Options,
    snapshot::SlowSync,
};

/// # Errors
///
/// When the tracer cannot start or its output cannot be written.
pub async fn run(args: &WatchArgs, options: &Options) -> Result<()> {
    let mut session = start(options)?;
    let mut stop = Stop::new(args.scope.duration)?;
    let filter = args.scope.filter.as_deref().map(str::to_lowercase);
    let min_ns = u64::try_from(args.min.as_nanos()).unwrap_or(u64::MAX);
    let mut slow = Vec::new();
    let mut bytes = Vec::new();
    loop {
        let last = tokio::select! {
            () = session.wait() => false,
            () = stop.wait() => true,
        };
        session.poll(Some(min_ns), &mut slow);
        bytes.clear();
        for sync in slow.drain(..).filter(|sync| is_wanted(filter.as_deref(), sync)) {
            if args.json {
                json::write_json(&mut bytes, &sync)?;
            } else {
                watch::write_slow_sync(&mut bytes, &sync)?;
            }
        }
        if !bytes.is_empty() {
            let mut out = io::stdout().lock();
            out.write_all(&bytes).and_then(|()| out.flush()).context("cannot print")?;
        }
        if last {
            return Ok(());
        }
    }
}

fn is_wanted(filter: Option<&str>, sync: &SlowSync) -> bool {
    filter.is_none_or(|filter| {
        names::matches(filter, &sync.who, sync.class, &sync.path, &sync.device)
    })
}
