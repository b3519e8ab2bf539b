//! The cost of a request for its disk: the time that one of its kind takes alone,
//! while the disk is well.
//!
//! The service times of requests that were alone on their disk come in, as the
//! kernel programs sum them up by disk, operation and class of size. The usual
//! time for any request goes out, and how the last second's compare with it.
//! A disk that turns slow is seen to be slow, and its requests cost what they did.
//! If too few were seen, others of the same operation on the same disk are
//! scaled; if there are none, an estimate from requests beside others is used, or
//! the time of a mid-range SSD. Knows no clock and no map.

use tracer_ebpf::record::{Solo, op, size};
use tracer_engine::{
    reference::{Reference, SLOWER},
    tick::Alone,
    usage::{Kept, Learnt},
};

use super::estimate::Estimate;

/// Fewer are not believed.
const MIN_SAMPLES: u64 = 8;

/// A class of fewer batches is not worth to be kept: they may have been odd ones.
const KEPT_BATCHES: u64 = 8;

/// The weight that older samples keep after a second with new ones, in the
/// present time that is shown.
const DECAY: f64 = 0.95;

const MICROSECOND: f64 = 1e3;
const MILLISECOND: f64 = 1e6;

/// The costs that were learnt of one class of requests on one disk.
#[derive(Clone, Debug, Default)]
struct Class {
    read: Solo,
    requests: f64,
    ns: f64,
    samples: u64,
    /// Requests that took their usual time, and slower ones, since somebody asked.
    held: [u64; 2],
    /// None for a class that was never seen.
    reference: Option<Box<Reference>>,
    /// The estimates since the last [`MIN_SAMPLES`] requests, and the highest of those before, for
    /// one request. The device is never held against them: they are too low.
    estimate: Estimate,
    estimated_ns: f64,
}

impl Class {
    /// Returns the requests since the last reading, with the time that was usual before them.
    fn read_growth(&mut self, now: Solo) -> Alone {
        let requests = now.requests.wrapping_sub(self.read.requests);
        let ns = now.ns.wrapping_sub(self.read.ns);
        self.read = now;
        if requests == 0 {
            return Alone::default();
        }
        self.requests = self.requests * DECAY + requests as f64;
        self.ns = self.ns * DECAY + ns as f64;
        self.samples = self.samples.saturating_add(requests);
        let usual_ns = self.usual_ns();
        let reference = self.reference.get_or_insert_default();
        let known = reference.known();
        if let Some(usual_ns) = usual_ns {
            self.held[usize::from(ns as f64 > SLOWER * usual_ns * requests as f64)] += requests;
        }
        reference.add(ns, requests);
        usual_ns.map_or(Alone::default(), |usual_ns| Alone {
            requests,
            ns,
            reference_ns: (usual_ns * requests as f64) as u64,
            known,
        })
    }

    /// Goes on from what was learnt before, unless it knows more already.
    fn recall(&mut self, kept: &Kept) {
        let known = self.reference.as_ref().and_then(|reference| reference.level());
        if known.is_none_or(|known| known.batches <= kept.level.batches) {
            self.reference = Some(Box::new(Reference::kept(kept.level)));
        }
    }

    fn usual_ns(&self) -> Option<f64> {
        self.reference.as_ref()?.usual_ns()
    }

    fn mean_ns(&self) -> Option<f64> {
        (self.samples >= MIN_SAMPLES).then(|| self.ns / self.requests)
    }
}

type Classes = [[Class; size::COUNT]; op::COUNT];

/// The times of all disks, by the kernel's index.
#[derive(Debug, Default)]
pub struct RequestTimes {
    disks: Vec<Classes>,
}

impl RequestTimes {
    /// Takes in one class's sums as they are now, and returns what is new.
    pub fn read_growth(&mut self, disk: u32, op: usize, class: usize, now: Solo) -> Alone {
        let disk = disk as usize;
        if self.disks.len() <= disk {
            self.disks.resize_with(disk + 1, Classes::default);
        }
        self.disks[disk][op][class].read_growth(now)
    }

