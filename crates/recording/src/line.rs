//! The lines of a recording, and what they are made from.
//!
//! Each is an object with one key, which says of what kind it is. All times are kernel
//! monotonic nanoseconds, all lengths nanoseconds, all sizes bytes.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use tracer_ebpf::{
    record::{ACCOUNTS, COMM, NO_DISK, OwnerKey, SyncRecord, via},
    sync_record_fields,
};

use super::{checkpoint::Checkpoint, comm::Comm, sums::Syncs};
use tracer_engine::{
    blame::{ActorId, Owner, OwnerId},
    tick::Tick,
};
use tracer_scene::{Stack, snapshot::KINDS};
use tracer_snapshot::{Actor, FileClass, Hanging, Kernel, Op, clock::Clock};

/// Declares the kinds of lines. The key of a line is its kind in snake_case, and its value
/// has the type in parentheses.
macro_rules! lines {
    ($($(#[$doc:meta])* $kind:ident($of:ty),)+) => {
        /// A line of a recording.
        #[derive(Debug)]
        pub enum Line {
            $($(#[$doc])* $kind($of),)+
            /// A line of a later version, which is skipped.
            Unknown,
        }

        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Key {
            $($kind,)+
            #[serde(other)]
            Unknown,
        }

        impl<'de> Visitor<'de> for LineVisitor {
            type Value = Line;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one key")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut keys: A) -> Result<Line, A::Error> {
                let mut line = Line::Unknown;
                while let Some(key) = keys.next_key()? {
                    let next = match key {
                        $(Key::$kind => Line::$kind(keys.next_value()?),)+
                        Key::Unknown => {
                            keys.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    if !matches!(line, Line::Unknown) {
                        return Err(A::Error::custom("one line is of two kinds"));
                    }
                    line = next;
                }
                Ok(line)
            }
        }
    };
}

lines! {
    Header(Header),
    Owner(OwnerLine),
    Identity(Identity),
    File(File),
    Device(Device),
    Disk(Disk),
    Sync(Sync),
    Syncs(Syncs),
    /// A sync that has not ended at the tick that follows, as if it ended there.
    Unfinished(Sync),
    /// Boxed, as it is larger than all other kinds.
    Hanging(Box<Hanging>),
    HangingLeftOut(usize),
    Stack(Stack),
    Kernel(Kernel),
    Dropped(BTreeMap<String, u64>),
    Clock(Clock),
    Mark(Mark),
    /// All syncs that ended before this moment are in the lines before it; written where a
    /// second is not over.
    ReachedNs(u64),
    /// Boxed, as above.
    Checkpoint(Box<Checkpoint>),
    CheckpointsLeftOut(usize),
    Tick(Tick),
    Copied(Copied),
    End(End),
}

struct LineVisitor;

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LineVisitor)
    }
}

/// The fields with which the header of every version begins: format and version.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Stamp {
    pub format: String,
    pub version: u32,
}

/// The first line.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Header {
    pub format: String,
    pub version: u32,
    /// Version of the tracer that recorded.
    #[serde(default)]
    pub tracer: String,
    pub started_ns: u64,
    pub clock: Clock,
    #[serde(default)]
    pub kernel: Kernel,
    /// Why it begins here; absent where somebody asked for a recording of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Began>,
    /// The kernel's id of this boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

/// Why a part of a flight recorder's recording begins, and what was lost before it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Began {
    /// The tracer was started.
    Start,
    /// The segment before was full: nothing was lost.
    Rotation,
    /// The disk of the recording was too slow.
    Slow,
    /// The filesystem of the recording had too little left.
    Full,
    /// The recording could not be written.
    Failure,
    /// A later version knows why.
    #[serde(other)]
    Unknown,
}

/// The owner for which a number stands, until the number is given to another.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct OwnerLine {
    pub id: u32,
    #[serde(flatten)]
    pub actor: ActorName,
    pub op: Op,
    /// A code of [`tracer_ebpf::record::via`].
    #[serde(default, skip_serializing_if = "is_direct")]
    pub via: u8,
}

fn is_direct(via: &u8) -> bool {
    *via == via::DIRECT
}

