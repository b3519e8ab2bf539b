//! A flight recorder thins many fast syncs and a few slow ones: its lines are held against a
//! generator that knows how many of each it made. Its clock is its own: nothing waits.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    comm::Comm,
    line::{Began, Sync},
    recorder::{Grain, Part, Sink},
    segments::{Bounds, member},
    sums::Syncs,
    thinning::{Kept, Thinning},
};

/// Beyond this, the generator's syncs are slow; the others take some 2 ms.
const SLOW_NS: u64 = 20 * MS;

/// Numbers as unlike each other as a kernel's.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    /// About `mean`, between half of it and one and a half.
    fn about(&mut self, mean: u64) -> u64 {
        mean / 2 + self.next() % mean.max(1)
    }
}

/// Counted by the generator itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Truth {
    pub syncs: u64,
    slow: u64,
    duration_ns: u64,
    requests: u64,
    slowest_ns: u64,
}

/// Bytes of lines as they are packed into a segment, and the lines themselves.
#[derive(Clone, Default)]
pub struct Packing(pub Rc<RefCell<(u64, Vec<u8>)>>);

impl Sink for Packing {
    fn put(&mut self, lines: &[u8]) -> io::Result<u64> {
        let head = member::Head { segment: 1, number: 0, length: 0, unix_ns: 0 };
        let mut packed = Vec::new();
        member::pack(head, lines, member::LEVEL, &mut packed)?;
        let mut kept = self.0.borrow_mut();
        kept.0 += packed.len() as u64;
        kept.1.extend_from_slice(lines);
        Ok(packed.len() as u64)
    }
}

/// An etcd, a writer of logs beside it now and then, and an fstrim for some seconds of
/// each minute, on a disk with eight owners.
pub struct Generator {
    numbers: Numbers,
    pub scene: Scene,
    recorder: Recorder,
    per_second: u64,
    /// Since the kernel's start.
    pub second: u64,
    pub truth: Truth,
    /// Syncs of each second, and their durations.
    pub by_second: BTreeMap<u64, (u64, u64)>,
    began: Instant,
}

impl Generator {
    /// Thins into memory.
    fn thinning(per_second: u64) -> (Self, Packing) {
        let packing = Packing::default();
        (Self::new(per_second, Box::new(packing.clone())), packing)
    }

    pub fn new(per_second: u64, sink: Box<dyn Sink>) -> Self {
        let clock = Clock::at(1_770_000_000_000_000_000, 1_000_000_000);
        let scene = Scene::new(Kernel::default(), clock, SECOND).unwrap();
        let part = Part { grain: Grain::Thinned, ..Part::default() };
        let recorder = Recorder::begin_part(sink, &scene, SECOND, part).unwrap();
        Self {
            numbers: Numbers(0x9e37_79b9_7f4a_7c15),
            scene,
            recorder,
            per_second,
            second: 1,
            truth: Truth::default(),
            by_second: BTreeMap::new(),
            began: Instant::now(),
        }
    }

    /// Ends a part, and begins one that has all names again.
    pub fn rotate_with(&mut self, sink: impl FnOnce() -> Box<dyn Sink>) {
        let at_ns = self.second * SECOND;
        let none = Box::new(Packing::default());
        let before = std::mem::replace(
            &mut self.recorder,
            Recorder::begin_part(none, &self.scene, at_ns, Part::default()).unwrap(),
        );
        before.end(at_ns, &mut self.scene).unwrap();
        let sink = sink();
        self.scene.actors.mark_all_changed();
        let grain = Grain::Thinned;
        let part = Part { began: Some(Began::Rotation), grain, ..Part::default() };
        self.recorder = Recorder::begin_part(sink, &self.scene, at_ns, part).unwrap();
        self.recorder.checkpoint(&self.scene, &mut one_file());
    }

    fn owners() -> [Owner; ACCOUNTS] {
        let mut all = owners();
        for (id, one) in (0u32..).zip(&mut all).skip(10).take(5) {
            *one = owner(id, format!("tenant-{id}").as_bytes(), op::WRITE, 120_000);
        }
        all
    }

