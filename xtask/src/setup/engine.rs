//! Container engines, for the tests that run the image in one.
//!
//! Podman and containerd are only unpacked ([`apart`]), so they start no service and change
//! nothing in the system; the tests pass them the paths of their parts. They are used with
//! runc, because crun refuses hosts that have cgroups of both versions. catatonit is what
//! the first container of a pod runs. Without an engine those tests are skipped and say why,
//! so nothing here is an error.

use std::path::PathBuf;

use tracer_step::{root::find_program, workspace};

use super::apart;
use crate::setup::Talk;

/// Debian's packages, and a program of each.
const PACKAGES: [(&str, &str); 4] = [
    ("podman", "podman"),
    ("runc", "runc"),
    ("catatonit", "catatonit"),
    ("containerd", "containerd"),
];

fn folder() -> PathBuf {
    workspace().join(".tools/podman")
}

pub fn ensure(talk: Talk) {
    for (package, program) in PACKAGES {
        let unpacked = ["bin", "sbin"].map(|bin| folder().join("usr").join(bin).join(program));
        if unpacked.iter().any(|file| file.is_file()) || find_program(program).is_some() {
            talk.there(package);
        } else if let Err(error) = apart::unpack(&[package], &folder()) {
            eprintln!("setup: tests that need `{package}` will be skipped: {error:#}");
        }
    }
}
