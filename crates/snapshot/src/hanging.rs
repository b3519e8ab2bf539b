//! Syncs that have begun and not ended.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{Actor, FileClass, Kind, Op, StackFact};

/// A sync that has not ended, at least a second after it began.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Hanging {
    pub schema: u32,
    /// When it was looked at, in Unix seconds.
    pub at: f64,
    pub actor: Actor,
    pub tid: u32,
    /// The way of syncing, such as `fdatasync`.
    pub call: Cow<'static, str>,
    #[serde(rename = "file_class")]
    pub class: FileClass,
    pub path: String,
    /// The filesystem's device, as in a victim.
    pub device: String,
    /// Since it began.
    pub seconds: f64,
    /// Its cause, as far as that can be known while it lasts: the device, others on
    /// it, no disk of this node, or nothing that is seen.
    pub kind: Kind,
    /// The disk that it waits for; absent where none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<HangingDisk>,
    /// The disks below that one which have requests in flight, the one that is silent
    /// for longest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks_below: Vec<HangingDisk>,
    /// Facts that the disks of its stack say of themselves, if they are not well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<StackFact>,
    /// Others whose requests were in flight on the disk meanwhile, the most work
    /// first.
    pub others: Vec<Competitor>,
}

/// The disk of a hanging sync, as it was when it was looked at.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HangingDisk {
    pub name: String,
    pub in_flight: u64,
    /// Age of its oldest request in flight.
    pub oldest_seconds: Option<f64>,
    /// Since it completed a request; `null` where it has completed none.
    pub completed_seconds_ago: Option<f64>,
}

/// Somebody with requests on the disk of a hanging sync.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Competitor {
    pub actor: Actor,
    pub op: Op,
    /// A part of all others' work in flight meanwhile.
    pub share: f64,
}