    /// Whether requests of about this size were ever seen alone on a disk.
    pub fn knows(&self, disk: u32, op: u16, bytes: u64) -> bool {
        let code = class_of(op, bytes);
        let classes = self.disks.get(disk as usize).and_then(|d| d.get(code as usize));
        let nearest = classes.and_then(|classes| nearest(classes, size::class(bytes)));
        nearest.is_some_and(|(class, _)| class.abs_diff(size::class(bytes)) <= 1)
    }

    /// Takes in requests that were never alone, with the least time that they took.
    pub(super) fn estimate(&mut self, disk: u32, op: u16, bytes: u64, each: Estimate) {
        let code = class_of(op, bytes);
        let Some(classes) = self.disks.get_mut(disk as usize) else { return };
        let Some(classes) = classes.get_mut(code as usize) else { return };
        let Class { estimate, estimated_ns, .. } = &mut classes[size::class(bytes)];
        estimate.requests += each.requests;
        estimate.ns = estimate.ns.saturating_add(each.ns);
        if estimate.requests >= MIN_SAMPLES {
            let mean_ns = estimate.ns as f64 / estimate.requests as f64;
            (*estimate, *estimated_ns) = (Estimate::default(), estimated_ns.max(mean_ns));
        }
    }

    /// Another disk has this index: nothing is known of it.
    pub fn forget(&mut self, disk: u32) {
        let classes = self.disks.get_mut(disk as usize).into_iter().flatten().flatten();
        for class in classes {
            *class = Class { read: class.read, ..Class::default() };
        }
    }

    /// Gives a disk the reference that an earlier run learnt.
    pub fn recall(&mut self, disk: u32, kept: &[Kept]) {
        let disk = disk as usize;
        if self.disks.len() <= disk {
            self.disks.resize_with(disk + 1, Classes::default);
        }
        for kept in kept {
            let classes = self.disks[disk].get_mut(usize::from(kept.op));
            if let Some(class) = classes.and_then(|c| c.get_mut(usize::from(kept.class))) {
                class.recall(kept);
            }
        }
    }

    /// The reference of a disk, to be kept.
    pub fn levels(&self, disk: u32) -> Vec<Kept> {
        let classes = self.disks.get(disk as usize).into_iter().flatten().enumerate();
        let each = classes.flat_map(|(op, classes)| {
            classes.iter().enumerate().map(move |(class, known)| (op, class, known))
        });
        let levels = each.filter_map(|(op, class, known)| {
            let level = known.reference.as_ref()?.level()?;
            Some(Kept { op: op as u16, class: class as u16, level })
        });
        levels.filter(|kept| kept.level.batches >= KEPT_BATCHES).collect()
    }

    /// Whether most requests of a disk that were alone took their usual time, since
    /// this was asked last.
    pub fn take_held(&mut self, disk: u32) -> bool {
        let (mut well, mut slow) = (0, 0);
        for class in self.disks.get_mut(disk as usize).into_iter().flatten().flatten() {
            let [of_class, slower] = std::mem::take(&mut class.held);
            (well, slow) = (well + of_class, slow + slower);
        }
        well > slow
    }

    /// The time in ns that a request of this size takes alone while its disk
    /// is well.
    pub fn request_ns(&self, disk: u32, op: u16, bytes: u64) -> u32 {
        let code = class_of(op, bytes);
        let usual = usual_ns(code, bytes);
        let classes = self.disks.get(disk as usize).and_then(|d| d.get(code as usize));
        let learnt = classes.and_then(|classes| {
            let class = size::class(bytes);
            nearest(classes, class).or_else(|| nearest_estimate(classes, class))
        });
        let ns = match learnt {
            Some((class, mean)) if class == size::class(bytes) => mean,
            Some((class, mean)) => mean * usual / usual_ns(code, typical_bytes(class)),
            None => usual,
        };
        // Saturates, but an owner without weight would be nobody.
        (ns as u32).max(1)
    }

