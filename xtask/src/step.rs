//! Running other programs: announced, timed, and failing by name.
//!
//! Also where the project is and how its cargo is called. Knows nothing of
//! what the steps are for.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
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
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
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
        // Standard output is for results, and a step has none.
        let status = command
            .stdout(std::io::stderr())
            .status()
            .with_context(|| format!("cannot run `{}`", shown(command)))?;
        if !status.success() {
            bail!("`{}` ended with {status}", shown(command));
        }
        Ok(())
    })
}

/// Announces `name`, does it, and says how long that took.
pub fn timed<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("== {name}");
    let begin = Instant::now();
    let result = work().with_context(|| format!("step `{name}` failed"))?;
    eprintln!("== {name}: ok, {:.1} s", begin.elapsed().as_secs_f64());
    Ok(result)
}

/// What a program printed, trimmed; `None` when it is not there or failed.
pub fn read_output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// Builds the tracer and says where it is.
pub fn build_tracer(profile: Profile) -> Result<PathBuf> {
    let mut command = cargo("build");
    command.args(["--package", "tracer", "--bin", "tracer"]);
    let name = match profile {
        Profile::Debug => "build",
        Profile::Release => {
            command.arg("--release");
            "build (release)"
        }
    };
    timed(name, || build_executable(&mut command, "tracer"))
}

/// Runs a cargo command that builds, and finds the executable of its target
/// `name` in what cargo says: the target directory may be anywhere.
pub fn build_executable(command: &mut Command, name: &str) -> Result<PathBuf> {
    let output = command
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run `{}`", shown(command)))?;
    if !output.status.success() {
        bail!("`{}` ended with {}", shown(command), output.status);
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| executable(line, name))
        .with_context(|| format!("`{}` made no executable `{name}`", shown(command)))
}

/// The executable in a message of cargo, if it is about that of target `name`.
fn executable(message: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_it = message["target"]["name"] == name;
    message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
}

/// A command as one would type it, near enough for a message.
fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(std::ffi::OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_that_of_the_named_target() {
        let message =
            |name| format!(r#"{{"target":{{"name":"{name}"}},"executable":"/t/{name}-1"}}"#);
        assert_eq!(executable(&message("tests"), "tests"), Some("/t/tests-1".into()));
        assert_eq!(executable(&message("tracer"), "tests"), None);
        let library = r#"{"target":{"name":"tests"},"executable":null}"#;
        assert_eq!(executable(library, "tests"), None);
        assert_eq!(executable("Compiling …", "tests"), None);
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
