//! A small laboratory: a disk of our own, a real etcd on it, and culprits
//! that make it slow on purpose.
//!
//! `tracer demo`, the live tests and the bench share it. It knows nothing of
//! BPF, the engine or the outputs. It only makes things happen and reports its
//! own measurements (etcd's own histogram, latencies of puts, the disk's
//! counters), so that the tracer's results can be compared with independent ones.
//!
//! Everything that is created here is removed when its guard is dropped. If the
//! disk is declared first, then the cgroups, then what runs in them, Rust drops
//! them in the right order. Children are killed with us, even if we are killed
//! (`process`). Directories, loop devices, mounts and cgroups that a killed run
//! left are removed by the next one (`folder`, `cgroup`). The default action of a
//! signal runs no destructors, so callers turn SIGINT, SIGTERM and SIGHUP into an
//! early return. Everything blocks; nothing is async.

pub mod cgroup;
pub mod cgroup_v1;
pub mod disk;
pub mod etcd;
pub mod folder;
pub mod histogram;
pub mod mounts;
pub mod node;
pub mod pace;
pub mod process;
pub mod puts;
pub mod tenant;
pub mod tool;
pub mod trace;
pub mod trim;
pub mod wal;
