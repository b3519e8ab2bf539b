//! The slots that a request may have in the table of requests in flight.
//!
//! A (disk, hardware queue, tag) belongs to one live request. Disks of few tags
//! have a slot for each of them. All others share the last slots of the table,
//! since a drive may have 128 queues of 1023 tags and yet have few requests in
//! flight, with tags from anywhere in that range: each (disk, queue, tag) names
//! [`CANDIDATES`] slots there, and the request takes the first free one of them.

use crate::record::Disk;

/// Slots at which a request may lie in the shared part.
pub const CANDIDATES: usize = 4;

/// The shared part is never smaller: room for late disks on any node.
pub const MIN_SHARED: u32 = 1 << 14;

/// The shared part is never larger: 16 MiB.
pub const MAX_SHARED: u32 = 1 << 18;

/// The tag of the flush machinery's requests, which borrow the tags of others.
/// There is at most one such request per hardware queue.
pub const FLUSH_TAG: u32 = u32::MAX;

/// The slot that a disk has for this queue and tag alone; `None` where it has
/// none, as after its queues or tags became more.
#[inline(always)]
pub const fn own(base: u32, queues: u32, depth: u32, queue: u32, tag: u32) -> Option<u32> {
    let last = depth.wrapping_sub(1);
    let at = if tag == FLUSH_TAG { last } else { tag };
    if queue >= queues || at > last || (at == last && tag != FLUSH_TAG) {
        return None;
    }
    Some(base + queue * depth + at)
}

/// The places in the shared part at which a request may lie: two pairs of
/// neighbours, each pair on two adjacent lines of a CPU's cache. `shared` is the
/// number of slots there, a power of two.
#[inline(always)]
pub const fn shared(disk: u32, queue: u32, tag: u32, shared: u32) -> [u32; CANDIDATES] {
    let key = (disk as u64) << 48 ^ (queue as u64) << 32 ^ tag as u64;
    // Multiplied by 2^64 over the golden ratio; the upper half depends on all bits
    // of the key, so it is mixed into the lower one before the second step.
    let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let mask = shared - 1;
    let (one, two) = ((hash >> 32) as u32 & mask, (hash as u32 ^ (hash >> 51) as u32) & mask);
    [one, one ^ 1, two, two ^ 1]
}

impl Disk {
    /// Slots that it has for itself.
    pub const fn slots(&self) -> u32 {
        self.queues.saturating_mul(self.depth)
    }
}

