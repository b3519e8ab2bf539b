//! Runs programs as root: directly, or through sudo.
//!
//! Builds always run as the user, so that the target directory and cargo's caches stay
//! the user's. Only programs that need root are run through this module.

use std::{
    env,
    ffi::{OsStr, OsString},
    process::Command,
};

use anyhow::{Result, bail};

/// The way in which commands can be run as root here.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Root {
    We,
    Sudo,
    Nobody,
}

pub fn find_root() -> Root {
    if nix::unistd::geteuid().is_root() {
        Root::We
    } else if find_program("sudo").is_some() {
        Root::Sudo
    } else {
        Root::Nobody
    }
}

/// A command that runs `program` as root with `variables` in its environment; sudo passes
/// no other variables on.
pub fn command(program: impl AsRef<OsStr>, variables: &[(&str, OsString)]) -> Result<Command> {
    let program = program.as_ref();
    match find_root() {
        Root::We => {
            let mut command = Command::new(program);
            command.envs(variables.iter().map(|(name, value)| (name, value)));
            Ok(command)
        }
        Root::Sudo => {
            let mut command = Command::new("sudo");
            command.args(["--", "env"]);
            for (name, value) in variables {
                let mut variable = OsString::from(name);
                variable.push("=");
                variable.push(value);
                command.arg(variable);
            }
            command.arg(program);
            Ok(command)
        }
        Root::Nobody => bail!(
            "`{}` must run as root, and there is no sudo: run this as root",
            program.to_string_lossy()
        ),
    }
}

/// The search path with our own tools first, and the directories of system
/// tools that users often lack.
pub fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let ours = [crate::workspace().join(".tools/bin")];
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Into::into);
    // This fails only for names with a colon; the path is then used unchanged.
    env::join_paths(ours.into_iter().chain(env::split_paths(&path)).chain(system)).unwrap_or(path)
}

/// Finds a program on [`search_path`].
pub fn find_program(name: &str) -> Option<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    env::split_paths(&search_path()).map(|directory| directory.join(name)).find(|file| {
        file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}
