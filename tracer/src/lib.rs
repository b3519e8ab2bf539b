//! Tells who makes an fsync slow.

pub mod accounts;
pub mod devices;
pub mod disks;
pub mod engine;
pub mod files;
pub mod identity;
pub mod kernel;
pub mod mounts;
pub mod output;
pub mod ring;
pub mod snapshot;
pub mod tables;
pub mod tree;
