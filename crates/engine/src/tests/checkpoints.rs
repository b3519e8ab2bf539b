//! Another engine goes on from what was learnt; what cannot have been written does no harm.

use super::*;
use crate::{
    checkpoint::{Checkpoint, Refused, check},
    tick::{Alone, DiskWork, Load},
};

const SECOND: u64 = 1_000_000_000;

/// A second of an etcd with twenty syncs, beside a tenant; from the 30th on with an fstrim,
/// for which every other sync waits.
fn play_second(engine: &mut Engine, owners: &[Owner; ACCOUNTS], second: u64) {
    let is_trimmed = second >= 30;
    for n in 0..20 {
        let is_slow = is_trimmed && n % 2 == 0;
        let duration_ns = if is_slow { 30 * MS } else { MS + (second * n) % 7 * 1000 };
        let trims: &[_] = if is_slow { &[(1, 0.5), (3, 1.0)] } else { &[(1, 1.0), (4, 0.2)] };
        let begin_ns = second * SECOND + n * 50 * MS;
        let record = SyncRecord { begin_ns, cpu_ns: 20_000 + n, ..sync(duration_ns, trims) };
        engine.ingest(&record, &[], 3, 900_000, |_| owners);
    }
    let load = |owner, ended| Load {
        owner: OwnerId(owner),
        submitted: ended,
        completed: ended,
        bytes: ended * 4096,
        reads: false,
        writes: owner != 3,
        in_flight_ns: ended * MS,
        cost_ns: 500_000,
        guessed: false,
    };
    let mut loads = vec![load(1, 20), load(4, 50 + second % 3)];
    loads.extend(is_trimmed.then(|| load(3, 40)));
    let alone = Alone { requests: 4, ns: 4 * MS, reference_ns: 4 * MS, ..Alone::default() };
    let disk = DiskWork { disk: 0, length_ns: SECOND, alone, loads, ..DiskWork::default() };
    let tick = Tick { at_ns: (second + 1) * SECOND, disks: vec![disk], ..Tick::default() };
    engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
    if second % 5 == 4 {
        engine.rotate();
    }
}

fn engine_after(seconds: u64) -> Engine {
    let (owners, mut engine) = (owners(), Engine::new());
    (0..seconds).for_each(|second| play_second(&mut engine, &owners, second));
    engine
}

fn resumed(checkpoint: &Checkpoint) -> Result<Engine, Refused> {
    let mut engine = Engine::new();
    engine.resume(checkpoint, 1000 * SECOND).map(|()| engine)
}

/// All fields of a victim, and so all that a verdict could be made of.
fn fields(engine: &Engine) -> String {
    format!("{:?}", engine.victims())
}

#[test]
fn another_engine_goes_on_as_the_first_in_a_new_period() {
    let owners = owners();
    // Before fstrim, with it, and after many halvings of the evidence.
    for seconds in [20, 45, 400] {
        let mut first = engine_after(seconds);
        let (checkpoints, left_out) = first.checkpoints(1 << 20);
        assert_eq!((checkpoints.len(), left_out), (1, 0));
        let mut second = resumed(&checkpoints[0]).unwrap();
        first.begin_period();
        assert_eq!(fields(&second), fields(&first), "at {seconds}");
        for at in seconds..seconds + 90 {
            play_second(&mut first, &owners, at);
            play_second(&mut second, &owners, at);
        }
        assert_eq!(fields(&second), fields(&first), "after {seconds} and 90");
        let Checkpoint { state, .. } = &checkpoints[0];
        println!("{seconds} s: {} bytes", state.len());
        assert!(state.len() < 4096, "{}", state.len());
    }
}

#[test]
fn those_that_synced_last_come_first_and_no_more_bytes_are_used() {
    let (owners, mut engine) = (owners(), Engine::new());
    for n in 0..300u64 {
        // The first ones sync last.
        let begin_ns = (1000 - n) * SECOND;
        let record = SyncRecord { begin_ns, cgroup: 100 + n, ..sync(MS, &[(4, 1.0)]) };
        engine.ingest(&record, &[], 0, 0, |_| &owners);
    }
    let (all, none) = engine.checkpoints(1 << 20);
    assert_eq!((all.len(), none), (300, 0));
    let bytes = |kept: &[Checkpoint]| kept.iter().map(|one| one.state.len()).sum::<usize>();
    let half = bytes(&all) / 2;
    let (kept, left_out) = engine.checkpoints(half);
    assert!(bytes(&kept) <= half && kept.len() + left_out == 300, "{}", kept.len());
    assert!((149..=151).contains(&kept.len()), "{}", kept.len());
    let cgroups: Vec<_> = kept.iter().map(|one| one.key.cgroup).collect();
    assert_eq!(cgroups, (100..100 + kept.len() as u64).collect::<Vec<_>>());
    assert_eq!(engine.checkpoints(0).1, 300);
}

#[test]
fn what_cannot_be_used_is_refused_with_its_reason() {
    let engine = engine_after(45);
    let good = engine.checkpoints(1 << 20).0.remove(0);
    let refused = |one: &Checkpoint| resumed(one).err();
    assert_eq!(refused(&good), None);
    let of_other = Checkpoint { shape: good.shape ^ 1, ..good.clone() };
    assert_eq!(refused(&of_other), Some(Refused::Foreign));
    let with = |state: Vec<u8>| Checkpoint { check: check(&state), state, ..good.clone() };
    let cut = good.state[..good.state.len() - 1].to_vec();
    let longer = [&good.state[..], &[0]].concat();
    let damaged = [
        Checkpoint { check: good.check ^ 1, ..good.clone() },
        Checkpoint { rotations: 12, ..good.clone() },
        with(cut),
        with(longer),
        with(Vec::new()),
        with(vec![0xff; 5000]),
        with(vec![0; 70_000]),
    ];
    for one in &damaged {
        assert_eq!(refused(one), Some(Refused::Damaged), "{} bytes", one.state.len());
    }
    // It ends at 45 s, and nobody knows the future.
    assert_eq!(Engine::new().resume(&good, 44 * SECOND), Err(Refused::Damaged));
    let mut twice = resumed(&good).unwrap();
    assert_eq!(twice.resume(&good, 1000 * SECOND), Err(Refused::Superfluous));
    assert_eq!(twice.victims().len(), 1);
}

proptest! {
    /// Whatever stands in a state, an engine goes on with it without a panic or an overflow.
    #[test]
    fn a_changed_state_is_refused_or_does_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let mut one = engine_after(40).checkpoints(1 << 20).0.remove(0);
        for (at, byte) in changes {
            let at = at.index(one.state.len());
            one.state[at] = byte;
        }
        one.check = check(&one.state);
        if let Ok(mut engine) = resumed(&one) {
            let owners = owners();
            for second in 40..60 {
                play_second(&mut engine, &owners, second);
                engine.victims().iter().for_each(|victim| drop(judged(victim)));
            }
        }
    }
}
