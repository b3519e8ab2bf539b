//! The limit on locked memory, which maps counted against before 5.11.
//!
//! From then on they count as the memory of their cgroup:
//! <https://github.com/torvalds/linux/commit/80ee81e0403c>.

use std::{fs, path::Path};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use crate::types::KernelTypes;

/// Lifts the limit. Where that is not permitted it may not matter; where it does,
/// creating the maps says so.
pub(crate) fn raise() {
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
}

/// Whether this process has a limit that its maps would count against, on a
/// kernel with the types in this file.
pub fn limits_maps(btf: &Path) -> bool {
    let limited = getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft != RLIM_INFINITY);
    limited && fs::read(btf).is_ok_and(|types| counts_maps(&types))
}

/// Whether a kernel with such types counts maps against the limit: the struct
/// that it does so with went with the count.
pub(crate) fn counts_maps(types: &[u8]) -> bool {
    KernelTypes::parse(types).is_ok_and(|types| counts_maps_of(&types))
}

pub(crate) fn counts_maps_of(types: &KernelTypes<'_>) -> bool {
    types.first_struct("bpf_map_memory").is_some()
}
