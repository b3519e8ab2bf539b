//! The tracer of another commit of this repository, built from its own sources.
//!
//! The sources are checked out into `target/against` and removed when the binary
//! is built, which is kept under the commit's full name. The build uses nothing of
//! this tree, so a commit's tracer is the same whatever has changed since.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use tracer_step::{self as step, root};

/// Finds or makes the release build of `commit`; returns the commit's short name too.
pub fn build(commit: &str) -> Result<(String, PathBuf)> {
    let whole = resolve(commit)?;
    let folder = step::workspace().join("target/against").join(&whole);
    let tracer = folder.join("tracer");
    if !tracer.is_file() {
        fs::create_dir_all(&folder)
            .with_context(|| format!("failed to make `{}`", folder.display()))?;
        let tree = Tree::check_out(&whole, folder.join("tree"))?;
        let built = step::timed(&format!("build (release, {commit})"), || {
            step::build_executable(&mut cargo_of(tree.folder()), "tracer")
        })?;
        // It has another name until it is complete.
        let copy = folder.join("tracer.new");
        fs::copy(&built, &copy)
            .and_then(|_| fs::rename(&copy, &tracer))
            .with_context(|| format!("failed to keep `{}`", tracer.display()))?;
    }
    let short = git(&["rev-parse", "--short", &whole])?;
    Ok((short, tracer))
}

fn resolve(commit: &str) -> Result<String> {
    // Git would take it for an option.
    if commit.starts_with('-') {
        bail!("`{commit}` is no commit");
    }
    git(&["rev-parse", "--verify", "--quiet", &format!("{commit}^{{commit}}")])
        .with_context(|| format!("`{commit}` is no commit of this repository"))
}

/// Cargo for a checkout, with a target directory of its own: if two checkouts
/// share one, cargo takes them for the same packages.
fn cargo_of(tree: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(tree).env("PATH", root::search_path());
    for name in ["RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"] {
        command.env_remove(name);
    }
    command.args(["build", "--release", "--package", "tracer", "--bin", "tracer"]);
    command.args(["--target-dir", "target"]);
    command
}

/// A checkout; dropping it removes it with everything that was built in it.
struct Tree(PathBuf);

impl Tree {
    fn check_out(commit: &str, folder: PathBuf) -> Result<Self> {
        // A run that was killed may have left one.
        remove(&folder);
        let path = folder.to_str().context("the path to the target directory is not UTF-8")?;
        let mut command = Command::new("git");
        command.current_dir(step::workspace());
        command.args(["worktree", "add", "--force", "--detach", path, commit]);
        let tree = Self(folder.clone());
        step::run("check out", &mut command)?;
        Ok(tree)
    }

    fn folder(&self) -> &Path {
        &self.0
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(folder: &Path) {
    // It may not exist, and git may not know of it.
    let _ = fs::remove_dir_all(folder);
    let _ = git(&["worktree", "prune"]);
}

fn git(args: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command.current_dir(step::workspace()).args(args);
    step::read_output(&mut command).with_context(|| format!("`git {}` failed", args.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_commit_is_said_to_be_none() {
        for commit in ["no-such-commit", "--help", ""] {
            let error = format!("{:#}", resolve(commit).unwrap_err());
            assert!(error.contains(&format!("`{commit}` is no commit")), "{error}");
        }
    }
}
