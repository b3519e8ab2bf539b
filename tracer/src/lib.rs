//! Tells who makes an fsync slow.

pub mod snapshot;
