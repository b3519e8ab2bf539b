//! The node's block devices, and their places in the kernel programs' tables.
//!
//! sysfs goes in, [`Disk`]s as the kernel programs want them come out. Each disk
//! has an index in the ledger, and one of few tags has slots of its own in the
//! table of requests in flight; disks without a queue of requests (dm, md, zram:
//! they only pass bios on) get neither. The `carrying` ones among them have an index
//! all the same, since their bios are followed. Disks for which the ledger has no room are
//! returned by name, to be shown. Nothing here touches a map.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};
use tracer_ebpf::{
    places,
    record::{Disk, NO_DISK, UNDERLYING},
};

use crate::{
    devices,
    tree::{Tree, number, text},
};

mod carrying;
mod hidden;
mod key;
mod known;
mod layers;
mod queue;
mod replaced;
mod stacks;
mod state;

pub use hidden::{Hidden, has_hidden};
pub use key::{Key, Named, boot_id};
pub use known::known_as;
pub use layers::Layers;
pub use queue::Queues;
pub use replaced::{Identity, have_changed};
pub use stacks::{Stacked, connect, find_stacked};
pub use state::StackStates;

/// A disk that needs more slots than this has none of its own: 8 queues of 1023
/// tags need as many.
const MAX_OWN_SLOTS: u32 = 8 * 1025;

/// Slots of their own that all disks together may have: 8 MiB.
const MAX_OWN_SLOTS_OF_ALL: u32 = 1 << 17;

/// Room in the ledger for disks that are attached later. A node of a cloud takes
/// up to 128 volumes, and a disk's place is given away once the disk is gone.
const SPARE_DISKS: u32 = 240;

/// Disks that are followed at most.
const MAX_DISKS: u32 = 4096;

/// The least number of requests that a queue has while it has a scheduler, unless it is
/// configured otherwise: a scheduler may be chosen after we looked.
const MIN_TAGS: u32 = 256;

/// The kernel's own default where a driver says nothing.
const DEFAULT_TAGS: u32 = 128;

/// Disks of one stack that are looked at, at most; no stack that was seen has as many.
const MAX_MEMBERS: usize = 64;

/// The unit of sizes in sysfs, whatever the disk's own sectors are.
const SECTOR_BYTES: u64 = 512;

/// Tags are rounded up to this, so that a small change needs no other slots.
const TAGS_STEP: u32 = 64;

/// A whole disk, as sysfs describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BlockDisk {
    pub name: String,
    /// As the kernel numbers it.
    pub device: u32,
    /// Whether no file of its own says its number.
    pub is_hidden: bool,
    /// `None` where it is gone before it was read.
    pub identity: Option<Identity>,
    /// 0 for one that nothing is behind yet, such as an unused loop device.
    pub size_bytes: u64,
    /// Whether a device with a driver is behind it; loop, dm, md have none.
    pub hardware: bool,
    /// Hardware queues; 0 for a disk that has no requests of its own.
    pub queues: u32,
    /// Whether its bios stand for requests: kernel threads submit those below it.
    pub carries: bool,
    /// Tags per hardware queue.
    pub nr_tags: u32,
    /// Tags per hardware queue while it has a scheduler.
    pub nr_requests: u32,
    /// `none`, `mq-deadline`, …; empty where there is none to choose.
    pub scheduler: String,
    pub iostats: bool,
    /// 0 where it takes no discards.
    pub discard_granularity_bytes: u64,
}

impl BlockDisk {
    /// Whether it can have requests of its own, or bios that stand for them.
    pub fn has_requests(&self) -> bool {
        (self.queues > 0 || self.carries) && self.size_bytes > 0
    }

    /// Tags of one hardware queue that it may come to use.
    fn tags(&self) -> u32 {
        self.nr_tags.max(self.nr_requests).max(MIN_TAGS)
    }

    /// Own slots per hardware queue: one for each tag, and one for the flush
    /// machinery, whose requests borrow tags. `None` for a disk with too many tags to
    /// have slots of its own.
    fn own_depth(&self) -> Option<u32> {
        let depth = self.tags().checked_next_multiple_of(TAGS_STEP)?.checked_add(1)?;
        (depth.checked_mul(self.queues)? <= MAX_OWN_SLOTS).then_some(depth)
    }
}

