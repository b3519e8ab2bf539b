//! Installs what is missing on this machine, and nothing else.
//!
//! Idempotent. Commands ask for what they need, and print nothing if it is all
//! there; `cargo xtask setup` lists everything. Our own tools go to `.tools`; the
//! system gets only the packages that contain the named tools.

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

/// How much to say.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Talk {
    Everything,
    /// Only what is missing and what is done about it.
    Changes,
}

impl Talk {
    /// Says that something is there already.
    fn there(self, what: &str) {
        if self == Self::Everything {
            eprintln!("setup: {what}: there");
        }
    }
}

/// Makes the machine ready. Every need includes [`Need::Build`].
pub fn bring(needs: &[Need], talk: Talk) -> Result<()> {
    rust::bring_components(talk)?;
    rust::bring_linker(talk)?;
    tools::bring(needs, talk)?;
    if needs.contains(&Need::Test) {
        engine::bring(talk);
        wheel::bring_kinds(talk);
    }
    Ok(())
}

/// Makes the toolchain ready to build for another target.
pub fn bring_target(target: &str, talk: Talk) -> Result<()> {
    rust::bring_target(target, talk)
}

/// Brings the tracers that the bench compares ours with, as far as they are
/// available, and returns where they are unpacked.
pub fn bring_peers(talk: Talk) -> PathBuf {
    peers::bring(talk);
    peers::folder()
}
