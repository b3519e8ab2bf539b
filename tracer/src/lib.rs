//! Tells who makes an fsync slow.

pub mod kernel;
pub mod snapshot;
