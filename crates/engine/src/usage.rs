//! How disks are used: each owner's requests in the last second, and the times
//! that requests take alone. Plain data, which a session reads from the ledger
//! and a replay from a recording.

use crate::{
    blame::{ActorId, OwnerId},
    reference::Level,
};

/// One owner's requests of one class on one disk, in the last second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    pub owner: OwnerId,
    pub actor: ActorId,
    /// A code of [`tracer_ebpf::record::op`].
    pub op: u16,
    /// The process that used the account last.
    pub tgid: u32,
    pub requests_per_second: f64,
    pub bytes_per_second: f64,
    /// Mean requests in flight.
    pub in_flight: f64,
    pub requests_total: u64,
    pub bytes_total: u64,
}

/// One class of requests whose time is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learnt {
    /// A code of [`tracer_ebpf::record::op`].
    pub op: u16,
    /// The largest requests of the class; `None` for the last class.
    pub bytes_up_to: Option<u64>,
    pub ns: f64,
    pub samples: u64,
}

/// The kept reference of one class of a disk's requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kept {
    /// A code of [`tracer_ebpf::record::op`].
    pub op: u16,
    /// A class of [`tracer_ebpf::record::size`].
    pub class: u16,
    pub level: Level,
}