/// A disk, its index in the ledger, and its own slots in the table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Assigned {
    pub name: String,
    pub device: u32,
    /// `None` while it is gone: then its number means nothing, its name is empty
    /// once another disk has it, and its place may be given away.
    pub identity: Option<Identity>,
    pub disk: Disk,
    /// Slots from `disk.base` on that are its own, whether it uses them or not.
    slots: u32,
}

impl Assigned {
    /// Whether its bios stand for requests.
    pub fn carries(&self) -> bool {
        self.disk.depth == Disk::CARRIES
    }

    /// Gives the place to another disk, or to the same one as it is now. Where it
    /// needs more slots than it has, it gets them from `end` on, if there is room.
    fn take_over(&mut self, disk: &BlockDisk, end: u32, room: &Room) {
        let (queues, depth) = disk.own_depth().map_or((0, 0), |depth| (disk.queues, depth));
        let slots = queues * depth;
        let (mut base, mut own) = (self.disk.base, self.slots);
        if slots > own && slots <= room.own_slots.saturating_sub(end) {
            (base, own) = (end, slots);
        }
        let (queues, depth) = if slots <= own { (queues, depth) } else { (0, 0) };
        let (queues, depth) = if disk.carries { (0, Disk::CARRIES) } else { (queues, depth) };
        let underlying = [NO_DISK; UNDERLYING];
        let place = Disk { base, queues, depth, underlying, ..self.disk };
        let (name, identity) = (disk.name.clone(), disk.identity.clone());
        *self = Self { name, device: disk.device, identity, disk: place, slots: own };
    }
}

/// How much room there is in the kernel programs' tables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Room {
    /// Disks that the ledger holds.
    pub disks: u32,
    /// Slots of requests in flight that disks may have for their own. They come first.
    pub own_slots: u32,
    /// Slots of requests in flight that all other disks share, a power of two.
    pub shared_slots: u32,
}

impl Room {
    /// Requests that can be in flight at one time, over all disks.
    pub fn slots(&self) -> u32 {
        self.own_slots + self.shared_slots
    }

    /// Enough for the disks that are there, and for many that may be attached later.
    pub fn of(disks: &[BlockDisk]) -> Self {
        let disks: Vec<_> = disks.iter().filter(|disk| disk.has_requests()).collect();
        let (mut own, mut other_tags) = (0, 0_u64);
        for disk in &disks {
            match disk.own_depth().map(|depth| depth * disk.queues) {
                Some(slots) if own + slots <= MAX_OWN_SLOTS_OF_ALL => own += slots,
                _ => {
                    let tags = u64::from(disk.queues) * u64::from(disk.tags());
                    other_tags = other_tags.saturating_add(tags);
                }
            }
        }
        let disks = u32::try_from(disks.len()).unwrap_or(MAX_DISKS).min(MAX_DISKS);
        Self {
            disks: disks + SPARE_DISKS,
            own_slots: own,
            shared_slots: places::shared_for(other_tags),
        }
    }
}

/// Reads all disks of the node, by name.
pub fn scan(queues: &Queues, hidden: &Hidden) -> Result<Vec<BlockDisk>> {
    let tree = queues.tree();
    let directory = tree.at("sys/block");
    let entries = fs::read_dir(&directory).with_context(|| {
        format!("failed to list the disks in `{}` (is sysfs mounted?)", directory.display())
    })?;
    let mut disks = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("failed to list `{}`", directory.display()))?;
        // One that is being removed has no files any more.
        disks.extend(entry.file_name().to_str().and_then(|name| read(queues, name, hidden)));
    }
    // A number that a file says is no longer a hidden disk's.
    let said: BTreeSet<_> = disks.iter().filter(|disk| !disk.is_hidden).map(|d| d.device).collect();
    disks.retain(|disk| !disk.is_hidden || !said.contains(&disk.device));
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(disks)
}