/// Slots of the shared part, for the disks' tags taken together: a quarter of the
/// tags is far more than are ever in flight on drives of many queues.
pub const fn shared_for(tags: u64) -> u32 {
    let wanted = if tags / 4 > MAX_SHARED as u64 { MAX_SHARED } else { (tags / 4) as u32 };
    let slots = if wanted < MIN_SHARED { MIN_SHARED } else { wanted };
    slots.next_power_of_two()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const QUEUES: u32 = 64;
    const TAGS: u32 = 1023;

    /// A stream of numbers that look random (splitmix64).
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u32) -> u32 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ mixed >> 31) % u64::from(limit)) as u32
        }
    }

    /// The table with its shared part alone, as the kernel programs use it.
    struct Table {
        size: u32,
        slots: BTreeMap<u32, (u32, u32, u32)>,
    }

    impl Table {
        fn new(size: u32) -> Self {
            Self { size, slots: BTreeMap::new() }
        }

        fn claim(&mut self, request: (u32, u32, u32)) -> Option<u32> {
            let mut places = shared(request.0, request.1, request.2, self.size).into_iter();
            let free = places.find(|at| !self.slots.contains_key(at))?;
            self.slots.insert(free, request);
            Some(free)
        }
    }

    /// Requests that find no slot, of 200,000 on one drive of 64 queues that always has
    /// `in_flight` of them, with tags that `next_tag` gives to each queue.
    fn lost_of_200_000(in_flight: usize, mut next_tag: impl FnMut(&mut Random, u32) -> u32) -> u32 {
        let mut random = Random(in_flight as u64);
        let mut table = Table::new(shared_for(u64::from(QUEUES * TAGS)));
        let mut busy = BTreeMap::new();
        let mut order = Vec::new();
        let mut lost = 0;
        for _ in 0..200_000 {
            if order.len() == in_flight {
                let ended = order.swap_remove(random.below(in_flight as u32) as usize);
                if let Some(Some(at)) = busy.remove(&ended) {
                    table.slots.remove(&at);
                }
            }
            let queue = random.below(QUEUES);
            let request = loop {
                let request = (3, queue, next_tag(&mut random, queue));
                // The kernel gives no tag twice.
                if !busy.contains_key(&request) {
                    break request;
                }
            };
            let at = table.claim(request);
            lost += u32::from(at.is_none());
            busy.insert(request, at);
            order.push(request);
        }
        lost
    }

    #[test]
    fn every_tag_of_a_drive_of_128_queues_finds_a_slot() {
        let size = shared_for(128 * u64::from(TAGS));
        for queue in 0..128 {
            for tag in (0..TAGS).chain([FLUSH_TAG]) {
                let at = Table::new(size).claim((0, queue, tag)).expect("an empty table has room");
                assert!(at < size, "queue {queue}, tag {tag}");
            }
        }
    }

    #[test]
    fn with_random_tags_few_requests_find_no_slot() {
        let lost = [32, 250, 1000].map(|n| lost_of_200_000(n, |random, _| random.below(TAGS)));
        assert_eq!(lost[..2], [0, 0]);
        assert!(lost[2] <= 200, "{lost:?}");
    }

    /// The kernel searches from where it found the last free tag.
    #[test]
    fn with_tags_in_sequence_few_requests_find_no_slot() {
        let mut last: Vec<u32> = (0..QUEUES).map(|queue| queue * 131 % TAGS).collect();
        let mut sequence = move |_: &mut Random, queue: u32| {
            let tag = &mut last[queue as usize];
            *tag = (*tag + 1) % TAGS;
            *tag
        };
        let lost = [32, 1000].map(|n| lost_of_200_000(n, &mut sequence));
        assert_eq!(lost[0], 0);
        assert!(lost[1] <= 200, "{lost:?}");
    }

    #[test]
    fn the_same_tags_of_many_disks_lie_apart() {
        let mut table = Table::new(MIN_SHARED);
        let requests = (0..200).flat_map(|disk| (0..8).map(move |tag| (disk, 0, tag)));
        let lost = requests.filter(|request| table.claim(*request).is_none()).count();
        assert!(lost <= 1, "{lost} of 1600");
    }

    #[test]
    fn slots_of_their_own_are_one_for_each_tag_and_one_for_flushes() {
        let (base, queues, depth) = (100, 2, 5);
        let slots: Vec<_> = (0..2)
            .flat_map(|queue| {
                [0, 1, 2, 3, FLUSH_TAG].map(|tag| own(base, queues, depth, queue, tag))
            })
            .collect();
        assert_eq!(slots, (100..110).map(Some).collect::<Vec<_>>());
        for (queue, tag) in [(2, 0), (0, 4), (0, 5), (u32::MAX, u32::MAX - 1)] {
            assert_eq!(own(base, queues, depth, queue, tag), None, "{queue} {tag}");
        }
        assert_eq!(own(0, 0, 0, 0, 0), None);
        assert_eq!(own(0, 0, 0, 0, FLUSH_TAG), None);
    }

    #[test]
    fn the_shared_part_grows_with_the_tags_up_to_16_mib() {
        let sizes = [0, 65_472, 131_000, 1_571_328, u64::MAX].map(shared_for);
        assert_eq!(sizes, [16_384, 16_384, 32_768, 262_144, 262_144]);
    }
}
