//! The hooks: a folder for each capability, with all that is said of it in
//! user space.
//!
//! Its kernel programs lie in the folder of the same name in `tracer-ebpf`; a test
//! holds the two sides together. [`capability`](crate::capability) is the list of
//! them. None knows another.

pub mod bio;
pub mod complete;
pub mod contender;
pub mod dirtied;
pub mod freeze;
pub mod issue;
pub mod journal;
pub mod log;
pub mod metadata;
pub mod reclaim;
pub mod submit;
pub mod sync;
pub mod throttle;
pub mod tickets;
pub mod writeback;
pub mod writers;

#[cfg(test)]
mod tests;