/// Gives each disk that can have requests a place, where it does not have one
/// yet, and returns the names of those for which there is no room. Hardware comes
/// first: hundreds of loop devices shall not keep it out.
///
/// A place is kept until its disk is gone. The next one of that name gets it, and,
/// once there is no other, any new one.
pub fn assign(assigned: &mut Vec<Assigned>, disks: &[BlockDisk], room: &Room) -> Vec<String> {
    let mut left_out = Vec::new();
    for at in 0..assigned.len() {
        let end = end(assigned);
        let known = &mut assigned[at];
        if known.identity.is_none() {
            continue;
        }
        match disks.iter().find(|disk| disk.device == known.device) {
            None => known.identity = None,
            // Device mapper may have been given another table for it.
            Some(disk) if known.carries() && !disk.carries => known.identity = None,
            Some(disk) if disk.identity == known.identity => {}
            Some(disk) if disk.name != known.name => known.identity = None,
            Some(disk) if disk.has_requests() => known.take_over(disk, end, room),
            // A loop device that has lost its file; it has requests again with the next
            // file.
            Some(disk) => known.identity.clone_from(&disk.identity),
        }
    }
    let mut disks: Vec<_> = disks.iter().filter(|disk| disk.has_requests()).collect();
    disks.sort_by_key(|disk| !disk.hardware && !disk.carries);
    for disk in disks {
        let is_there = |known: &Assigned| known.identity.is_some() && known.device == disk.device;
        if !assigned.iter().any(is_there) && !find_place(assigned, disk, room) {
            left_out.push(disk.name.clone());
        }
    }
    for at in 0..assigned.len() {
        let is_its = |other: &Assigned| other.identity.is_some() && other.name == assigned[at].name;
        if assigned[at].identity.is_none() && assigned.iter().any(is_its) {
            assigned[at].name.clear();
        }
    }
    left_out
}

/// The end of the slots that were given to disks.
fn end(assigned: &[Assigned]) -> u32 {
    let ends = assigned.iter().map(|known| known.disk.base + known.slots);
    ends.max().unwrap_or(0)
}

fn find_place(assigned: &mut Vec<Assigned>, disk: &BlockDisk, room: &Room) -> bool {
    let base = end(assigned);
    let named =
        assigned.iter().position(|known| known.identity.is_none() && known.name == disk.name);
    let index = assigned.len() as u32;
    if named.is_none() && index < room.disks {
        let place = Disk { index, base, queues: 0, depth: 0, underlying: [NO_DISK; UNDERLYING] };
        let (name, device) = (disk.name.clone(), disk.device);
        assigned.push(Assigned { name, device, identity: None, disk: place, slots: 0 });
    }
    let fresh = (index < room.disks).then_some(assigned.len() - 1);
    let gone = || assigned.iter().position(|known| known.identity.is_none());
    let Some(at) = named.or(fresh).or_else(gone) else { return false };
    assigned[at].take_over(disk, base, room);
    true
}

/// Reads and writes that a disk has in flight by the kernel's own count.
pub fn inflight(root: &Path, name: &str) -> Option<(u64, u64)> {
    let line = Tree::new(root).read_line(format!("sys/block/{name}/inflight"))?;
    let mut counts = line.split_ascii_whitespace().map(str::parse);
    Some((counts.next()?.ok()?, counts.next()?.ok()?))
}

/// Requests that have completed on a disk since it appeared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Completed {
    /// Reads, writes, discards and flushes, as far as the kernel counts them.
    pub all: u64,
    /// The flushes among them.
    pub flushes: u64,
}

/// Counts the requests that completed on a disk. `None` where the kernel counts none, or does not say.
pub fn completed(queues: &Queues, name: &str) -> Option<Completed> {
    let tree = queues.tree();
    let [iostats] = queues.lines(name, ["iostats"])?;
    if iostats?.trim() != "1" {
        return None;
    }
    let line = tree.read_line(format!("sys/block/{name}/stat"))?;
    let fields: Vec<u64> =
        line.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    // The fields of <https://elixir.bootlin.com/linux/v6.12/source/Documentation/block/stat.rst>;
    // those of discards came with 4.18, those of flushes with 5.5.
    let flushes = fields.get(15).copied().unwrap_or(0);
    let all = [0, 4, 11].iter().filter_map(|&at| fields.get(at)).sum::<u64>() + flushes;
    Some(Completed { all, flushes })
}

