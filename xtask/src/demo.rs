//! Builds the tracer and becomes its demo.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context as _, Result};
use tracer_step::{self as step, Profile, root};

use crate::setup::{self, Need, Talk};

/// Returns only on failure: the demo takes this process's place, so that its
/// terminal, signals and exit code need no passing on.
pub fn run(args: &[OsString]) -> Result<()> {
    setup::ensure(&[Need::Build, Need::Demo], Talk::Changes)?;
    let tracer = step::build_tracer(Profile::Release)?;
    let mut command = root::command(&tracer, &[("PATH", root::search_path())])?;
    let error = command.arg("demo").args(args).exec();
    Err(error).with_context(|| format!("failed to run `{}`", tracer.display()))
}
