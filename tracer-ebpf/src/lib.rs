//! The contract between the kernel programs and user space.
//!
//! Everything here is `no_std`, has one layout on both sides, and knows
//! neither aya nor the kernel: [`ledger`] is the arithmetic of blame, [`span`]
//! that of overlapping requests, [`clocks`] that of a task's time on a CPU,
//! [`histogram`] its scales and quantiles, [`disks`] where a disk's description
//! lies, [`places`] where a request in flight lies, [`pid`] what an id is where it
//! has none, [`cgroup`] which number a cgroup goes by, [`open_sync`] what is known of
//! a sync under way, [`dropped`] what is counted as missing, [`record`] what travels
//! through
//! maps and the ring buffer, [`config`] what user space tells the programs
//! before they are loaded.

#![cfg_attr(not(test), no_std)]

// The kernel programs' own; here only for its tests, which run on the host.
#[cfg(test)]
mod cell;
pub mod cgroup;
pub mod clocks;
pub mod config;
pub mod disks;
pub mod dropped;
pub mod histogram;
pub mod ledger;
pub mod open_sync;
pub mod pid;
pub mod places;
pub mod record;
pub mod span;
