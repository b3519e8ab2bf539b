//! `tracer mark`: says into an agent's recording what somebody did.

use anyhow::Result;

use super::past::ask;
use crate::cli::{MarkArgs, address::AgentUrl};

/// # Errors
///
/// When no agent listens on its socket, or it does not take the mark.
pub async fn run(args: &MarkArgs) -> Result<()> {
    ask::mark(&AgentUrl::Socket(args.socket.clone()), &args.text).await
}
