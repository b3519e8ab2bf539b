//! `tracer demo`: becomes `tracer-demo`, a program of its own, because it alone
//! makes filesystems.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::session::{CannotRun, check_user};

const PROGRAM: &str = "tracer-demo";

/// Returns only on failure: the demo takes this process's place, so that its
/// terminal, signals and exit code need no passing on.
///
/// # Errors
///
/// When the user may not trace, or the demo is not installed or cannot be started.
pub fn run() -> Result<()> {
    check_user()?;
    let search_path = env::var_os("PATH").unwrap_or_default();
    let program = find(env::current_exe().ok().as_deref(), &search_path).ok_or_else(|| {
        CannotRun(format!(
            "`{PROGRAM}` is not installed: it is neither beside this program nor on the search \
             path. It comes in the tracer's archives and packages, not in the container image; \
             in the source tree `cargo xtask demo` builds and runs it"
        ))
    })?;
    let error = Command::new(&program).args(arguments(env::args_os().skip(1))).exec();
    Err(error).with_context(|| format!("failed to run `{}`", program.display()))
}

/// The demo's program: beside this one, else the first on the search path.
fn find(this_program: Option<&Path>, search_path: &OsStr) -> Option<PathBuf> {
    let beside = this_program.and_then(Path::parent).map(Path::to_owned);
    let directories = beside.into_iter().chain(env::split_paths(search_path));
    directories.map(|directory| directory.join(PROGRAM)).find(|file| file.is_file())
}

/// All arguments but the command's own name.
fn arguments(all: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut is_named = false;
    all.filter(|argument| {
        let is_name = !is_named && argument == "demo";
        is_named |= is_name;
        !is_name
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_demo_is_looked_for_beside_the_tracer_first() {
        let (beside, path) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (this, elsewhere) = (beside.path().join("tracer"), path.path().join(PROGRAM));
        let search_path = env::join_paths(["/nonexistent".into(), path.path().to_owned()]).unwrap();
        assert_eq!(find(Some(&this), &search_path), None);
        fs::write(&elsewhere, "").unwrap();
        assert_eq!(find(Some(&this), &search_path), Some(elsewhere));
        fs::write(beside.path().join(PROGRAM), "").unwrap();
        assert_eq!(find(Some(&this), &search_path), Some(beside.path().join(PROGRAM)));
    }

    #[test]
    fn the_name_of_the_command_is_left_out_once() {
        let given = ["--kernel-log", "demo", "--dir", "demo"].map(OsString::from);
        assert_eq!(arguments(given.into_iter()), ["--kernel-log", "--dir", "demo"]);
    }
}