    /// All that was learnt of a disk.
    pub fn learnt(&self, disk: u32) -> Vec<Learnt> {
        let classes = self.disks.get(disk as usize).into_iter().flatten().enumerate();
        let each = classes.flat_map(|(op, classes)| {
            classes.iter().enumerate().map(move |(class, known)| (op, class, known))
        });
        each.filter_map(|(op, class, known)| {
            let bytes_up_to = UP_TO_BYTES.get(class).copied();
            Some(Learnt {
                op: op as u16,
                bytes_up_to,
                ns: known.mean_ns()?,
                samples: known.samples,
            })
        })
        .collect()
    }
}

/// Upper bounds of the classes of [`size`], except for the last.
const UP_TO_BYTES: [u64; size::COUNT - 1] =
    [0, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 16 << 20];

fn typical_bytes(class: usize) -> u64 {
    UP_TO_BYTES.get(class).copied().unwrap_or(64 << 20)
}

/// The class nearest to one, itself first, of which enough was seen.
fn nearest(classes: &[Class; size::COUNT], to: usize) -> Option<(usize, f64)> {
    let known = classes.iter().enumerate().filter_map(|(at, class)| Some((at, class.usual_ns()?)));
    known.min_by_key(|(at, _)| at.abs_diff(to))
}

/// The class nearest to one with an estimate.
fn nearest_estimate(classes: &[Class; size::COUNT], to: usize) -> Option<(usize, f64)> {
    let all = classes.iter().enumerate().map(|(at, class)| (at, class.estimated_ns));
    all.filter(|(_, ns)| *ns > 0.0).min_by_key(|(at, _)| at.abs_diff(to))
}

/// A write without data is a flush to the one who waits for it.
fn class_of(op: u16, bytes: u64) -> u32 {
    if u32::from(op) == op::WRITE && bytes == 0 { op::FLUSH } else { op.into() }
}

/// A mid-range SSD's time for a request, in ns.
fn usual_ns(op: u32, bytes: u64) -> f64 {
    let bytes = bytes as f64;
    // 500 MB/s, 10 GB/s and 2 GB/s.
    match op {
        op::READ | op::WRITE => 100.0 * MICROSECOND + (bytes - 4096.0).max(0.0) * 2.0,
        op::DISCARD => 2.0 * MILLISECOND + bytes * 0.1,
        op::WRITE_ZEROES => MILLISECOND + bytes * 0.5,
        _ => 2.0 * MILLISECOND,
    }
}

#[cfg(test)]
mod tests {
    use tracer_engine::reference::{Grade, Level};

    use super::*;

    const READ: u16 = op::READ as u16;
    const WRITE: u16 = op::WRITE as u16;

    fn with(op: u32, bytes: u64, requests: u64, each_ns: u64) -> RequestTimes {
        let mut work = RequestTimes::default();
        work.read_growth(
            1,
            op as usize,
            size::class(bytes),
            Solo { requests, ns: requests * each_ns },
        );
        work
    }

    #[test]
    fn an_unknown_disk_is_a_middling_one() {
        let work = RequestTimes::default();
        assert_eq!(work.request_ns(0, READ, 4096), 100_000);
        assert_eq!(work.request_ns(0, WRITE, 4096 + (1 << 20)), 100_000 + 2 * (1 << 20));
        assert_eq!(work.request_ns(0, op::DISCARD as u16, 10_000_000), 3_000_000);
        assert_eq!(work.request_ns(0, op::WRITE_ZEROES as u16, 2_000_000), 2_000_000);
        assert_eq!(work.request_ns(0, op::FLUSH as u16, 0), 2_000_000);
    }

