//! A container engine, for the tests that run the image in one.
//!
//! Podman starts no service and leaves the system alone when it is only unpacked
//! ([`apart`]); the tests say where its parts lie. It is used with runc, because crun
//! refuses hosts that have cgroups of both versions. Without it those tests say so and
//! are skipped, so nothing here is an error.

use std::path::PathBuf;

use tracer_step::{root::find_program, workspace};

use super::apart;
use crate::setup::Talk;

const PACKAGES: [&str; 2] = ["podman", "runc"];

fn folder() -> PathBuf {
    workspace().join(".tools/podman")
}

pub fn bring(talk: Talk) {
    let is_unpacked = folder().join("usr/bin/podman").is_file();
    if is_unpacked || PACKAGES.iter().all(|program| find_program(program).is_some()) {
        talk.there("podman");
    } else if let Err(error) = apart::unpack(&PACKAGES, &folder()) {
        eprintln!("setup: the tests go without a container engine: {error:#}");
    }
}
