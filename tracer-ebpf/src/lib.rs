//! The contract between the kernel programs and user space.
//!
//! Everything here is `no_std`, has one layout on both sides, and knows
//! neither aya nor the kernel: [`ledger`] is the arithmetic of blame, [`span`]
//! that of overlapping requests, [`clocks`] that of a task's time on a CPU,
//! [`histogram`] its scales and quantiles, [`disks`] the table of disks'
//! descriptions, [`places`] the slots of requests in flight, [`pid`] the id of a task
//! in a namespace, [`cgroup`] the number that stands for a cgroup, [`open_sync`] the
//! state of a sync under way, [`dropped`] the counters of what is missing, [`record`]
//! the layouts of maps and of the ring buffer, [`config`] the configuration that user
//! space gives the programs before they are loaded.

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