    #[test]
    fn a_write_without_data_is_a_flush() {
        let work = with(op::FLUSH, 0, 100, 700_000);
        assert_about(work.request_ns(1, WRITE, 0), 700_000);
        assert_eq!(work.request_ns(1, WRITE, 4096), 100_000);
    }

    #[test]
    fn few_samples_are_not_believed() {
        assert_eq!(with(op::READ, 4096, 7, 5_000).request_ns(1, READ, 4096), 100_000);
        assert_about(with(op::READ, 4096, 8, 5_000).request_ns(1, READ, 4096), 5_000);
    }

    /// To the width of the buckets that references are kept in.
    #[track_caller]
    fn assert_about(ns: u32, wanted: u32) {
        let times = f64::from(ns) / f64::from(wanted);
        assert!((0.8..1.25).contains(&times), "{ns} ns, not {wanted}");
    }

    #[test]
    fn other_sizes_are_scaled_from_the_nearest() {
        let work = with(op::READ, 4096, 100, 10_000);
        let mib = 1 << 20;
        // A tenth of the usual time, whatever the size.
        assert_about(work.request_ns(1, READ, mib), (100_000 + (mib - 4096) * 2) as u32 / 10);
        assert_eq!(work.request_ns(1, WRITE, mib), (100_000 + (mib - 4096) * 2) as u32);
        assert_eq!(work.request_ns(0, READ, 4096), 100_000, "another disk's");
    }

    #[test]
    fn a_disk_that_turns_slow_is_seen_and_its_requests_cost_what_they_did() {
        let mut work = with(op::READ, 4096, 100, 10_000);
        let mut sums = Solo { requests: 100, ns: 1_000_000 };
        for _ in 0..60 {
            sums = Solo { requests: sums.requests + 100, ns: sums.ns + 100 * 90_000 };
            let alone = work.read_growth(1, 0, 1, sums);
            assert_eq!((alone.requests, alone.ns), (100, 9_000_000));
            assert_about((alone.reference_ns / alone.requests) as u32, 10_000);
        }
        assert_about(work.request_ns(1, READ, 4096), 10_000);
        let [shown] = work.learnt(1)[..] else { panic!("one class") };
        assert!((85_000.0..=90_000.0).contains(&shown.ns), "{shown:?}");
        assert_eq!(work.read_growth(1, 0, 1, sums), Alone::default(), "nothing new");
    }

    #[test]
    fn another_disk_of_an_index_is_learnt_anew() {
        let mut work = with(op::READ, 4096, 100, 10_000);
        work.forget(1);
        assert_eq!(work.request_ns(1, READ, 4096), 100_000, "a mid-range SSD's");
        assert_eq!(work.learnt(1), []);
        // The kernel's sums go on.
        let sums = Solo { requests: 108, ns: 100 * 10_000 + 8 * 70_000 };
        work.read_growth(1, op::READ as usize, size::class(4096), sums);
        assert_about(work.request_ns(1, READ, 4096), 70_000);
        work.forget(7);
    }

    #[test]
    fn what_was_kept_is_what_requests_cost_until_more_is_known() {
        let mut before = with(op::READ, 4096, 100, 10_000);
        assert_eq!(before.levels(1), [], "one batch is not worth it");
        for second in 2..=20 {
            let requests = 100 * second;
            before.read_growth(1, 0, 1, Solo { requests, ns: requests * 10_000 });
        }
        let kept = before.levels(1);
        let [one] = kept[..] else { panic!("{kept:?}") };
        assert_eq!((one.op, one.class, one.level.batches), (READ, 1, 20));
        assert_eq!(before.levels(7), []);

        let mut after = RequestTimes::default();
        // The tracer's own test sync, say, on a disk that is slow now.
        after.read_growth(1, 0, 1, Solo { requests: 8, ns: 8 * 90_000 });
        after.recall(1, &kept);
        assert_about(after.request_ns(1, READ, 4096), 10_000);
        assert!(after.knows(1, READ, 4096));
        let alone = after.read_growth(1, 0, 1, Solo { requests: 108, ns: 108 * 90_000 });
        assert_eq!((alone.requests, alone.known), (100, Grade::Good));
        assert_about((alone.reference_ns / alone.requests) as u32, 10_000);
        // One that knows more is not made to forget it.
        before.recall(1, &[Kept { level: Level { ns: 5, batches: 9 }, ..one }]);
        assert_about(before.request_ns(1, READ, 4096), 10_000);
        // Classes of another version's are none.
        after.recall(2, &[Kept { op: 99, ..one }, Kept { class: 99, ..one }]);
        assert_eq!(after.levels(2), []);
    }

