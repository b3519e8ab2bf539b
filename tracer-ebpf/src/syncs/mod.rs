//! The sync path: one record for each sync, with its phases and who else had
//! requests in flight meanwhile.
//!
//! [`state`] is what is known of one, [`table`] holds those under way, [`windows`]
//! what else was in flight on their disks. [`begin`] opens them, [`finish`] closes
//! them and sends their records, [`own`] credits them with their requests, and
//! [`commit`] does the same for a journal's commits.

pub mod begin;
pub mod call;
pub mod commit;
pub mod finish;
pub mod own;
pub mod state;
pub mod table;
pub mod windows;
