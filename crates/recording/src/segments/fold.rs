//! Adds up a segment when its place is needed, so that sums of every second are left.
//!
//! The oldest detail goes before the oldest time. A segment that is about to be
//! overwritten is read once more, and what happened in each of its seconds is added up
//! by victim, with the owners that had most in flight and those that asked most of each
//! disk. Latencies of disks go, and so do who had the CPU, the memory and the journal.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write as _},
};

use serde::Serialize;
use tracer_engine::{
    blame::ActorId,
    tick::{DiskWork, Load, Tick},
    victim::VictimKey,
};

use crate::{
    line::{Account, Disk, Line, OwnerLine, Sync},
    reader::Reader,
    sums::{Syncs, add_accounts, rounded},
    thinning::victim,
};

/// Owners that are kept of those in flight; the others are added up as one.
const OWNERS: usize = 3;

/// A sync of this length keeps its own line.
const ALWAYS_NS: u64 = 1_000_000_000;

/// Syncs and sums of a second that are added up. With more, sums are written earlier.
const PARTS: usize = 1 << 14;

/// Syncs that took longer than this multiple of the mean have a sum of their own.
const SLOW: f64 = 3.0;

/// Lines are handed over in pieces of about this size: most of an hour of one victim.
const PIECE_BYTES: usize = 4 << 20;

/// Reads a segment up to where it can be read, and hands over pieces of lines that are
/// each to be a member of a segment of sums. All of them together are a recording.
///
/// # Errors
///
/// When the segment cannot be read at all, and what `give` says.
pub fn fold(segment: File, give: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut reader = Reader::new(segment).map_err(|damage| io::Error::other(damage.to_string()))?;
    let mut folding = Folding {
        give,
        lines: Vec::new(),
        second: HashMap::new(),
        parts: 0,
        owners: HashMap::new(),
        disks: HashMap::new(),
    };
    // A replay could not have read the rest, either.
    while let Ok(Some(line)) = reader.next_line() {
        folding.fold(line)?;
    }
    folding.put_sums()?;
    folding.hand_over()
}

struct Folding<G> {
    give: G,
    lines: Vec<u8>,
    /// Syncs since the last tick, by victim and disk, and by whether that one is a
    /// carrying one.
    second: HashMap<(VictimKey, Option<u32>, bool), Vec<Syncs>>,
    /// The number of parts in it.
    parts: usize,
    owners: HashMap<u32, OwnerLine>,
    /// Disks that were named, by their indices.
    disks: HashMap<u32, String>,
}

impl<G: FnMut(&[u8]) -> io::Result<()>> Folding<G> {
    fn fold(&mut self, line: Line) -> io::Result<()> {
        match line {
            Line::Header(header) => {
                self.put_sums()?;
                self.owners.clear();
                self.disks.clear();
                self.put("header", &header)
            }
            Line::Owner(owner) => {
                if self.owners.get(&owner.id).is_some_and(|known| *known != owner) {
                    // The sums so far are about the earlier owner of this number.
                    self.put_sums()?;
                }
                self.put("owner", &owner)?;
                self.owners.insert(owner.id, owner);
                Ok(())
            }
            Line::Identity(identity) => self.put("identity", &identity),
            Line::File(file) => self.put("file", &file),
            Line::Device(device) => self.put("device", &device),
            Line::Disk(disk) => self.name_disk(disk),
            Line::Sync(sync) if sync.duration_ns >= ALWAYS_NS => self.put("sync", &sync),
            Line::Sync(sync) => self.add(Syncs::new(&sync)),
            Line::Syncs(syncs) => self.add(syncs),
            Line::Unfinished(sync) => self.put("unfinished", &sync),
            Line::Hanging(hanging) => self.put("hanging", &hanging),
            Line::HangingLeftOut(left_out) => self.put("hanging_left_out", &left_out),
            Line::Kernel(kernel) => self.put("kernel", &kernel),
            Line::Dropped(dropped) => self.put("dropped", &dropped),
            Line::Clock(clock) => self.put("clock", &clock),
            Line::Mark(mark) => self.put("mark", &mark),
            Line::ReachedNs(at_ns) => {
                self.put_sums()?;
                self.put("reached_ns", &at_ns)
            }
            Line::Tick(Tick { at_ns, cpus, steal_ns, disks, .. }) => {
                self.put_sums()?;
                let disks = disks.into_iter().map(rounded_disk).collect();
                self.put("tick", &Tick { at_ns, cpus, steal_ns, disks, ..Tick::default() })?;
                if self.lines.len() >= PIECE_BYTES {
                    self.hand_over()?;
                }
                Ok(())
            }
            Line::End(end) => {
                self.put_sums()?;
                self.put("end", &end)
            }
            // Reports of stacks, checkpoints, and lines of later versions are not kept.
            Line::Stack(_)
            | Line::Checkpoint(_)
            | Line::CheckpointsLeftOut(_)
            | Line::Copied(_)
            | Line::Unknown => Ok(()),
        }
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if !self.lines.is_empty() {
            (self.give)(&self.lines)?;
        }
        self.lines.clear();
        Ok(())
    }

    /// A disk's names, once.
    fn name_disk(&mut self, disk: Disk) -> io::Result<()> {
        if self.disks.get(&disk.index) == Some(&disk.name) {
            return Ok(());
        }
        self.disks.insert(disk.index, disk.name.clone());
        let names = Disk { owners: Vec::new(), work: None, latencies: Vec::new(), ..disk };
        self.put("disk", &Disk { in_flight: 0, ..names })
    }

    fn add(&mut self, mut syncs: Syncs) -> io::Result<()> {
        syncs.sum.underlying.clear();
        if self.parts >= PARTS {
            self.put_sums()?;
        }
        self.parts += 1;
        let key = (victim(&syncs.sum), syncs.sum.disk, syncs.sum.carried);
        self.second.entry(key).or_default().push(syncs);
        Ok(())
    }

