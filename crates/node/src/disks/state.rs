//! The states of stacked disks that are not well: arrays that lack members or are being rebuilt,
//! mapped disks that are suspended, pools and snapshots without room.
//!
//! sysfs says it of arrays, and of a mapped disk whether it is suspended. The targets of
//! device mapper are asked by an ioctl, without the flush that would have a pool commit
//! its metadata. All is read as queues are ([`super::queue`]), since a disk that hangs
//! may not answer. Only what slows or holds up is returned, so a stack
//! that is well has nothing to say.

use std::{collections::BTreeMap, time::Duration};

use tracer_snapshot::{PoolMode, StackFact, StackState, SyncAction};

use super::{carrying, layers::Layers, queue::Queues};
use crate::{
    devices,
    tree::{Tree, text},
};

/// A pool or snapshot is said to be nearly full from this share on.
const NEARLY_FULL: f64 = 0.9;

/// Facts about one stack.
const MAX_FACTS: usize = 16;

const NAME_BYTES: usize = 128;
const WORD_BYTES: usize = 32;

/// A state that mostly ends within a moment is reported once it has lasted this long.
const LASTING: Duration = Duration::from_millis(900);

/// The states at the last looks that mostly end within a moment.
#[derive(Debug, Default)]
pub struct StackStates {
    /// Arrays that are about to note that they are written to, and since when, in ns.
    pending: BTreeMap<String, u64>,
}

impl StackStates {
    /// A look at a disk and at all that lies below it.
    pub fn look(
        &mut self,
        queues: &Queues,
        layers: &Layers,
        disk: &str,
        now_ns: u64,
    ) -> Vec<StackFact> {
        let mut facts = Vec::new();
        for disk in layers.from(disk) {
            let said = match () {
                () if disk.starts_with("md") => queues.ask(&disk, array),
                () if disk.starts_with("dm-") => queues.ask(&disk, mapped),
                () => continue,
            };
            // `queue::ask` counts a disk that does not answer.
            let said = said.unwrap_or_default();
            let since_ns = self.pending.remove(&disk).unwrap_or(now_ns);
            let is_pending = |fact: &StackFact| matches!(&fact.state, StackState::Array { word } if word == WRITE_PENDING);
            if said.iter().any(is_pending) {
                self.pending.insert(disk, since_ns);
            }
            let lasts = Duration::from_nanos(now_ns.saturating_sub(since_ns)) >= LASTING;
            facts.extend(said.into_iter().filter(|fact| lasts || !is_pending(fact)));
        }
        facts.truncate(MAX_FACTS);
        facts
    }
}

/// An array is in this state for a moment at each write after a pause.
const WRITE_PENDING: &str = "write-pending";

/// States in which an array takes no writes.
const STOPPED: [&str; 7] =
    ["clear", "inactive", "suspended", "readonly", "read-auto", "broken", WRITE_PENDING];

fn array(tree: &Tree, disk: &str) -> Vec<StackFact> {
    let line = |file: &str| tree.read_line(format!("sys/block/{disk}/md/{file}"));
    let number = |file: &str| line(file)?.trim().parse::<u64>().ok();
    let missing = number("degraded").filter(|missing| *missing > 0);
    let degraded = missing.map(|missing| {
        let members = number("raid_disks").unwrap_or(0).max(missing);
        StackState::Degraded { missing, members }
    });
    let action = line("sync_action");
    let action = action
        .and_then(|action| SyncAction::ALL.into_iter().find(|known| known.name() == action.trim()));
    let syncing = action.map(|action| StackState::Syncing {
        action,
        done: line("sync_completed").and_then(|line| share(&line, '/')).unwrap_or(0.0),
        bytes_per_second: number("sync_speed").unwrap_or(0).saturating_mul(1024),
    });
    let word = line("array_state").map(|word| text(word.trim().as_bytes(), WORD_BYTES));
    let stopped =
        word.filter(|word| STOPPED.contains(&word.as_str())).map(|word| StackState::Array { word });
    let states = [stopped, degraded, syncing].into_iter().flatten();
    states.map(|state| StackFact { disk: disk.to_owned(), name: String::new(), state }).collect()
}

fn mapped(tree: &Tree, disk: &str) -> Vec<StackFact> {
    let line = |file: &str| tree.read_line(format!("sys/block/{disk}/{file}"));
    let name = line("dm/name").map(|name| text(name.trim().as_bytes(), NAME_BYTES));
    let suspended = line("dm/suspended")
        .is_some_and(|word| word.trim() == "1")
        .then_some(StackState::Suspended);
    let device = line("dev").and_then(|device| devices::parse(device.trim().as_bytes()));
    let status = device.and_then(|device| carrying::status(tree, device));
    let target = status.and_then(|(target, said)| of_target(&target, &said));
    let states = [suspended, target].into_iter().flatten();
    let fact =
        |state| StackFact { disk: disk.to_owned(), name: name.clone().unwrap_or_default(), state };
    states.map(fact).collect()
}

