//! The work of a victim's disks in a second, and the words for what it waits for.

use super::{
    seconds::{actor, victim},
    *,
};
use crate::{
    demand::Slot,
    phases::ByPhase,
    tick::{Alone, DiskWork, Load},
};

/// A second of a disk: each owner's requests, and its number of requests that were alone.
fn disk(disk: u32, alone: u64, loads: &[(u32, u64)]) -> DiskWork {
    let load = |(owner, submitted): &(u32, u64)| Load {
        owner: OwnerId(*owner),
        submitted: *submitted,
        ..Load::default()
    };
    DiskWork {
        disk,
        length_ns: 1_000_000_000,
        alone: Alone { requests: alone, ..Alone::default() },
        flushes: Alone { requests: 10 * alone, ..Alone::default() },
        loads: loads.iter().map(load).collect(),
        ..DiskWork::default()
    }
}

/// A victim on the disk 3 and on 7 and 8 below it. The owner 1 is itself, 2 a tenant, 3
/// another, 4 a worker that carries, and 5 a thread that rebuilds an array.
fn slot(is_carried: bool, disks: &[DiskWork]) -> Slot {
    let mut known = victim(0);
    let carried = is_carried.into();
    let below = [7, 8].map(|disk| UnderlyingWindow { disk, integrals: [0; ACCOUNTS] });
    known.meet(&SyncRecord { disk: 3, carried, ..sync(MS, &[]) }, &below);
    let actors = [
        actor(0, "nobody"),
        known.actor(),
        actor(20, "fio"),
        actor(30, "dd"),
        actor(0, "kworker"),
        actor(0, "md127_resync"),
    ];
    known.slot(disks, |owner| actors[owner.0 as usize])
}

fn asked(slot: &Slot) -> Vec<(u32, f64)> {
    slot.asked.iter().map(|asked| (asked.owner.0, asked.requests)).collect()
}

#[test]
fn all_of_a_stack_is_added_up() {
    let disks = [disk(3, 1, &[(1, 5), (2, 6)]), disk(7, 2, &[(2, 7)]), disk(9, 4, &[(3, 8)])];
    let slot = slot(false, &disks);
    assert_eq!(asked(&slot), [(1, 5.0), (2, 13.0)]);
    assert_eq!((slot.alone.requests, slot.flushes.requests), (3, 30));
}

#[test]
fn below_a_carrying_disk_only_those_count_who_are_not_known_from_above() {
    let disks = [
        disk(7, 2, &[(2, 70), (3, 71), (4, 72), (5, 73)]),
        disk(3, 1, &[(1, 5), (2, 6)]),
        disk(8, 4, &[(1, 80), (3, 81)]),
        disk(9, 8, &[(3, 90)]),
    ];
    let of = slot(true, &disks);
    assert_eq!(asked(&of), [(1, 5.0), (2, 6.0), (3, 152.0), (5, 73.0)]);
    // Requests that were alone are those of the disks below, if there are any.
    assert_eq!((of.alone.requests, of.flushes.requests), (6, 60));
    let of = slot(true, &disks[1..2]);
    assert_eq!((asked(&of), of.alone.requests), (vec![(1, 5.0), (2, 6.0)], 1));
    let of = slot(true, &disks[..1]);
    assert_eq!((asked(&of), of.alone.requests), (vec![(2, 70.0), (3, 71.0), (5, 73.0)], 2));
}

#[test]
fn values_of_phases_are_read_by_their_phase() {
    let values = ByPhase::from([(Phase::Queue, 3u64), (Phase::Other, 4)]);
    assert_eq!((values[Phase::Queue], values[Phase::Cpu], values.total()), (3, 0, 7));
    let named = values.named();
    assert!(named.contains(&(Phase::Queue, 3)) && named.contains(&(Phase::Cpu, 0)));
    let mut sum = Phases { ns: values, journal_io_ns: 5, journal_stage_ns: [1, 2, 3] };
    sum.add(&Phases { ns: values, journal_io_ns: 6, journal_stage_ns: [10, 20, 30] });
    assert_eq!((sum.ns[Phase::Other], sum.journal_io_ns), (8, 11));
    assert_eq!(sum.journal_stage_ns, [11, 22, 33]);
    sum.ns[Phase::Runqueue] = 100;
    sum.ns[Phase::Reclaim] = 50;
    assert_eq!((sum.short_ns(), sum.wait_ns()), (150, 64));
    let seconds = Phases { ns: ByPhase::from([(Phase::Cpu, 1_500_000_000)]), ..sum }.to_seconds();
    assert_eq!((seconds[Phase::Cpu], seconds[Phase::Queue]), (1.5, 0.0));
}

#[test]
fn kinds_and_confidences_have_names_of_their_own() {
    let names = Kind::ALL.map(Kind::name);
    let wanted = [
        "none",
        "unknown",
        "owners",
        "cpu",
        "memory",
        "limit",
        "filesystem",
        "self",
        "device",
        "unseen",
        "unexplained",
        "undecided",
    ];
    assert_eq!(names, wanted);
    let all = [Confidence::Low, Confidence::Medium, Confidence::High];
    assert_eq!(all.map(Confidence::name), ["low", "medium", "high"]);
}