    /// fstrim has ten seconds of each minute, beginning with the fourth.
    fn is_disturbed(&self) -> bool {
        self.second % 60 >= 40 && self.second % 60 < 50
    }

    fn sync(&mut self, n: u64) -> SyncRecord {
        let mut record = sync(0);
        let begin_ns = self.second * SECOND + n * (SECOND / self.per_second);
        record.begin_ns = begin_ns + self.numbers.next() % (400_000);
        let is_slow = self.is_disturbed() && n.is_multiple_of(10);
        let mean_ns = if is_slow { 2 * SLOW_NS } else { 2 * MS };
        record.duration_ns = self.numbers.about(mean_ns).max(if is_slow { SLOW_NS } else { 1 });
        record.cpu_ns = self.numbers.about(30_000);
        record.runqueue_ns = self.numbers.about(9_000);
        record.own_queue_ns = self.numbers.about(20_000);
        record.own_device_ns = record.duration_ns / 2 + self.numbers.about(100_000);
        record.own_span_ns = record.own_device_ns;
        record.journal_ns = self.numbers.about(record.duration_ns / 4);
        record.journal_device_ns = self.numbers.about(record.duration_ns / 8);
        record.journal_stage_ns = [0, 1, 2].map(|_| self.numbers.about(record.duration_ns / 16));
        record.own_bytes = 4096 * (1 + self.numbers.next() % 4);
        record.own_requests = 2 + (self.numbers.next() % 2) as u32;
        (record.tid, record.inode) = (815 + (n % 4) as u32, 131);
        record.integrals = [0; ACCOUNTS];
        record.integrals[1] = record.duration_ns / 512;
        for integral in &mut record.integrals[10..15] {
            // Now and then a tenant has a request in flight, for a part of the time.
            let part = if self.numbers.next().is_multiple_of(7) { 6 } else { 0 };
            *integral = record.duration_ns / 256 * part / 10;
        }
        if self.is_disturbed() {
            record.integrals[2] = record.duration_ns / 256;
        }
        let truth = &mut self.truth;
        truth.syncs += 1;
        truth.slow += u64::from(record.duration_ns >= SLOW_NS);
        truth.duration_ns += record.duration_ns;
        truth.requests += u64::from(record.own_requests);
        truth.slowest_ns = truth.slowest_ns.max(record.duration_ns);
        let (count, duration_ns) = self.by_second.entry(self.second).or_default();
        (*count, *duration_ns) = (*count + 1, *duration_ns + record.duration_ns);
        record
    }

    pub fn play(&mut self, seconds: u64) {
        let (owners, mut files) = (Self::owners(), one_file());
        for _ in 0..seconds {
            for n in 0..self.per_second {
                let record = self.sync(n);
                let input = SyncInput {
                    record: &record,
                    underlying: &[],
                    file: FileId(4),
                    need_ns: 900_000,
                };
                self.scene.ingest(&input, |_| &owners);
                self.recorder.sync(input, |_| &owners, &mut self.scene.actors, &mut files);
            }
            self.second += 1;
            let mut tick = tick(self.second * SECOND);
            (tick.limits, tick.helpers, tick.contenders) = Default::default();
            tick.reclaimers.clear();
            tick.disks[0].length_ns = self.numbers.about(SECOND);
            tick.disks[0].alone.ns = self.numbers.about(MS);
            tick.disks[0].flushes.ns = self.numbers.about(16 * MS);
            if !self.is_disturbed() {
                tick.disks[0].loads.retain(|load| load.owner != OwnerId(2));
            }
            for load in &mut tick.disks[0].loads {
                load.in_flight_ns = self.numbers.about(500 * MS);
                load.bytes = self.numbers.about(1 << 27);
            }
            self.scene.tick(&tick, |id| owners[id.0 as usize].actor());
            let mut disk = disk(self.second);
            for bucket in 200..230 {
                disk.latencies[0].device[bucket] = self.second * (bucket as u64 - 190);
            }
            disk.rates[0].requests_per_second = self.numbers.about(2000) as f64 / 7.0;
            self.scene.disks = vec![disk];
            self.recorder.tick(&tick, &mut self.scene, |id| {
                let Owner { cgroup, comm, op, .. } = owners[id.0 as usize];
                OwnerKey { cgroup, comm, disk: 0, op, kthread: 0, via: 0 }
            });
        }
    }