/// The state that a target of device mapper reports, as documented in `thin-provisioning.rst`
/// and `snapshot.rst` of
/// <https://elixir.bootlin.com/linux/v6.12/source/Documentation/admin-guide/device-mapper>.
fn of_target(target: &[u8], said: &[u8]) -> Option<StackState> {
    let said = text(said, 4096);
    let mut words = said.split_ascii_whitespace();
    match target {
        b"thin-pool" => {
            let transaction = words.next()?;
            if transaction == "Fail" {
                let mode = PoolMode::Failed;
                return Some(StackState::Pool { mode, data_share: 1.0, metadata_share: 1.0 });
            }
            let metadata_share = share(words.next()?, '/')?;
            let data_share = share(words.next()?, '/')?;
            let mode = words.find_map(|word| match word {
                "rw" => Some(PoolMode::Write),
                "ro" => Some(PoolMode::ReadOnly),
                "out_of_data_space" => Some(PoolMode::OutOfDataSpace),
                _ => None,
            })?;
            let is_full = data_share.max(metadata_share) >= NEARLY_FULL;
            (is_full || mode != PoolMode::Write).then_some(StackState::Pool {
                mode,
                data_share,
                metadata_share,
            })
        }
        b"snapshot" | b"snapshot-merge" => {
            let first = words.next()?;
            match share(first, '/') {
                Some(used_share) if used_share >= NEARLY_FULL => {
                    Some(StackState::Snapshot { valid: true, used_share })
                }
                Some(_) => None,
                // `Invalid`, `Overflow`, `Merge failed`.
                None => Some(StackState::Snapshot { valid: false, used_share: 1.0 }),
            }
        }
        _ => None,
    }
}

