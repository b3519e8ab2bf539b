//! Other tracers, which the bench measures beside ours.
//!
//! They come from the distribution and are unpacked into `.tools/peers` ([`apart`]).
//! If one is not available the bench says so in its row, so nothing here is an error.

use std::path::PathBuf;

use tracer_step::{root::find_program, workspace};

use super::apart;
use crate::setup::Talk;

/// A package, and a program in it.
const PACKAGES: [(&str, &str); 2] = [("bpftrace", "bpftrace"), ("libbpf-tools", "biolatency")];

/// The directory into which they are unpacked; it has the layout of a root directory.
pub fn folder() -> PathBuf {
    workspace().join(".tools/peers")
}

/// Fetches the packages that are neither installed nor unpacked, and lists those that
/// are not available.
pub fn ensure(talk: Talk) {
    for (package, program) in PACKAGES {
        let unpacked = ["bin", "sbin"].map(|bin| folder().join("usr").join(bin).join(program));
        if find_program(program).is_some() || unpacked.iter().any(|file| file.is_file()) {
            talk.there(package);
        } else if let Err(error) = apart::unpack(&[package], &folder()) {
            eprintln!("setup: the bench will not measure `{package}`: {error:#}");
        }
    }
}
