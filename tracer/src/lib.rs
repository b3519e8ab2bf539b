//! Finds out who makes an fsync slow.

pub mod agent;
pub mod cli;
pub mod commands;
pub mod filter;
pub mod output;
pub mod session;
pub mod timeline;
