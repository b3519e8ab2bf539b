//! Tells who makes an fsync slow.

pub mod accounts;
pub mod agent;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod described;
pub mod exit;
pub mod journals;
pub mod kernel;
pub mod output;
pub mod ring;
pub mod session;
pub mod tables;
pub mod tallies;
pub mod used;
pub mod work;
