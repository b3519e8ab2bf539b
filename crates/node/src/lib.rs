//! The node as `/proc` and `/sys` show it: who processes and cgroups are, which
//! file a record speaks of, what disks there are, which limits are set.
//!
//! It gets numbers from kernel records, and a root below which the node's files
//! lie ([`tree`]), and returns names and settings. It knows no kernel program and
//! no clock, and asks no daemon.

pub mod cache_drops;
pub mod changes;
pub mod device_names;
pub mod devices;
pub mod dirty;
pub mod disks;
pub mod errand;
pub mod files;
pub mod frozen;
pub mod helpers;
pub mod identity;
pub mod mounts;
pub mod namespaces;
pub mod stopped;
pub mod surroundings;
pub mod tree;
