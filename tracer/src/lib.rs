//! Tells who makes an fsync slow.

pub mod accounts;
pub mod engine;
pub mod kernel;
pub mod output;
pub mod ring;
pub mod snapshot;
pub mod tables;
