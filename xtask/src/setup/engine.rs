//! A container engine, for the tests that run the image in one.
//!
//! Podman is only unpacked ([`apart`]), so it starts no service and changes nothing in the
//! system; the tests pass it the paths of its parts. It is used with runc, because crun
//! refuses hosts that have cgroups of both versions. Without an engine those tests are
//! skipped and say why, so nothing here is an error.

use std::path::PathBuf;

use tracer_step::{root::find_program, workspace};

use super::apart;
use crate::setup::Talk;

const PACKAGES: [&str; 2] = ["podman", "runc"];

fn folder() -> PathBuf {
    workspace().join(".tools/podman")
}

pub fn ensure(talk: Talk) {
    let is_unpacked = folder().join("usr/bin/podman").is_file();
    if is_unpacked || PACKAGES.iter().all(|program| find_program(program).is_some()) {
        talk.there("podman");
    } else if let Err(error) = apart::unpack(&PACKAGES, &folder()) {
        eprintln!("setup: tests that need a container engine will be skipped: {error:#}");
    }
}
