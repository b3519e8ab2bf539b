//! Installs what is missing on this machine, and nothing else.
//!
//! Running it again changes nothing. Commands ask for what they need, and print nothing
//! if all of it is installed; `cargo xtask setup` lists everything. Our own tools go to
//! `.tools`; the system gets only the packages that contain the named tools.

mod apart;
mod engine;
mod peers;
mod rust;
mod tools;
mod unpacked;
mod wheel;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

/// The purpose that the machine is prepared for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Need {
    Build,
    Demo,
    Test,
    Bench,
}

impl Need {
    pub const ALL: [Self; 4] = [Self::Build, Self::Demo, Self::Test, Self::Bench];
}

/// How much to print.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Talk {
    Everything,
    /// Only what is missing and what is done about it.
    Changes,
}

impl Talk {
    /// Reports that something is installed already.
    fn there(self, what: &str) {
        if self == Self::Everything {
            eprintln!("setup: {what}: installed");
        }
    }
}

/// Installs what these needs ask for. Every need includes [`Need::Build`].
pub fn ensure(needs: &[Need], talk: Talk) -> Result<()> {
    rust::ensure_components(talk)?;
    rust::ensure_linker(talk)?;
    tools::ensure(needs, talk)?;
    if needs.contains(&Need::Test) {
        engine::ensure(talk);
        wheel::ensure_kinds(talk);
    }
    Ok(())
}

/// Prepares the toolchain to build for another target.
pub fn ensure_target(target: &str, talk: Talk) -> Result<()> {
    rust::ensure_target(target, talk)
}

/// Unpacks the tracers that the bench compares ours with, as far as they are
/// available, and returns the directory.
pub fn ensure_peers(talk: Talk) -> PathBuf {
    peers::ensure(talk);
    peers::folder()
}