/// An actor, as syncs and owners name it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ActorName {
    /// cgroup v2 id; 0 for a kernel thread.
    pub cgroup: u64,
    pub comm: Comm,
    pub kthread: bool,
}

impl From<ActorId> for ActorName {
    fn from(actor: ActorId) -> Self {
        let ActorId { cgroup, comm, kthread } = actor;
        Self { cgroup, comm: Comm(comm), kthread }
    }
}

impl From<ActorName> for ActorId {
    fn from(name: ActorName) -> Self {
        Self { cgroup: name.cgroup, comm: name.comm.0, kthread: name.kthread }
    }
}

impl OwnerLine {
    /// `None` for an operation that this version does not know.
    pub fn of_key(id: OwnerId, key: &OwnerKey) -> Option<Self> {
        let OwnerKey { cgroup, comm, kthread, op, via, .. } = *key;
        let actor = ActorId { cgroup, comm, kthread: kthread != 0 };
        Some(Self { id: id.0, actor: actor.into(), op: Op::of_code(op)?, via })
    }

    /// `None` for an operation that this version does not know.
    pub fn of_owner(owner: &Owner) -> Option<Self> {
        let op = Op::of_code(owner.op)?;
        Some(Self { id: owner.id.0, actor: owner.actor().into(), op, via: owner.via })
    }
}

/// The names of an actor.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Identity {
    #[serde(flatten)]
    pub id: ActorName,
    pub actor: Actor,
}

/// The file for which a number stands.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct File {
    pub id: u32,
    #[serde(rename = "file_class")]
    pub class: FileClass,
    pub path: String,
    pub device: u32,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Device {
    pub device: u32,
    pub name: String,
}

