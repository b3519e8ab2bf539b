//! Tests that only a virtual machine can run: they load modules, make devices
//! of any kind and throttle cgroups. `cargo xtask vm` sets `TRACER_GUEST=1`.
//!
//! Loads are small and times generous: an emulated machine is tens of times
//! slower than a real one. Speeds are only compared with delays that the test
//! itself put in, and those are long.

/// Whether this is a virtual machine that is ours to break.
pub fn is_guest() -> bool {
    std::env::var_os("TRACER_GUEST").is_some_and(|value| value == "1")
}
