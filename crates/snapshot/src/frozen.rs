//! Filesystems that are frozen now, and who waits to write to them.

use serde::Serialize;

use crate::{Actor, FileClass};

/// A process that syncs files of a filesystem, and waits to write to it: somebody keeps it frozen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Frozen {
    pub schema: u32,
    /// When it was looked at, in Unix seconds.
    pub at: f64,
    pub actor: Actor,
    /// One of its files there, a log if it has one.
    #[serde(rename = "file_class")]
    pub class: FileClass,
    pub path: String,
    /// The filesystem's device, as in a victim.
    pub device: String,
    /// Since it was frozen; where that was not seen, since the process was seen to wait.
    pub seconds: f64,
    /// The actor that froze it; `null` where that is not known.
    pub by: Option<Actor>,
}
