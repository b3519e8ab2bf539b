//! The agent's log: one line each, on standard error.
//!
//! It is text for people, or JSON for programs that collect logs: then each line is one
//! object with `time`, `level` and `msg`, the names that most collectors know.

use std::{
    io::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracer_kernel::clock::unix_ns;

use crate::output::{escape::escape, json, units::utc};

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    /// Something is not as it was configured, and the agent goes on without it.
    Warn,
    /// The agent does not do its work.
    Error,
}

/// There is one standard error, and it has one format.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// From now on lines are written so.
pub fn set_format(format: LogFormat) {
    IS_JSON.store(format == LogFormat::Json, Relaxed);
}

/// Says what happens.
pub fn say(text: &str) {
    write(Level::Info, text);
}

pub fn warn(text: &str) {
    write(Level::Warn, text);
}

pub fn error(text: &str) {
    write(Level::Error, text);
}

fn write(level: Level, text: &str) {
    let format = if IS_JSON.load(Relaxed) { LogFormat::Json } else { LogFormat::Text };
    // Standard error may be gone; there is nobody left to read it.
    let _ = io::stderr().write_all(&line(format, level, unix_ns() as f64 / 1e9, text));
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: Level,
    msg: &'a str,
}

/// Names in a line may hold anything, and a log is read line by line. A text shows
/// its level where it is an error, as all other errors of the tracer do.
fn line(format: LogFormat, level: Level, at: f64, text: &str) -> Vec<u8> {
    match format {
        LogFormat::Text => {
            let word = if level == Level::Error { "error: " } else { "" };
            format!("tracer: {word}{}\n", escape(text)).into_bytes()
        }
        LogFormat::Json => {
            let mut bytes = Vec::new();
            // Writing to a `Vec` does not fail.
            let _ = json::write_json(&mut bytes, &Line { time: utc(at), level, msg: text });
            bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: LogFormat, level: Level, text: &str) -> String {
        String::from_utf8(line(format, level, 1_772_366_400.25, text)).unwrap()
    }

    #[test]
    fn an_error_is_one_line_that_hides_nothing() {
        let error = "cannot open `a\nb\u{1b}[31m\u{202e}`: no such file";
        assert_eq!(
            written(LogFormat::Text, Level::Error, error),
            "tracer: error: cannot open `a\\x0ab\\x1b[31m\\u{202e}`: no such file\n"
        );
    }

    #[test]
    fn a_line_is_for_people_or_for_machines() {
        let text = |level| written(LogFormat::Text, level, "a\nb");
        assert_eq!(text(Level::Info), "tracer: a\\x0ab\n");
        assert_eq!(text(Level::Warn), "tracer: a\\x0ab\n");
        assert_eq!(text(Level::Error), "tracer: error: a\\x0ab\n");
        let json = written(LogFormat::Json, Level::Warn, "a\n\"b\" \u{202e}");
        let expected = "{\"time\":\"2026-03-01T12:00:00.250Z\",\"level\":\"warn\",\
                        \"msg\":\"a\\n\\\"b\\\" \\u202e\"}\n";
        assert_eq!(json, expected);
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["msg"], "a\n\"b\" \u{202e}");
    }
}
