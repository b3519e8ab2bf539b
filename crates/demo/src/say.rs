//! Progress of the demo.

use std::io::{self, Write as _};

/// Goes to standard error, so that standard output holds the findings alone.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "demo: {line}");
}
