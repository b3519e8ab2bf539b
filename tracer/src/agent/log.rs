//! What the agent says while it runs: one line each, on standard error.

use std::io::{self, Write as _};

use crate::output::escape::escape;

/// Names in a line may hold anything, and a log is read line by line.
pub fn say(text: &str) {
    // Standard error may be gone; there is nobody left to tell.
    let _ = io::stderr().write_all(format!("tracer: {}\n", escape(text)).as_bytes());
}