    /// Writes the end, and returns the session's own picture of all.
    pub fn end(mut self) -> Snapshot {
        let at_ns = self.second * SECOND;
        let live = self.scene.snapshot(Span::Period, at_ns, &mut one_file());
        self.recorder.end(at_ns, &mut self.scene).unwrap();
        live
    }
}

/// Packed bytes a second, the lines, and the session's own picture at the end.
fn end(generator: Generator, packing: &Packing) -> (f64, Vec<u8>, Snapshot) {
    let seconds = (generator.second - 1) as f64;
    let (per_second, took) = (generator.per_second, generator.began.elapsed());
    let live = generator.end();
    let (bytes, lines) = &mut *packing.0.borrow_mut();
    let rate = *bytes as f64 / seconds;
    println!("{per_second} syncs/s for {seconds} s: {rate:.0} bytes a second, made in {took:?}");
    (rate, std::mem::take(lines), live)
}

/// Lines of a recording, by their keys, with the syncs that they stand for.
pub fn lines(bytes: &[u8]) -> (Vec<Sync>, Vec<Syncs>) {
    let (mut single, mut sums) = (Vec::new(), Vec::new());
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line).unwrap() {
            Line::Sync(sync) => single.push(sync),
            Line::Syncs(syncs) => sums.push(syncs),
            _ => {}
        }
    }
    (single, sums)
}

/// The figure that the directory is sized by: 512 MiB hold a day of this.
#[test]
fn half_a_gibibyte_holds_a_day_of_two_hundred_syncs_a_second() {
    let (mut generator, packing) = Generator::thinning(200);
    // A segment lasts for three quarters of an hour, and has one checkpoint: of a shorter time, that
    // would be too large a part.
    generator.play(600);
    let (rate, ..) = end(generator, &packing);
    // The last segment of 32 may be nearly empty.
    let (bounds, _) = Bounds::divide(512 << 20);
    let days = 31.0 / 32.0 * bounds.bytes as f64 / rate / 86_400.0;
    println!("512 MiB hold {:.1} hours", days * 24.0);
    assert!(days >= 1.0, "{days} days at {rate} bytes a second");
}

#[test]
fn a_thousand_syncs_a_second_write_less_than_64_kib_a_second() {
    let (mut generator, packing) = Generator::thinning(1000);
    generator.play(20);
    let (rate, ..) = end(generator, &packing);
    assert!(rate <= 65_536.0, "{rate} bytes a second");
}

