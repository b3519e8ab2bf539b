//! Tells who makes an fsync slow.

pub mod accounts;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod demo;
pub mod devices;
pub mod disks;
pub mod engine;
pub mod exit;
pub mod files;
pub mod identity;
pub mod journals;
pub mod kernel;
pub mod lab;
pub mod metrics;
pub mod mounts;
pub mod output;
pub mod ring;
pub mod session;
pub mod snapshot;
pub mod surroundings;
pub mod tables;
pub mod tallies;
pub mod tree;
pub mod work;
