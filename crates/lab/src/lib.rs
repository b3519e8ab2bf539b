//! A small laboratory: a disk of our own, a real etcd on it, and culprits
//! that make it slow on purpose.
//!
//! `tracer demo`, the live tests and the bench share it. It knows nothing of
//! BPF, the engine or the outputs; it only makes things happen and says what
//! it measured itself (etcd's own histogram, latencies of puts, the disk's
//! counters), so that the tracer's story can be held against another.
//!
//! Everything made here is removed when its guard is dropped: declare the
//! disk first, then the cgroups, then what runs in them, and Rust's order of
//! drops is the right one. Children die with us even when we are killed
//! (`process`), and folders, loop devices, mounts and cgroups that a killed
//! run left are swept by the next one (`folder`, `cgroup`). A signal's
//! default action runs no destructors: callers turn SIGINT, SIGTERM and
//! SIGHUP into an early return. Everything blocks, nothing is async.

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
pub mod trim;
pub mod wal;
