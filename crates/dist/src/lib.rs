//! Writes the tracer's packages, archives and image, without the tools of their formats.
//!
//! Bytes go in, bytes come out: nothing here builds a program, runs git or reads a clock. The
//! output depends only on the input, so two releases of one commit are the same files: names
//! are sorted, everything belongs to user 0, and each time is that of the release.
//!
//! [`layout`] has the path of each file; [`deb`], [`rpm`] and [`image`] are the formats, and
//! [`archive`] is what they share. [`krew`] describes the archives for kubectl. [`elf`] checks
//! which machine a program is for, [`sbom`] lists the libraries in the programs, [`notices`]
//! their licences, and [`sums`] the digests of all files.

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

/// The properties of a release, which all its files share.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Release {
    /// `0.1.0`
    pub version: String,
    /// One line that says what the program is for.
    pub summary: String,
    /// The licence, as an SPDX expression.
    pub licence: String,
    /// The maintainer of the packages, as `NAME <ADDRESS>`.
    pub maintainer: String,
    /// The time of the release in seconds since 1970, which is every date in it
    /// (`SOURCE_DATE_EPOCH`).
    pub epoch: u32,
}

/// An architecture, with the name that each format has for it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Machine {
    X86,
    Arm,
}

impl Machine {
    /// The name in Linux, Rust and RPM.
    pub fn linux(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }

    /// The name in Debian and in container engines.
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
