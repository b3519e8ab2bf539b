//! Properties of any record that the kernel can send, and of any bytes that
//! somebody passes as a recording.

use proptest::prelude::*;
use tracer_ebpf::record::{ACCOUNTS, OwnerKey, SyncRecord, UnderlyingWindow, kind, op};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{
    super::{checks::MAX_LENGTH_NS, line::Line, recorder::Recorder},
    Shared, disk, gzip, one_file, open, owner, owners, sixty, text, tick,
};
use tracer_engine::{
    blame::{ActorId, Owner},
    victim::Span,
};
use tracer_scene::{Scene, stages::SyncInput};
use tracer_snapshot::{Actor, Kernel, clock::Clock, labels::FileId};

fn any_accounts() -> impl Strategy<Value = [u64; ACCOUNTS]> {
    let one = prop_oneof![4 => Just(0), 2 => 0u64..1 << 40, 1 => any::<u64>()];
    proptest::collection::vec(one, ACCOUNTS).prop_map(|integrals| integrals.try_into().unwrap())
}

prop_compose! {
    /// Any record that the kernel can send, and further disks.
    fn any_sync()(
        bytes in proptest::collection::vec(any::<u8>(), 192),
        integrals in any_accounts(),
        underlying in proptest::collection::vec(any_accounts(), 0..4),
        kind in 0..kind::COUNT as u32,
        kthread in 0u8..2,
        carried in 0u8..2,
        unused in 0u16..70,
    ) -> (SyncRecord, Vec<UnderlyingWindow>) {
        let mut record = SyncRecord::new_zeroed();
        record.as_mut_bytes()[..192].copy_from_slice(&bytes);
        (record.integrals, record.kind, record.kthread) = (integrals, kind, kthread);
        record.carried = carried;
        record.unused = unused;
        let underlying = (0u64..).zip(underlying).map(|(disk, integrals)| UnderlyingWindow { disk, integrals });
        (record, underlying.collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_sync_comes_back_as_it_was((record, underlying) in any_sync()) {
        let owners: [Owner; ACCOUNTS] =
            std::array::from_fn(|at| owner(at as u32, b"\xff\0x", op::READ, at as u32 * 7));
        let scene = &mut Scene::new(Kernel::default(), Clock::at(1_770_000_000_000_000_000, 1_000_000_000), 0).unwrap();
        let file = Shared::default();
        let mut recorder = Recorder::begin(Box::new(file.clone()), scene).unwrap();
        let actors = &mut scene.actors;
        let input = SyncInput { record: &record, underlying: &underlying, file: FileId(3), need_ns: 9 };
        recorder.sync(input, |_| &owners, actors, &mut one_file());
        recorder.end(0, scene).unwrap();
        let lines = text(&file.0.borrow());
        let lines = lines.lines().map(|line| serde_json::from_str::<Line>(line).unwrap());
        let lines: Vec<_> = lines.collect();
        let mut syncs = lines.iter().filter_map(|line| match line {
            Line::Sync(sync) => Some(sync),
            _ => None,
        });
        let sync = syncs.next().unwrap();
        prop_assert_eq!(sync.need_ns, 9);
        let back = sync.record();
        // Accounts come back as a list, whatever their number; the file has a name.
        let expected = SyncRecord { generation: 0, backing: 0, unused: 0, ..record };
        let accounts = std::mem::offset_of!(SyncRecord, integrals);
        prop_assert_eq!(&back.as_bytes()[..accounts], &expected.as_bytes()[..accounts]);
        let in_flight = |integrals: &[u64]| {
            let owned = integrals.iter().zip(&owners).filter(|(integral, _)| integral.cast_signed() > 0);
            owned.map(|(integral, owner)| (owner.id.0, *integral, owner.weight_ns)).collect::<Vec<_>>()
        };
        prop_assert_eq!(&sync.in_flight, &in_flight(record.integrals()));
        let back: Vec<_> = sync.underlying.iter().map(|underlying| underlying.in_flight.clone()).collect();
        prop_assert_eq!(back, underlying.iter().map(|w| in_flight(&w.integrals)).collect::<Vec<_>>());
        // Everybody was named, with every byte.
        for (id, ..) in &sync.in_flight {
            let named = lines.iter().filter_map(|line| match line {
            Line::Owner(owner) => Some(owner),
            _ => None,
        });
            let named = named.into_iter().any(|named| {
                named.id == *id && ActorId::from(named.actor) == owners[*id as usize].actor()
            });
            prop_assert!(named || *id == 0, "{}", id);
        }
    }

    #[test]
    fn a_disk_a_tick_and_an_identity_come_back_as_they_were(
        second in 1u64..1 << 40,
        in_flight in 0.0f64..1e9,
        name in "\\PC{0,40}",
        ns in any::<u64>(),
    ) {
        let mut scene = Scene::new(Kernel::default(), Clock::at(1_770_000_000_000_000_000, 1_000_000_000), 0).unwrap();
        let file = Shared::default();
        let mut recorder = Recorder::begin(Box::new(file.clone()), &scene).unwrap();
        let mut written = disk(second);
        (written.rates[0].in_flight, written.name) = (in_flight, name.clone());
        scene.disks = vec![written.clone()];
        let actor = Actor { comm: name.clone(), cgroup: name, ..Actor::default() };
        scene.actors.learn(owners()[2].actor(), actor.clone(), 0);
        let mut tick = tick(second);
        tick.limits[0].ns = ns % MAX_LENGTH_NS;
        recorder.tick(&tick, &mut scene, |id| {
            let Owner { cgroup, comm, op, .. } = owners()[id.0 as usize];
            OwnerKey { cgroup, comm, op, ..OwnerKey::default() }
        });
        recorder.end(second, &mut scene).unwrap();
        let bytes = file.0.borrow().clone();
        let lines = text(&bytes);
        let mut ticks = lines.lines().filter_map(|line| {
            match serde_json::from_str(line).unwrap() {
                Line::Tick(tick) => Some(tick),
                _ => None,
            }
        });
        prop_assert_eq!(ticks.next(), Some(tick));
        let mut replay = open(&bytes).unwrap();
        replay.play(u64::MAX, None, &mut Vec::new());
        prop_assert!(replay.check().is_ok(), "{:?}", replay.check());
        prop_assert_eq!(replay.disks(), &[written][..]);
        let known = replay.actors().find(&owners()[2].actor());
        prop_assert_eq!(known, Some(&actor));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let header = text(sixty()).lines().next().unwrap().to_owned();
        let behind = [header.as_bytes(), b"\n", &bytes].concat();
        for bytes in [bytes.clone(), gzip(&bytes), gzip(&behind), behind] {
            if let Ok(mut replay) = open(&bytes) {
                replay.play(u64::MAX, Some(0), &mut Vec::new());
                prop_assert!(replay.check().is_err());
                replay.snapshot_of(Span::Window);
            }
        }
    }

    #[test]
    fn no_flipped_bit_makes_it_panic(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let bytes = sixty();
        for mut bytes in [text(bytes).into_bytes(), bytes.to_vec()] {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(mut replay) = open(&bytes) {
                replay.play(u64::MAX, Some(0), &mut Vec::new());
                replay.snapshot_of(Span::Window);
                replay.snapshot_of(Span::Period);
            }
        }
    }

    #[test]
    fn no_numbers_make_it_panic(
        numbers in proptest::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 1..20),
        zeros in 0u32..64,
    ) {
        let whole = text(sixty());
        let pieces: Vec<_> = whole.split_inclusive(|c: char| !c.is_ascii_digit()).collect();
        let is_number = |piece: &&str| piece.starts_with(|c: char| c.is_ascii_digit());
        let places: Vec<_> = (0..pieces.len()).filter(|at| is_number(&pieces[*at])).collect();
        let mut pieces: Vec<_> = pieces.into_iter().map(str::to_owned).collect();
        for (index, number) in numbers {
            let place = places[index.index(places.len())];
            let end = pieces[place].trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
            pieces[place] = format!("{}{end}", number >> zeros);
        }
        if let Ok(mut replay) = open(pieces.concat().as_bytes()) {
            replay.play(u64::MAX, Some(0), &mut Vec::new());
            replay.snapshot_of(Span::Window);
            replay.snapshot_of(Span::Period);
        }
    }
}