/// A disk in the second before the tick that follows.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Disk {
    pub index: u32,
    pub name: String,
    /// The name by which people know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_as: Option<String>,
    pub scheduler: String,
    pub in_flight: u64,
    pub owners: Vec<DiskOwner>,
    /// The times that requests take alone; absent if nothing was learnt since the
    /// disk's last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Vec<AloneTime>>,
    /// When its kept reference was last seen to hold, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_at: Option<f64>,
    /// The part of its requests, in the last minute or so, that are in no owner's
    /// counts.
    #[serde(default)]
    pub uncounted_share: f64,
    /// Requests that ended since the disk's last line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latencies: Vec<Latency>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct DiskOwner {
    pub owner: u32,
    pub tgid: u32,
    pub requests_per_second: f64,
    pub bytes_per_second: f64,
    pub in_flight: f64,
    pub requests_total: u64,
    pub bytes_total: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct AloneTime {
    pub op: Op,
    pub bytes_up_to: Option<u64>,
    pub ns: f64,
    pub samples: u64,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Latency {
    pub op: Op,
    #[serde(default)]
    pub bytes: u64,
    /// Bucket and count.
    pub queue: Vec<(u32, u64)>,
    pub device: Vec<(u32, u64)>,
}

/// One account that had requests in flight during a sync: its owner, the
/// time-integral in ticks of 256 ns, and what one of its requests costs, in ns.
pub type Account = (u32, u64, u32);

/// A record's field in the form that a recording has it in.
trait Field<Raw> {
    fn of(raw: Raw) -> Self;
    fn raw(&self) -> Raw;
}

impl<T: Copy> Field<T> for T {
    fn of(raw: T) -> T {
        raw
    }

    fn raw(&self) -> T {
        *self
    }
}

/// `None` where the sync was never seen on one.
impl Field<u32> for Option<u32> {
    fn of(disk: u32) -> Self {
        (disk != NO_DISK).then_some(disk)
    }

    fn raw(&self) -> u32 {
        self.unwrap_or(NO_DISK)
    }
}

impl Field<u32> for Kind {
    fn of(code: u32) -> Self {
        Self(code)
    }

    fn raw(&self) -> u32 {
        self.0
    }
}

impl Field<u8> for bool {
    fn of(flag: u8) -> Self {
        flag != 0
    }

    fn raw(&self) -> u8 {
        u8::from(*self)
    }
}

impl Field<[u8; COMM]> for Comm {
    fn of(comm: [u8; COMM]) -> Self {
        Self(comm)
    }

    fn raw(&self) -> [u8; COMM] {
        self.0
    }
}

/// The type of a field, by its form in [`sync_record_fields`].
macro_rules! field {
    (disk $type:ty) => { Option<$type> };
    (kind $type:ty) => { Kind };
    (flag $type:ty) => { bool };
    (comm $type:ty) => { Comm };
    ($other:ident $type:ty) => { $type };
}

/// Takes over a field's value, if it is written at all.
macro_rules! written {
    (hidden $value:expr) => {{
        let _ = $value;
        0
    }};
    ($other:ident $value:expr) => {
        Field::of($value)
    };
}

/// The longest length of time in a field.
macro_rules! longest {
    (length $ns:expr) => {
        $ns
    };
    (lengths $ns:expr) => {
        $ns.into_iter().fold(0, u64::max)
    };
    ($other:ident $value:expr) => {
        0
    };
}

macro_rules! define {
    ($($(#[$doc:meta])* $name:ident: $type:ty as $form:ident $(, $serde:meta)?;)+) => {
        /// A sync: the kernel's record, and who had requests in flight meanwhile.
        #[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
        pub struct Sync {
            $($(#[$doc])* $(#[$serde])? pub $name: field!($form $type),)+
            /// The time that its own requests would take alone, one after another.
            #[serde(default)]
            pub need_ns: u64,
            pub file: u32,
            pub in_flight: Vec<Account>,
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub underlying: Vec<Underlying>,
        }

        impl Sync {
            /// Takes over all of a record but its accounts.
            pub fn set_record(&mut self, record: &SyncRecord) {
                let SyncRecord { $($name,)+ integrals: _ } = *record;
                $(self.$name = written!($form $name);)+
            }

            /// The record, with the accounts in the order in which they are written.
            pub fn record(&self) -> SyncRecord {
                SyncRecord { $($name: self.$name.raw(),)+ integrals: integrals(&self.in_flight) }
            }

            /// The longest of all lengths of time in it.
            pub fn longest_ns(&self) -> u64 {
                self.need_ns$(.max(longest!($form self.$name)))+
            }
        }
    };
}

sync_record_fields!(define);

/// The requests in flight on a further disk.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Underlying {
    pub disk: u32,
    pub in_flight: Vec<Account>,
}

/// A way to sync, by its name.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "String", into = "&'static str")]
pub struct Kind(pub u32);

impl From<String> for Kind {
    fn from(name: String) -> Self {
        Self(KINDS.iter().position(|kind| *kind == name).unwrap_or(KINDS.len()) as u32)
    }
}

impl From<Kind> for &'static str {
    fn from(kind: Kind) -> Self {
        KINDS.get(kind.0 as usize).copied().unwrap_or("unknown")
    }
}

/// The last line.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct End {
    pub at_ns: u64,
    pub syncs: u64,
}

/// Something that somebody did or saw, in their own words, or that the tracer saw.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Mark {
    /// In the recorded kernel's time.
    pub at_ns: u64,
    pub text: String,
    /// The id of the user who set it.
    pub uid: u32,
    /// Whether the tracer noticed it by itself; then `uid` has no meaning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seen: bool,
}

/// The last line of a copy: the recording itself may go on.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Copied {
    /// The time that was asked for, in Unix seconds.
    pub from: f64,
    pub to: f64,
}

impl Sync {
    pub fn end_ns(&self) -> u64 {
        self.begin_ns.saturating_add(self.duration_ns)
    }
}

/// Sets the accounts that had requests in flight. An integral that is not above 0 is left
/// out.
pub fn set_accounts(to: &mut Vec<Account>, integrals: &[u64], owners: &[Owner; ACCOUNTS]) {
    to.clear();
    let accounts = integrals.iter().zip(owners).filter(|(integral, _)| integral.cast_signed() > 0);
    to.extend(accounts.map(|(integral, owner)| (owner.id.0, *integral, owner.weight_ns)));
}

/// The integrals by account.
pub fn integrals(accounts: &[Account]) -> [u64; ACCOUNTS] {
    let mut integrals = [0; ACCOUNTS];
    for (integral, (_, ticks, _)) in integrals.iter_mut().zip(accounts) {
        *integral = *ticks;
    }
    integrals
}
