//! The architectures that can be booted, and the names that others use for them.

use std::env;

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
pub enum Arch {
    #[value(name = "x86_64")]
    X86,
    #[value(name = "aarch64")]
    Arm,
}

impl Arch {
    /// The architecture that this program runs on; if that is another one, the first.
    pub fn host() -> Self {
        if env::consts::ARCH == "aarch64" { Self::Arm } else { Self::X86 }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }

    /// Debian's name for it.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86 => "amd64",
            Self::Arm => "arm64",
        }
    }

    /// Rust's target for it with a statically linked libc.
    pub fn static_target(self) -> &'static str {
        match self {
            Self::X86 => "x86_64-unknown-linux-musl",
            Self::Arm => "aarch64-unknown-linux-musl",
        }
    }

    /// The directory in which Debian keeps its libraries.
    pub fn library_folder(self) -> &'static str {
        match self {
            Self::X86 => "usr/lib/x86_64-linux-gnu",
            Self::Arm => "usr/lib/aarch64-linux-gnu",
        }
    }

    /// The name of its serial ports in the guest.
    pub fn serial(self) -> &'static str {
        match self {
            Self::X86 => "ttyS",
            Self::Arm => "ttyAMA",
        }
    }
}
