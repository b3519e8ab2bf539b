//! The kernel programs' maps, read and kept in order from user space.
//!
//! [`ring`] hands over records. [`tables`] are arrays in our own memory, and
//! [`accounts`] makes owners and rates of them, with [`work`] for what requests
//! cost, [`journals`] for who fills the journals and [`described`] for what the
//! programs know of disks, [`helpers`] the threads that they look at. `bios` are those
//! in flight where they stand for requests. [`under_way`] are syncs that have not ended.
//! [`waiting`] distinguishes a request that waits in a queue from one whose end was missed.
//! [`tallies`] are sums by owner beside the ledger, and [`sums`] the tables that
//! those and the journals' come from.
//! [`freezes`] are the filesystems that somebody froze, [`pauses`] the writers that the kernel
//! pauses, and [`whole_syncs`] the filesystems that somebody has written as a whole. `estimate` finds the cost of requests that
//! are never alone. [`pods`] are keys and values as plain bytes.

pub mod accounts;
mod bios;
pub mod described;
mod estimate;
pub mod freezes;
pub mod helpers;
pub mod journals;
pub mod pauses;
pub mod pods;
pub mod ring;
pub mod sums;
pub mod tables;
pub mod tallies;
pub mod uncounted;
pub mod under_way;
pub mod waiting;
pub mod whole_syncs;
pub mod work;
