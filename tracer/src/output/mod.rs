//! The outputs, for people and for machines.
//!
//! Takes a [`tracer_snapshot::Snapshot`] (or one slow sync) and makes text,
//! JSON or a full screen of it. Every name in a snapshot is an untrusted
//! string: it passes [`escape`] before it reaches a terminal.
//!
//! Knows no engine, no probe and no clock; what is shown was decided before.

pub mod escape;
mod experiment;
pub mod freeze;
mod handles;
pub mod hanging;
mod helper;
pub mod json;
pub mod names;
mod pause;
pub mod phases;
pub mod plot;
mod quote;
pub mod remedy;
pub mod report;
pub mod stack;
mod stop;
pub mod text;
pub mod timeline;
pub mod top;
pub mod units;
pub mod verdict;
pub mod watch;
pub mod why;

#[cfg(test)]
pub(crate) mod fixture;
