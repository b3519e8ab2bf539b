//! Facts that stacked disks say of themselves, in words.

use super::{
    escape::bounded,
    quote,
    units::{bytes_rate, percent},
};
use tracer_snapshot::{PoolMode, StackFact, StackState};

const NAME_COLUMNS: usize = 48;

/// `md0 is degraded: 1 of its 4 members is missing`.
pub fn sentence(fact: &StackFact) -> String {
    let disk = name(fact);
    match &fact.state {
        StackState::Degraded { missing, members } => {
            let are = if *missing == 1 { "is" } else { "are" };
            format!("{disk} is degraded: {missing} of its {members} members {are} missing")
        }
        StackState::Syncing { action, done, bytes_per_second } => format!(
            "{disk} is running its own {}: {} done, {}",
            action.name(),
            percent(*done),
            bytes_rate(*bytes_per_second as f64)
        ),
        StackState::Array { word } => format!("{disk} is {}", bounded(word, NAME_COLUMNS)),
        StackState::Suspended => format!("{disk} is suspended"),
        StackState::Pool { mode, data_share, metadata_share } => {
            let what = match mode {
                PoolMode::Write => "is nearly full",
                PoolMode::OutOfDataSpace => "is out of data space",
                PoolMode::ReadOnly => "takes no writes",
                PoolMode::Failed => return format!("the pool {disk} has failed"),
            };
            let (data, metadata) = (percent(*data_share), percent(*metadata_share));
            format!(
                "the pool {disk} {what}: {data} of its data and {metadata} of its metadata space are used"
            )
        }
        StackState::Snapshot { valid: true, used_share } => {
            format!(
                "the snapshot {disk} is nearly full: {} of its space is used",
                percent(*used_share)
            )
        }
        StackState::Snapshot { .. } => {
            format!("the snapshot {disk} ran out of space, and is invalid")
        }
    }
}

/// An array's own work: `md0's own check`.
pub fn own_work(facts: &[StackFact]) -> Option<String> {
    facts.iter().find_map(|fact| match &fact.state {
        StackState::Syncing { action, .. } => {
            Some(format!("{}'s own {}", name(fact), action.name()))
        }
        _ => None,
    })
}

/// Something to do about it; `None` where nothing but patience helps.
pub fn remedy(fact: &StackFact) -> Option<String> {
    let disk = quote::word(&fact.disk);
    let name = quote::word(if fact.name.is_empty() { &fact.disk } else { &fact.name });
    Some(match &fact.state {
        StackState::Degraded { .. } => {
            format!("replace the missing member of {disk} (`mdadm --detail /dev/{disk}`)")
        }
        StackState::Syncing { .. } => format!(
            "let {disk} do it more slowly (`echo 10000 > /sys/block/{disk}/md/sync_speed_max`, in KiB/s), \
             or when it is quiet (a check: `echo idle > /sys/block/{disk}/md/sync_action`)"
        ),
        StackState::Array { .. } => {
            format!(
                "see `mdadm --detail /dev/{disk}` and the log of the kernel for why {disk} takes no writes"
            )
        }
        StackState::Suspended => {
            format!(
                "find who suspended {name} (a snapshot, a move or a resize that was cut off?), or `dmsetup resume {name}`"
            )
        }
        StackState::Pool { .. } => {
            format!("give {name} more room (`lvextend`), or run fstrim on what lies on it")
        }
        StackState::Snapshot { valid: true, .. } => {
            format!("give {name} more room (`lvextend`), or remove it")
        }
        StackState::Snapshot { .. } => return None,
    })
}

/// The name in device mapper where there is one.
fn name(fact: &StackFact) -> String {
    let name = if fact.name.is_empty() { &fact.disk } else { &fact.name };
    bounded(name, NAME_COLUMNS).into_owned()
}

#[cfg(test)]
mod tests {
    use tracer_snapshot::SyncAction;

    use super::{super::escape::is_plain, *};

    #[track_caller]
    fn check(state: StackState, expected: &str) {
        let fact = |disk: &str, name: &str| StackFact {
            disk: disk.to_owned(),
            name: name.to_owned(),
            state: state.clone(),
        };
        assert_eq!(sentence(&fact("md0", "")), expected);
        let hostile = fact("md\u{1b}[2J0", "vg\nroot");
        let words = [Some(sentence(&hostile)), remedy(&hostile)];
        assert!(words.iter().flatten().all(|words| words.chars().all(is_plain)), "{words:?}");
        let named = sentence(&fact("dm-3", "vg-pool"));
        assert!(named.contains("vg-pool") && !named.contains("dm-3"), "{named}");
    }

    #[test]
    fn each_state_is_said_with_its_number() {
        let degraded = |missing| StackState::Degraded { missing, members: 4 };
        check(degraded(1), "md0 is degraded: 1 of its 4 members is missing");
        check(degraded(2), "md0 is degraded: 2 of its 4 members are missing");
        let action = SyncAction::Check;
        let syncing = StackState::Syncing { action, done: 0.434, bytes_per_second: 120_000_000 };
        check(syncing.clone(), "md0 is running its own check: 43% done, 120 MB/s");
        let fact = StackFact { disk: "md0".to_owned(), name: String::new(), state: syncing };
        assert_eq!(own_work(&[fact]).as_deref(), Some("md0's own check"));
        check(StackState::Array { word: "readonly".to_owned() }, "md0 is readonly");
        check(StackState::Suspended, "md0 is suspended");
        let pool = |mode, data_share| StackState::Pool { mode, data_share, metadata_share: 0.12 };
        check(
            pool(PoolMode::OutOfDataSpace, 1.0),
            "the pool md0 is out of data space: 100% of its data and 12% of its metadata space \
             are used",
        );
        check(
            pool(PoolMode::ReadOnly, 0.5),
            "the pool md0 takes no writes: 50% of its data and 12% of its metadata space are used",
        );
        let snapshot = |valid, used_share| StackState::Snapshot { valid, used_share };
        check(snapshot(true, 0.97), "the snapshot md0 is nearly full: 97% of its space is used");
        check(snapshot(false, 1.0), "the snapshot md0 ran out of space, and is invalid");
    }
}