    /// Adds up the second: what is usual in it, and what took much longer, since a p99
    /// would be lost in one mean.
    fn put_sums(&mut self) -> io::Result<()> {
        self.parts = 0;
        let mut victims: Vec<_> = self.second.drain().map(|(_, parts)| parts).collect();
        victims.sort_by_key(|parts| parts.first().map(|part| part.sum.begin_ns));
        for parts in victims {
            let all = parts.iter().fold((0.0, 0.0), |(ns, count), part| {
                (ns + part.sum.duration_ns as f64, count + f64::from(part.count))
            });
            let is_slow = |part: &Syncs| {
                let mean_ns = part.sum.duration_ns as f64 / f64::from(part.count.max(1));
                mean_ns > SLOW * all.0 / f64::max(all.1, 1.0)
            };
            let (slow, usual): (Vec<_>, Vec<_>) = parts.into_iter().partition(is_slow);
            self.put_one(usual)?;
            self.put_one(slow)?;
        }
        Ok(())
    }

    /// One sum of many, or a few where that has no room.
    fn put_one(&mut self, parts: Vec<Syncs>) -> io::Result<()> {
        let mut parts = parts.into_iter();
        let Some(mut sum) = parts.next() else { return Ok(()) };
        for part in parts {
            if sum.has_room_for(part.count, &part.sum) {
                sum.add(part.count, &part.sum);
            } else {
                self.put_sum(std::mem::replace(&mut sum, part))?;
            }
        }
        self.put_sum(sum)
    }

    fn put_sum(&mut self, mut sum: Syncs) -> io::Result<()> {
        let Sync { in_flight, tid, fd, inode, cgroup, comm, .. } = &mut sum.sum;
        (*tid, *fd, *inode) = (0, -1, 0);
        let is_needed = |id: u32| {
            let actor = self.owners.get(&id).map(|owner| owner.actor);
            actor.is_some_and(|actor| {
                let is_own = actor.cgroup == *cgroup && actor.comm == *comm;
                is_own || ActorId::from(actor).is_journal()
            })
        };
        keep_most(in_flight, is_needed);
        self.put("syncs", &sum.rounded())
    }

    fn put(&mut self, what: &str, value: &impl Serialize) -> io::Result<()> {
        write!(self.lines, "{{\"{what}\":")?;
        serde_json::to_writer(&mut self.lines, value)?;
        self.lines.write_all(b"}\n")
    }
}

/// A disk's second with the owners that asked for most.
fn rounded_disk(mut disk: DiskWork) -> DiskWork {
    let asked = |load: &Load| u128::from(load.submitted) * u128::from(load.cost_ns);
    disk.loads.sort_by_key(|load| std::cmp::Reverse(asked(load)));
    disk.loads.truncate(OWNERS);
    for load in &mut disk.loads {
        (load.bytes, load.in_flight_ns) = (rounded(load.bytes), rounded(load.in_flight_ns));
    }
    for alone in [&mut disk.alone, &mut disk.flushes] {
        (alone.ns, alone.reference_ns) = (rounded(alone.ns), rounded(alone.reference_ns));
    }
    DiskWork { length_ns: rounded(disk.length_ns), ..disk }
}

/// Keeps those that are needed and the others with the most work in flight, and adds up
/// the rest as owner 0, which stands for all who have no account.
fn keep_most(accounts: &mut Vec<Account>, is_needed: impl Fn(u32) -> bool) {
    let work = |(_, ticks, weight_ns): &Account| u128::from(*ticks) * u128::from(*weight_ns);
    accounts.sort_by_key(|account| std::cmp::Reverse((is_needed(account.0), work(account))));
    let needed = accounts.iter().filter(|account| is_needed(account.0)).count();
    let rest = accounts.split_off(accounts.len().min(needed + OWNERS));
    // Owner 0 may be among those that are kept.
    let rest: Vec<_> = rest
        .into_iter()
        .filter(|account| account.1 > 0)
        .map(|(_, ticks, ns)| (0, ticks, ns))
        .collect();
    add_accounts(accounts, &rest);
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use super::*;

    #[test]
    fn a_mark_stays_as_it_is() {
        let mark = "{\"mark\":{\"at_ns\":5,\"text\":\"stopped it\",\"uid\":7}}\n";
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(mark.as_bytes()).unwrap();
        file.rewind().unwrap();
        let mut kept = Vec::new();
        fold(file, |lines| {
            kept.extend_from_slice(lines);
            Ok(())
        })
        .unwrap();
        assert_eq!(kept, mark.as_bytes());
    }

    #[test]
    fn an_owner_stands_in_a_list_once() {
        // Owner 0 has most of the work, so it is kept; 3 and 4 are added to it.
        let mut accounts = vec![(1, 50, 10), (0, 100, 10), (2, 40, 10), (3, 20, 10), (4, 10, 40)];
        keep_most(&mut accounts, |id| id == 3);
        // Needed: 3. Most work: 0 (1,000), 1 (500), 2 and 4 (400 each, in their order).
        assert_eq!(accounts, [(3, 20, 10), (0, 110, 12), (1, 50, 10), (2, 40, 10)]);
    }

    #[test]
    fn those_that_are_not_kept_become_owner_0() {
        let mut accounts = vec![(1, 50, 10), (2, 40, 10), (3, 30, 10), (4, 10, 20), (5, 30, 0)];
        keep_most(&mut accounts, |_| false);
        assert_eq!(accounts, [(1, 50, 10), (2, 40, 10), (3, 30, 10), (0, 40, 5)]);
    }
}
