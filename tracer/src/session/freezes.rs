//! Filesystems that somebody has frozen, and the victims' processes that wait for the thaw; and
//! those that somebody has written as a whole.
//!
//! A freeze may begin unseen: on a filesystem without a hook where nothing was dirty, or before the
//! tracer came. Then only those who wait show it. So threads are looked at while a process that
//! synced all the time has ended no sync for a second, and one that waits at two looks in
//! succession waits for a thaw.

use std::collections::{BTreeMap, BTreeSet};

use tracer_ebpf::{
    pid,
    record::{NO_DISK, whole},
};
use tracer_engine::{
    blame::OwnerId,
    tick::{Freeze, WholeCall, WholeSync},
    victim::Victim,
};
use tracer_node::{frozen, tree::Tree};

use super::Session;

/// Processes that are looked at for one filesystem, and for all freezes that began unseen.
const PROCESSES: usize = 16;

/// A process is looked at while its last sync ended this long ago, if it ended this many before.
const SILENT_NS: u64 = 1_000_000_000;
const GONE_NS: u64 = 6_000_000_000;
const SYNCS: u64 = 20;

/// A victim's process, and the filesystem of its files.
type There = (u32, u32);

/// Freezes that nobody was seen to begin, and what was not looked at.
#[derive(Debug, Default)]
pub struct Unseen {
    /// The thread that waits, and since which look.
    waiting: BTreeMap<There, (u32, u64)>,
    pub left_out: u64,
}

impl Session {
    /// Reads the freezes that last or ended since the last tick. Processes are looked at only while
    /// a filesystem on which somebody syncs is frozen, or may be.
    pub(super) fn read_freezes(&mut self, now: u64) -> Vec<Freeze> {
        let mut freezes = self.freezes.read(&mut self.accounts);
        let Self { unseen, scene, root, .. } = self;
        let tree = Tree::new(&*root);
        let victims = scene.engine.victims();
        for freeze in freezes.iter_mut().filter(|freeze| freeze.until_ns == 0) {
            let there = victims.iter().filter(|v| v.key.device == freeze.device && !v.kthread);
            let tgids: BTreeSet<u32> = there.map(|victim| victim.tgid).collect();
            unseen.left_out += tgids.len().saturating_sub(PROCESSES) as u64;
            let waiting = tgids.into_iter().take(PROCESSES);
            freeze.waiting = waiting.filter(|tgid| unseen.look(&tree, *tgid).is_some()).collect();
        }
        let is_known = |device| {
            let mut known = freezes.iter();
            known.any(|freeze| freeze.device == device && freeze.until_ns == 0)
        };
        let silent = silent(victims.iter().map(AsRef::as_ref), now, |there| {
            unseen.waiting.contains_key(there)
        });
        let unknown = silent.into_iter().filter(|(device, _)| !is_known(*device)).collect();
        freezes.extend(unseen.find(&tree, unknown, now));
        freezes
    }

    /// Reads the whole filesystems that somebody has written now, or had since the last tick.
    pub(super) fn read_whole_syncs(&mut self, now: u64) -> Vec<WholeSync> {
        let Self { whole_syncs, accounts, assigned, root, .. } = self;
        let tree = Tree::new(&*root);
        let read = whole_syncs.read(now, |tid| frozen::waits_in_kernel(&tree, pid::here(tid)));
        let found = read.into_iter().map(|(sync, until_ns)| {
            let mut disks = assigned.iter().filter(|disk| disk.identity.is_some());
            let its = disks.find(|disk| disk.device == sync.disk_device && disk.device != 0);
            WholeSync {
                device: sync.device,
                disk: its.map_or(NO_DISK, |disk| disk.disk.index),
                owner: accounts.intern(sync.key),
                call: match sync.call {
                    whole::UMOUNT => WholeCall::Umount,
                    whole::FREEZE => WholeCall::Freeze,
                    _ => WholeCall::Other,
                },
                since_ns: sync.since_ns,
                until_ns,
            }
        });
        found.collect()
    }
}