    #[test]
    fn a_reference_holds_while_most_requests_take_their_time() {
        let mut work = with(op::READ, 4096, 100, 10_000);
        assert!(!work.take_held(1) && !work.take_held(7), "there was nothing to hold them against");
        work.read_growth(1, 0, 1, Solo { requests: 200, ns: 200 * 10_000 });
        assert!(work.take_held(1));
        assert!(!work.take_held(1), "nothing since");
        work.read_growth(1, 0, 1, Solo { requests: 300, ns: 200 * 10_000 + 100 * 90_000 });
        assert!(!work.take_held(1), "it is slow");
    }

    #[test]
    fn a_cost_is_a_guess_where_only_far_smaller_requests_were_seen() {
        let work = with(op::WRITE, 4096, 100, 100_000);
        assert!(work.knows(1, WRITE, 4096) && work.knows(1, WRITE, 16 << 10));
        assert!(!work.knows(1, WRITE, 1 << 20) && !work.knows(1, READ, 4096));
    }

    #[test]
    fn an_estimate_is_what_requests_cost_that_were_never_alone() {
        let known = Estimate { requests: 15, ns: 600_000_000 };
        let mut work = RequestTimes::default();
        work.read_growth(1, op::WRITE as usize, 1, Solo { requests: 100, ns: 100_000_000 });
        let (discard, bytes) = (op::DISCARD as u16, 128 << 10);
        let cost_ns = |work: &RequestTimes| work.request_ns(1, discard, bytes);
        work.estimate(1, discard, bytes, known);
        assert_eq!(cost_ns(&work), 40_000_000);
        // A lower bound below it says nothing new.
        work.estimate(1, discard, bytes, Estimate { requests: 8, ns: 8_000_000 });
        assert_eq!(cost_ns(&work), 40_000_000);
        // It stays a guess, which no device is held against.
        assert!(!work.knows(1, discard, bytes));
        assert_eq!((work.learnt(1).len(), work.levels(1).len()), (1, 0));
        let first = Solo { requests: 8, ns: 8 * 50_000_000 };
        let class = size::class(bytes);
        assert_eq!(work.read_growth(1, op::DISCARD as usize, class, first), Alone::default());
        assert_about(cost_ns(&work), 50_000_000);
        // Few are not believed.
        work.estimate(1, op::WRITE_ZEROES as u16, 0, Estimate { requests: 7, ns: 7 });
        assert_eq!(work.request_ns(1, op::WRITE_ZEROES as u16, 0), 1_000_000);
        // A disk that is not known has none.
        work.estimate(7, discard, bytes, known);
        assert_eq!(work.request_ns(7, discard, 0), 2_000_000);
    }

    #[test]
    fn what_was_learnt_can_be_shown() {
        let work = with(op::WRITE, 64 << 20, 10, 30_000_000);
        let learnt = Learnt { op: WRITE, bytes_up_to: None, ns: 30_000_000.0, samples: 10 };
        assert_eq!(work.learnt(1), [learnt]);
        assert_eq!(work.learnt(7), []);
    }

    #[test]
    fn classes_end_where_the_kernels_do() {
        for (class, bytes) in UP_TO_BYTES.into_iter().enumerate() {
            assert_eq!(size::class(bytes), class);
            assert_eq!(size::class(bytes + 1), class + 1);
        }
    }
}