/// `12 / 48` is a quarter; `None` for what is no such pair.
fn share(pair: &str, between: char) -> Option<f64> {
    let (part, whole) = pair.split_once(between)?;
    let [part, whole] = [part, whole].map(|number| number.trim().parse::<u64>());
    let (part, whole) = (part.ok()?, whole.ok()?);
    (whole > 0).then(|| (part as f64 / whole as f64).min(1.0))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A tree with one array or mapped disk.
    struct Stack(tempfile::TempDir);

    impl Stack {
        fn of(disk: &str, files: &[(&str, &str)]) -> Self {
            let stack = Self(tempfile::tempdir().unwrap());
            files.iter().for_each(|(file, content)| stack.write(disk, file, content));
            stack
        }

        fn write(&self, disk: &str, file: &str, content: &str) {
            let file = self.0.path().join(format!("sys/block/{disk}/{file}"));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }

        fn look(&self, states: &mut StackStates, disk: &str) -> Vec<StackState> {
            self.look_at(states, disk, 0)
        }

        fn look_at(&self, states: &mut StackStates, disk: &str, second: u64) -> Vec<StackState> {
            let layers = Layers::read(self.0.path());
            let facts =
                states.look(&Queues::new(self.0.path()), &layers, disk, second * 1_000_000_000);
            facts.into_iter().map(|fact| fact.state).collect()
        }
    }

    const WELL: [(&str, &str); 5] = [
        ("md/array_state", "clean\n"),
        ("md/degraded", "0\n"),
        ("md/raid_disks", "4\n"),
        ("md/sync_action", "idle\n"),
        ("md/sync_completed", "none\n"),
    ];

    #[test]
    fn an_array_that_is_well_says_nothing() {
        let mut states = StackStates::default();
        assert!(Stack::of("md0", &WELL).look(&mut states, "md0").is_empty());
        // Levels without copies have no such files.
        let striped = Stack::of("md1", &[("md/array_state", "clean\n")]);
        assert!(striped.look(&mut states, "md1").is_empty());
        assert!(Stack::of("sda", &[]).look(&mut states, "sda").is_empty());
    }

    #[test]
    fn an_array_says_who_is_missing_and_how_far_the_rebuild_is() {
        let array = Stack::of("md0", &WELL);
        array.write("md0", "md/degraded", "1\n");
        array.write("md0", "md/sync_action", "recover\n");
        array.write("md0", "md/sync_completed", "250 / 1000\n");
        array.write("md0", "md/sync_speed", "2048\n");
        let expected = [
            StackState::Degraded { missing: 1, members: 4 },
            StackState::Syncing {
                action: SyncAction::Recover,
                done: 0.25,
                bytes_per_second: 2 << 20,
            },
        ];
        assert_eq!(array.look(&mut StackStates::default(), "md0"), expected);
        for action in SyncAction::ALL {
            array.write("md0", "md/sync_action", &format!("{}\n", action.name()));
            let said = array.look(&mut StackStates::default(), "md0");
            let is_it = |state: &StackState| matches!(state, StackState::Syncing { action: said, .. } if *said == action);
            assert!(said.iter().any(is_it), "{said:?}");
        }
        // A file that has no number is left out.
        array.write("md0", "md/degraded", "many\n");
        array.write("md0", "md/sync_action", "frozen\n");
        assert!(array.look(&mut StackStates::default(), "md0").is_empty());
    }

    #[test]
    fn an_array_that_waits_to_be_written_to_says_so_a_second_later() {
        let array = Stack::of("md0", &WELL);
        let mut states = StackStates::default();
        array.write("md0", "md/array_state", "write-pending\n");
        assert!(array.look_at(&mut states, "md0", 5).is_empty());
        assert!(array.look_at(&mut states, "md0", 5).is_empty(), "it is the same second");
        let said = [StackState::Array { word: "write-pending".to_owned() }];
        assert_eq!(array.look_at(&mut states, "md0", 6), said);
        assert_eq!(array.look_at(&mut states, "md0", 7), said);
        array.write("md0", "md/array_state", "active\n");
        assert!(array.look_at(&mut states, "md0", 8).is_empty());
        array.write("md0", "md/array_state", "write-pending\n");
        assert!(array.look_at(&mut states, "md0", 9).is_empty());
        array.write("md0", "md/array_state", "readonly\n");
        let readonly = [StackState::Array { word: "readonly".to_owned() }];
        assert_eq!(array.look_at(&mut states, "md0", 10), readonly);
    }

    #[test]
    fn a_disk_below_speaks_for_what_lies_on_it() {
        let stack = Stack::of("dm-1", &[("dm/suspended", "0\n"), ("dm/name", "vg-root\n")]);
        stack.write("dm-0", "dm/suspended", "1\n");
        stack.write("dm-0", "dm/name", "vg-pool_tdata\n");
        let slaves = stack.0.path().join("sys/block/dm-1/slaves");
        fs::create_dir_all(&slaves).unwrap();
        std::os::unix::fs::symlink("../../dm-0", slaves.join("dm-0")).unwrap();
        let layers = Layers::read(stack.0.path());
        let facts = StackStates::default().look(&Queues::new(stack.0.path()), &layers, "dm-1", 0);
        let expected = StackFact {
            disk: "dm-0".to_owned(),
            name: "vg-pool_tdata".to_owned(),
            state: StackState::Suspended,
        };
        assert_eq!(facts, [expected]);
    }

    #[test]
    fn pools_and_snapshots_say_how_full_they_are() {
        let check = |target: &str, said: &str, expected: Option<StackState>| {
            assert_eq!(of_target(target.as_bytes(), said.as_bytes()), expected, "{target} {said}");
        };
        let pool = |mode, data_share, metadata_share| {
            Some(StackState::Pool { mode, data_share, metadata_share })
        };
        let pool_said =
            |rest: &str| format!("1 10/1000 {rest} discard_passdown queue_if_no_space - 1024");
        check("thin-pool", &pool_said("40/100 - rw"), None);
        check("thin-pool", &pool_said("95/100 - rw"), pool(PoolMode::Write, 0.95, 0.01));
        let out = pool(PoolMode::OutOfDataSpace, 1.0, 0.01);
        check("thin-pool", &pool_said("100/100 - out_of_data_space"), out);
        check("thin-pool", &pool_said("40/100 - ro"), pool(PoolMode::ReadOnly, 0.4, 0.01));
        check("thin-pool", "Fail", pool(PoolMode::Failed, 1.0, 1.0));
        check("thin-pool", "1 10/1000", None);
        check("thin-pool", "1 0/0 0/0 - rw", None);
        let snapshot = |valid, used_share| Some(StackState::Snapshot { valid, used_share });
        check("snapshot", "16/2048 8", None);
        check("snapshot", "2000/2048 8", snapshot(true, 2000.0 / 2048.0));
        check("snapshot", "Invalid", snapshot(false, 1.0));
        check("snapshot", "Overflow", snapshot(false, 1.0));
        check("snapshot-merge", "Merge failed", snapshot(false, 1.0));
        check("snapshot", "", None);
        check("linear", "anything 1/1", None);
    }
}
