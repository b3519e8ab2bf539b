//! The variables that the build of the kernel programs does not take over from the host's.
//!
//! A profile or flags that are set there are for the host: without optimisation, with
//! checks of overflow or for another unwinding the same source makes objects that are not
//! linked, or that no verifier takes. Linkers, wrappers and directories are of the machine
//! that builds, and stay.

/// Profiles, whatever is set in them.
const PROFILES: &str = "CARGO_PROFILE_";

/// Flags for the compiler, by the names that cargo takes them from, and what else it makes
/// of a profile.
const NAMES: [&str; 5] = [
    "CARGO_BUILD_INCREMENTAL",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_INCREMENTAL",
    "RUSTFLAGS",
];

/// Flags for one target, by the begin and the end of the name.
const OF_TARGET: [&str; 2] = ["CARGO_TARGET_BPF", "_RUSTFLAGS"];

/// Whether a variable is cleared for the build of the kernel programs.
pub fn is_for_the_host(name: &str) -> bool {
    let [begin, end] = OF_TARGET;
    name.starts_with(PROFILES)
        || NAMES.contains(&name)
        || name.starts_with(begin) && name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_and_flags_are_the_hosts() {
        for name in [
            "CARGO_PROFILE_RELEASE_OPT_LEVEL",
            "CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS",
            "CARGO_PROFILE_RELEASE_PANIC",
            "CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_DEBUG",
            "CARGO_PROFILE_DEV_DEBUG",
            "RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_INCREMENTAL",
            "CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS",
        ] {
            assert!(is_for_the_host(name), "{name}");
        }
    }

    #[test]
    fn what_the_machine_builds_with_stays() {
        for name in [
            "PATH",
            "CARGO_HOME",
            "CARGO_MAKEFLAGS",
            "CARGO_BUILD_JOBS",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER",
            "CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER",
            "RUSTC_WRAPPER",
            "RUSTC_BOOTSTRAP",
            "OUT_DIR",
        ] {
            assert!(!is_for_the_host(name), "{name}");
        }
    }
}
