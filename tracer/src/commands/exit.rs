//! How the program ends: its exit codes, and the one line that gives the reason.
//!
//! 0 done, 1 failed while running, 2 bad usage (clap's own), 3 this machine
//! cannot run it, 4 a recording was read only in part. A reader that goes away
//! (`tracer watch | head`) is a normal end. Knows no command.

use std::{fmt, io, process::ExitCode};

use anyhow::{Error, Result};
use tracer_recording::Incomplete;

use crate::{agent::log, session::CannotRun};

const FAILED: u8 = 1;
const CANNOT_RUN: u8 = 3;
const INCOMPLETE: u8 = 4;

/// The exit code of the tracer in a pod, which has said there what went wrong.
#[derive(Debug)]
pub struct Passed(pub u8);

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the tracer in the pod ended with {}", self.0)
    }
}

impl std::error::Error for Passed {}

/// Prints an error, unless it is a broken pipe, and returns the exit code.
pub fn report(result: Result<()>) -> ExitCode {
    if let Some(Passed(code)) = result.as_ref().err().and_then(Error::downcast_ref) {
        return ExitCode::from(*code);
    }
    match result {
        Err(error) if !is_broken_pipe(&error) => {
            log::error(&format!("{error:#}"));
            ExitCode::from(code(&error))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn code(error: &Error) -> u8 {
    if is_or_is_caused_by::<CannotRun>(error) {
        CANNOT_RUN
    } else if is_or_is_caused_by::<Incomplete>(error) {
        INCOMPLETE
    } else {
        FAILED
    }
}

/// The first looks through contexts, the second through causes.
fn is_or_is_caused_by<E: std::error::Error + Send + Sync + 'static>(error: &Error) -> bool {
    error.downcast_ref::<E>().is_some() || error.chain().any(<dyn std::error::Error>::is::<E>)
}

/// Rust ignores SIGPIPE, so a reader that is gone shows as a failed write.
fn is_broken_pipe(error: &Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        // serde_json does not name the error of the writer as its cause.
        let json = || cause.downcast_ref::<serde_json::Error>()?.io_error_kind();
        io.or_else(json)
    };
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context as _, anyhow};

    fn broken_pipe() -> io::Error {
        io::Error::from(io::ErrorKind::BrokenPipe)
    }

    #[test]
    fn what_this_machine_cannot_run_is_3_however_deep() {
        let cannot = || CannotRun("no BTF".into());
        assert_eq!(code(&cannot().into()), 3);
        assert_eq!(code(&Error::from(cannot()).context("failed to start").context("top")), 3);
        assert_eq!(code(&anyhow!("no file").context(cannot()).context("failed to start")), 3);
        assert_eq!(code(&Caused(cannot()).into()), 3);
        assert_eq!(code(&anyhow!("no file")), 1);
    }

    #[test]
    fn a_recording_that_was_read_in_part_is_4() {
        let incomplete = || Incomplete("it is cut off".into());
        assert_eq!(code(&incomplete().into()), 4);
        assert_eq!(code(&Error::from(incomplete()).context("failed to replay")), 4);
    }

    #[test]
    fn a_broken_pipe_is_no_error_however_deep() {
        assert!(is_broken_pipe(&broken_pipe().into()));
        assert!(is_broken_pipe(&Error::from(broken_pipe()).context("failed to print")));
        let json = serde_json::to_writer(Gone, "x").context("failed to print").unwrap_err();
        assert!(is_broken_pipe(&json));
        assert!(!is_broken_pipe(&io::Error::from(io::ErrorKind::NotFound).into()));
    }

    /// Somebody's error with ours as its cause.
    #[derive(Debug)]
    struct Caused(CannotRun);

    impl fmt::Display for Caused {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("failed to start")
        }
    }

    impl std::error::Error for Caused {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    /// A reader that has gone away.
    struct Gone;

    impl io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(broken_pipe())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