/// The processes that synced all the time and have ended no sync for a second, on each filesystem;
/// and those of which that was so before, for as long as they end none.
fn silent<'a>(
    victims: impl Iterator<Item = &'a Victim>,
    now: u64,
    was: impl Fn(&There) -> bool,
) -> Vec<There> {
    let mut last: BTreeMap<There, (u64, u64)> = BTreeMap::new();
    for victim in victims.filter(|victim| !victim.kthread && pid::here(victim.tgid) != 0) {
        let known = last.entry((victim.key.device, victim.tgid)).or_default();
        *known = (known.0.max(victim.last_ns), known.1 + victim.syncs_total);
    }
    let is_silent = |(there, (last_ns, syncs)): &(There, (u64, u64))| {
        let silent_ns = now.saturating_sub(*last_ns);
        silent_ns >= SILENT_NS && (was(there) || silent_ns < GONE_NS && *syncs >= SYNCS)
    };
    last.into_iter().filter(is_silent).map(|(there, _)| there).collect()
}

impl Unseen {
    /// The thread of a process that waits for a thaw.
    fn look(&mut self, tree: &Tree, tgid: u32) -> Option<u32> {
        let look = frozen::look_for_thaw(tree, pid::here(tgid));
        self.left_out += look.left_out;
        look.waiting
    }

    /// Finds which of these processes have waited since the look before, by filesystem.
    fn find(&mut self, tree: &Tree, there: Vec<There>, now: u64) -> Vec<Freeze> {
        self.left_out += there.len().saturating_sub(PROCESSES) as u64;
        let before = std::mem::take(&mut self.waiting);
        let mut freezes: Vec<Freeze> = Vec::new();
        for one in there.into_iter().take(PROCESSES) {
            let (device, tgid) = one;
            let Some(tid) = self.look(tree, tgid) else { continue };
            let Some(&(_, since_ns)) = before.get(&one).filter(|known| known.0 == tid) else {
                self.waiting.insert(one, (tid, now));
                continue;
            };
            self.waiting.insert(one, (tid, since_ns));
            match freezes.iter_mut().find(|freeze| freeze.device == device) {
                Some(freeze) => {
                    freeze.since_ns = freeze.since_ns.min(since_ns);
                    freeze.waiting.push(tgid);
                }
                None => freezes.push(Freeze {
                    device,
                    owner: OwnerId::NOBODY,
                    since_ns,
                    until_ns: 0,
                    waiting: vec![tgid],
                }),
            }
        }
        freezes
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Thread 8 of the process 7 waits for a thaw at the looks two to four, and another thread at
    /// the fifth one.
    #[test]
    fn a_thread_that_waits_at_two_looks_in_succession_waits_for_a_thaw() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::new(root.path());
        let sleep = |tid: u32, wchan: &str| {
            let task = root.path().join(format!("proc/7/task/{tid}"));
            fs::create_dir_all(&task).unwrap();
            fs::write(task.join("wchan"), wchan).unwrap();
        };
        let mut unseen = Unseen::default();
        let mut look = |at: u64, waiting: Option<u32>| {
            [8, 9].iter().for_each(|tid| sleep(*tid, "futex_wait_queue"));
            waiting.inspect(|tid| sleep(*tid, "percpu_rwsem_wait"));
            let found = unseen.find(&tree, vec![(7 << 20, 7)], at * SECOND);
            found.first().map(|freeze| {
                assert_eq!((found.len(), freeze.owner, freeze.until_ns), (1, OwnerId::NOBODY, 0));
                assert_eq!((freeze.device, &*freeze.waiting), (7 << 20, &[7][..]));
                freeze.since_ns
            })
        };
        assert_eq!(look(1, None), None);
        assert_eq!(look(2, Some(8)), None);
        assert_eq!(look(3, Some(8)), Some(2 * SECOND));
        assert_eq!(look(4, Some(8)), Some(2 * SECOND));
        assert_eq!(look(5, Some(9)), None);
        assert_eq!(look(6, None), None);
    }

    #[test]
    fn processes_beyond_those_that_are_looked_at_are_counted() {
        let root = tempfile::tempdir().unwrap();
        let mut unseen = Unseen::default();
        let there = (1..=19).map(|tgid| (7 << 20, tgid)).collect();
        assert_eq!(unseen.find(&Tree::new(root.path()), there, SECOND), []);
        assert_eq!(unseen.left_out, 3);
    }
}