#[test]
fn slow_syncs_and_one_in_a_hundred_are_kept_and_no_sync_is_lost() {
    let (mut generator, packing) = Generator::thinning(200);
    generator.play(180);
    let truth = generator.truth;
    let (_, bytes, live) = end(generator, &packing);
    let (single, sums) = lines(&bytes);
    let slow = single.iter().filter(|sync| sync.duration_ns >= SLOW_NS).count() as u64;
    assert_eq!(slow, truth.slow, "of {truth:?}");
    let fast = single.len() as u64 - slow;
    let all_fast = truth.syncs - truth.slow;
    println!("{} of {} are kept one by one; {} sums", single.len(), truth.syncs, sums.len());
    assert!(fast >= all_fast / 100 && fast <= all_fast / 10, "{fast} of {all_fast}");
    let in_sums: u64 = sums.iter().map(|sum| u64::from(sum.count)).sum();
    assert_eq!(single.len() as u64 + in_sums, truth.syncs);
    let durations = single.iter().chain(sums.iter().map(|sum| &sum.sum));
    let [duration_ns, requests] = durations
        .fold([0, 0], |[ns, n], sync| [ns + sync.duration_ns, n + u64::from(sync.own_requests)]);
    assert_eq!((duration_ns, requests), (truth.duration_ns, truth.requests));

    // And a replay comes to what the session came to.
    let mut replay = Replay::new("sums".to_owned(), Cursor::new(bytes)).unwrap();
    let mut described = Vec::new();
    assert_eq!(replay.play(u64::MAX, Some(SLOW_NS), &mut described), Played::Whole);
    replay.check().unwrap();
    assert_eq!(described.len() as u64, truth.slow);
    let shown = replay.snapshot_of(Span::Period);
    let [shown, live] = [&shown.victims[0], &live.victims[0]];
    assert_eq!(shown.syncs, truth.syncs);
    let near = |what: &str, a: f64, b: f64, part: f64| {
        assert!((a - b).abs() <= part * b.abs() + 1e-9, "{what}: {a} beside {b}");
    };
    near("p99", shown.p99_seconds, live.p99_seconds, 0.07);
    near("max", shown.max_seconds, truth.slowest_ns as f64 / 1e9, 0.0);
    let [of_shown, of_live] = [shown, live].map(|victim| {
        let culprit = &victim.verdict.culprits[0];
        assert_eq!(culprit.actor.comm, "fstrim", "{:?}", victim.verdict);
        let level = serde_json::to_value(victim.verdict.confidence).unwrap();
        (victim.verdict.excess_seconds, culprit.share, level)
    });
    println!("the verdict of the sums {of_shown:?}, of all syncs {of_live:?}");
    near("excess", of_shown.0, of_live.0, 0.05);
    near("share", of_shown.1, of_live.1, 0.05);
    assert_eq!(of_shown.2, of_live.2, "confidence");
}

/// Adding and dividing by hand.
#[test]
fn a_sum_is_divided_without_loss() {
    let one = |duration_ns: u64, requests: u32, ticks: u64, weight_ns: u32| Sync {
        begin_ns: 7,
        duration_ns,
        own_requests: requests,
        journal_stage_ns: [1, 0, duration_ns],
        comm: Comm(comm(b"etcd")),
        in_flight: vec![(2, ticks, weight_ns)],
        ..Sync::default()
    };
    let mut sum = Syncs::new(&one(10, 1, 30, 100));
    for more in [one(11, 2, 10, 500), Sync { in_flight: vec![(9, 8, 70)], ..one(12, 2, 0, 0) }] {
        assert!(sum.has_room_for(1, &more));
        sum.add(1, &more);
    }
    assert_eq!((sum.count, sum.sum.duration_ns, sum.sum.own_requests), (3, 33, 5));
    assert_eq!(sum.sum.journal_stage_ns, [3, 0, 33]);
    // (30 · 100 + 10 · 500) / 40
    assert_eq!(sum.sum.in_flight, [(2, 40, 200), (9, 8, 70)]);
    let parts = [0, 1, 2].map(|number| sum.part(number));
    assert_eq!(parts.clone().map(|part| part.duration_ns), [11, 11, 11]);
    assert_eq!(parts.clone().map(|part| part.own_requests), [1, 2, 2]);
    assert_eq!(parts.clone().map(|part| part.in_flight[0]), [13, 13, 14].map(|t| (2, t, 200)));
    assert!(parts.iter().all(|part| part.begin_ns == 7 && part.comm == Comm(comm(b"etcd"))));
}

