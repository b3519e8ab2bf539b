//! Runs other programs as steps: each is announced and timed, and named if it fails.
//!
//! It also knows where the project is and how to call cargo. It does not know what the
//! steps are for.

#![forbid(unsafe_code)]

pub mod root;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

#[derive(Clone, Copy)]
pub enum Profile {
    Debug,
    Release,
}

/// The directory of the workspace.
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The cargo that runs this, in the workspace.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(workspace());
    command
}

/// Runs one step to its end; its output goes to standard error.
pub fn run(name: &str, command: &mut Command) -> Result<()> {
    timed(name, || {
        // Standard output is only for results, and a step has none.
        let status = command
            .stdout(std::io::stderr())
            .status()
            .with_context(|| format!("failed to run `{}`", shown(command)))?;
        if !status.success() {
            bail!("`{}` ended with {status}", shown(command));
        }
        Ok(())
    })
}

/// Announces `name`, does the work, and prints how long it took.
pub fn timed<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("== {name}");
    let begin = Instant::now();
    let result = work().with_context(|| format!("step `{name}` failed"))?;
    note(name, begin.elapsed());
    eprintln!("== {name}: ok, {:.1} s", begin.elapsed().as_secs_f64());
    Ok(result)
}

/// The steps that have ended, and the seconds that each took.
static TIMES: Mutex<Vec<(String, f64)>> = Mutex::new(Vec::new());

/// Records how long a step took; [`timed`] does so by itself.
pub fn note(name: &str, duration: Duration) {
    let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    times.push((name.to_owned(), duration.as_secs_f64()));
}

/// Returns the recorded steps, and forgets them.
pub fn take_times() -> Vec<(String, f64)> {
    std::mem::take(&mut *TIMES.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The output of a program, trimmed; `None` when it is not installed or failed.
pub fn read_output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// Builds the tracer and its demo, and returns the tracer's path.
pub fn build_tracer(profile: Profile) -> Result<PathBuf> {
    let mut command = cargo("build");
    command.args(["--package", "tracer", "--package", "tracer-demo"]);
    command.args(["--bin", "tracer", "--bin", "tracer-demo"]);
    let name = match profile {
        Profile::Debug => "build",
        Profile::Release => {
            command.arg("--release");
            "build (release)"
        }
    };
    timed(name, || build_executable(&mut command, "tracer"))
}

/// Runs a cargo command that builds, and finds the executable of its target `name` in
/// cargo's messages, because the target directory may be anywhere.
pub fn build_executable(command: &mut Command, name: &str) -> Result<PathBuf> {
    build_executables(command)?
        .into_iter()
        .find_map(|built| (built.target == name).then_some(built.file))
        .with_context(|| format!("`{}` made no executable `{name}`", shown(command)))
}

/// An executable that cargo has built.
#[derive(Debug, Eq, PartialEq)]
pub struct Executable {
    /// The target's name.
    pub target: String,
    /// `lib`, `bin`, `test`.
    pub kind: String,
    pub file: PathBuf,
    /// The directory of its package, in which cargo runs tests.
    pub folder: PathBuf,
    pub is_test: bool,
}

/// Runs a cargo command that builds, and returns the executables that it built.
pub fn build_executables(command: &mut Command) -> Result<Vec<Executable>> {
    let output = command
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("failed to run `{}`", shown(command)))?;
    if !output.status.success() {
        bail!("`{}` ended with {}", shown(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(executable).collect())
}

/// The executable that a message of cargo is about.
fn executable(message: &str) -> Option<Executable> {
    let message: Value = serde_json::from_str(message).ok()?;
    Some(Executable {
        target: message["target"]["name"].as_str()?.to_owned(),
        kind: message["target"]["kind"][0].as_str()?.to_owned(),
        file: message["executable"].as_str()?.into(),
        folder: Path::new(message["manifest_path"].as_str()?).parent()?.to_owned(),
        is_test: message["profile"]["test"].as_bool()?,
    })
}

/// A command roughly as one would type it, for a message.
fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(std::ffi::OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_is_what_cargo_says_it_is() {
        let message = |executable| {
            format!(
                r#"{{"manifest_path":"/w/tests/Cargo.toml","profile":{{"test":true}},
                "target":{{"name":"tests","kind":["test"]}},"executable":{executable}}}"#
            )
        };
        let tests = Executable {
            target: "tests".to_owned(),
            kind: "test".to_owned(),
            file: "/t/tests-1".into(),
            folder: "/w/tests".into(),
            is_test: true,
        };
        assert_eq!(executable(&message(r#""/t/tests-1""#)), Some(tests));
        // A library's.
        assert_eq!(executable(&message("null")), None);
        assert_eq!(executable("Compiling …"), None);
    }

    #[test]
    fn a_failing_step_is_named() {
        let error = run("nonsense", &mut Command::new("false")).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "step `nonsense` failed: `false` ended with exit status: 1"
        );
    }
}