/// The IO scheduler that a disk has now; empty where there is none to choose, or the
/// queue does not answer.
pub fn scheduler(queues: &Queues, name: &str) -> String {
    let line = queues.lines(name, ["scheduler"]).and_then(|[line]| line);
    line.map(chosen).unwrap_or_default()
}

/// Whether the issues of a disk's requests must be seen: where its queue notes
/// none, and where it has a scheduler, since nothing else distinguishes a request that
/// waits there from one whose end was missed. A queue keeps statistics, and so notes in
/// each request when it was given to the driver, where writeback throttling has it do so;
/// others may too, and the kernel does not say which.
pub fn needs_issues(queues: &Queues, name: &str) -> bool {
    let lines = queues.lines(name, ["scheduler", "wbt_lat_usec"]);
    let Some([scheduler, wbt]) = lines else { return false };
    let wbt = wbt.and_then(|line| line.trim().parse().ok());
    match scheduler.map(chosen).unwrap_or_default().as_str() {
        "none" => wbt.is_none_or(|usec: i64| usec <= 0),
        // The disk is gone.
        "" => false,
        _ => true,
    }
}

fn read(queues: &Queues, name: &str, hidden: &Hidden) -> Option<BlockDisk> {
    let tree = queues.tree();
    let file = |path: &str| format!("sys/block/{name}/{path}");
    // The identity is read first: if the disk is replaced while the rest is read, the next
    // look finds that it is another.
    let identity = Identity::read(tree, name);
    let said = tree.read_line(file("dev"));
    let device = match &said {
        Some(device) => devices::parse(device.trim().as_bytes())?,
        None => {
            hidden.device(name, identity.as_ref()).or_else(|| read_hidden_device(tree, name))?
        }
    };
    let queue::Hardware { queues: count, tags } = queues.hardware(name).ok()?;
    let attributes = ["nr_requests", "scheduler", "iostats", "discard_granularity"];
    // A disk that does not answer is followed with defaults.
    let [nr_requests, scheduler, iostats, granularity] =
        queues.lines(name, attributes).unwrap_or_default();
    let number = |line: Option<String>| line?.trim().parse::<u64>().ok();
    Some(BlockDisk {
        name: name.to_owned(),
        device,
        is_hidden: said.is_none(),
        identity,
        size_bytes: tree.read_number(file("size")).unwrap_or(0).saturating_mul(SECTOR_BYTES),
        hardware: tree.at(file("device")).exists(),
        queues: count,
        carries: count == 0 && carrying::carries(tree, name, device),
        nr_tags: tags.unwrap_or(DEFAULT_TAGS),
        nr_requests: number(nr_requests).map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX)),
        scheduler: scheduler.map(chosen).unwrap_or_default(),
        iostats: number(iostats) == Some(1),
        discard_granularity_bytes: number(granularity).unwrap_or(0),
    })
}

/// From Linux 6.1 on diskstats has the numbers of [`hidden`] disks (diskstats_show,
/// <https://elixir.bootlin.com/linux/v6.1/source/block/genhd.c>).
fn read_hidden_device(tree: &Tree, name: &str) -> Option<u32> {
    let diskstats = tree.read_up_to("proc/diskstats", 1 << 20).ok()?;
    diskstats.split(|&b| b == b'\n').find_map(|line| {
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let (major, minor) = (number(fields.next()?)?, number(fields.next()?)?);
        let device = devices::join(major, minor);
        (fields.next()? == name.as_bytes() && device != 0).then_some(device)
    })
}

/// The scheduler in brackets, as in `none [mq-deadline] kyber`; a single word needs none.
pub(crate) fn chosen(schedulers: String) -> String {
    let in_brackets = schedulers.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    let scheduler = in_brackets.map_or(schedulers.as_str(), |(scheduler, _)| scheduler).trim();
    text(scheduler.as_bytes(), 64)
}

#[cfg(test)]
mod tests;
