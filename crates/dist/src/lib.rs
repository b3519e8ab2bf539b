//! The tracer's packages, archives and image, written without the tools of their
//! formats.
//!
//! Bytes go in, bytes come out: nothing here builds a program, asks git or looks at a
//! clock. What is written depends on what is given and on nothing else, so that two
//! releases of one commit are the same files: names are sorted, everything belongs to
//! user 0, and each time is that of the release.
//!
//! [`layout`] says which file lies where; [`deb`], [`rpm`] and [`image`] are the
//! formats, [`archive`] what they share. [`krew`] describes the archives for kubectl.
//! [`elf`] says for which machine a program is, [`sbom`] lists what the programs are made
//! of, [`notices`] under which terms, and [`sums`] the digests of it all.

#![forbid(unsafe_code)]

pub mod archive;
pub mod deb;
pub mod elf;
pub mod image;
pub mod krew;
pub mod layout;
pub mod notices;
pub mod rpm;
pub mod sbom;
pub mod sums;

/// The name of the program, of its packages and of its image.
pub const NAME: &str = "tracer";

/// A release, as all its files say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Release {
    /// `0.1.0`
    pub version: String,
    /// One line: what it is for.
    pub summary: String,
    /// As an SPDX expression.
    pub licence: String,
    /// `NAME <ADDRESS>` of who answers for the packages.
    pub maintainer: String,
    /// Seconds since 1970 that every date in it has (`SOURCE_DATE_EPOCH`).
    pub epoch: u32,
}

/// A machine by the names that each format has for it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Machine {
    X86,
    Arm,
}

impl Machine {
    /// As Linux, Rust and RPM call it.
    pub fn linux(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }

    /// As Debian and container engines call it.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86 => "amd64",
            Self::Arm => "arm64",
        }
    }
}

#[cfg(test)]
pub(crate) mod fixture {
    use super::Release;

    /// A release of the first second of 2026.
    pub fn release() -> Release {
        Release {
            version: "1.2.3".to_owned(),
            summary: "Says who it is".to_owned(),
            licence: "MIT OR Apache-2.0".to_owned(),
            maintainer: "Somebody <somebody@example.org>".to_owned(),
            epoch: 1_767_225_600,
        }
    }
}
