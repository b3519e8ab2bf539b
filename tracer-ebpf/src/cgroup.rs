//! The numbers by which cgroups go.
//!
//! A cgroup has the number of its directory, which is its own within one hierarchy.
//! A process goes by its cgroup of version 2. Where it is in the root there, as all are
//! on a host that uses version 1, it goes by that in one hierarchy of version 1.

/// Set in the number of a cgroup of version 1: the kernel gives numbers from 1 on.
pub const V1: u64 = 1 << 63;

/// Whether a number is one of version 1.
pub const fn is_v1(id: u64) -> bool {
    id & V1 != 0
}