/// Rounded by hand, and within what the format promises for every number.
#[test]
fn a_sum_is_written_with_three_digits_but_for_what_is_exact() {
    let sync = Sync {
        begin_ns: 1_234_567_890,
        duration_ns: 2_345_678,
        cpu_ns: 23_456,
        own_device_ns: 1_234_999,
        runqueue_ns: 999_500,
        own_bytes: 12_345,
        journal_stage_ns: [1, 999, 1005],
        in_flight: vec![(2, 98_765, 20_049)],
        ..Sync::default()
    };
    let Syncs { sum, .. } = Syncs::new(&sync).rounded();
    assert_eq!((sum.begin_ns, sum.duration_ns, sum.own_bytes), (1_234_000_000, 2_345_678, 12_345));
    assert_eq!((sum.cpu_ns, sum.own_device_ns, sum.runqueue_ns), (23_500, 1_230_000, 1_000_000));
    assert_eq!(sum.journal_stage_ns, [1, 999, 1010]);
    assert_eq!(sum.in_flight, [(2, 98_800, 20_000)]);
    let longest = Syncs::new(&Sync { cpu_ns: u64::MAX, ..Sync::default() }).rounded();
    assert!(longest.sum.cpu_ns > u64::MAX / 100 * 99);
}

#[test]
fn a_sum_of_none_or_of_too_many_ends_a_replay() {
    let header = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        bytes[..=end].to_vec()
    };
    let (mut generator, packing) = Generator::thinning(10);
    generator.play(1);
    let begin = header(&end(generator, &packing).1);
    for count in [0u32, 1 << 13, u32::MAX] {
        let sum = Syncs { count, sum: Sync::default() };
        let line = serde_json::to_string(&BTreeMap::from([("syncs", &sum)])).unwrap();
        let bytes = [&begin[..], line.as_bytes(), b"\n"].concat();
        let mut replay = Replay::new("sums".to_owned(), Cursor::new(bytes)).unwrap();
        let began = Instant::now();
        replay.play(u64::MAX, None, &mut Vec::new());
        let why = replay.check().unwrap_err().to_string();
        assert!(why.contains(&format!("a sum of {count} syncs")), "{why}");
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}

/// An id that is given to another owner within a second is not taken for the one before.
#[test]
fn a_number_that_changes_its_owner_splits_the_sums() {
    let (mut generator, packing) = Generator::thinning(200);
    generator.play(2);
    let mut others = Generator::owners();
    let (mut files, at) = (one_file(), generator.second * SECOND);
    for round in 0..2u64 {
        for n in 0..40 {
            let mut record = generator.sync(n);
            record.begin_ns = at + (round * 40 + n) * MS;
            record.duration_ns = MS;
            record.integrals = [0; ACCOUNTS];
            record.integrals[9] = MS / 256;
            let input = SyncInput { record: &record, underlying: &[], file: FileId(4), need_ns: 0 };
            generator.recorder.sync(input, |_| &others, &mut generator.scene.actors, &mut files);
        }
        others[9] = owner(9, b"another", op::READ, 80_000);
    }
    let (_, bytes, _) = end(generator, &packing);
    let text = String::from_utf8(bytes).unwrap();
    let named = text.find("\"comm\":\"another\"").unwrap();
    let count = |text: &str| -> u64 {
        let (single, sums) = lines(text.as_bytes());
        let with = |sync: &Sync| sync.in_flight.iter().any(|(id, ..)| *id == 9);
        let single = single.iter().filter(|sync| with(sync)).count() as u64;
        let sums = sums.iter().filter(|sum| with(&sum.sum));
        single + sums.map(|sum| u64::from(sum.count)).sum::<u64>()
    };
    let line = text[..named].rfind('\n').unwrap();
    assert_eq!((count(&text[..line]), count(&text[line..])), (40, 40));
}

/// A victim for which two hundred milliseconds have long been usual.
#[test]
fn what_took_a_tenth_of_a_second_is_kept_however_usual() {
    let mut thinning = Thinning::default();
    let sync = Sync { duration_ns: 200 * MS, ..Sync::default() };
    let others = Sync { duration_ns: 99 * MS, ..Sync::default() };
    let kept = (0..10_000).filter(|_| matches!(thinning.take_in(&sync), Kept::One)).count();
    assert_eq!(kept, 10_000);
    let kept = (0..10_000).filter(|_| matches!(thinning.take_in(&others), Kept::One)).count();
    assert!((100..500).contains(&kept), "one in a hundred, and few more: {kept}");
}
