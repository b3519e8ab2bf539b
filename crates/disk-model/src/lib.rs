//! A model of how long a simulated disk takes for its requests.
//!
//! A few channels serve requests in parallel. Each request takes the time of its class,
//! and its bytes go over one bus that all channels share. The model also has what real
//! disks have: a limit on requests per second, with or without saved credits; stalls; a
//! write cache that a flush drains; a head that seeks; and flash whose writes slow down
//! after some gigabytes. This is pure: times go in and come out, in ns of the caller's
//! clock. It knows nothing of FUSE, nor of what is on the disk.

#![forbid(unsafe_code)]

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

/// The properties of a disk, which may be changed while it runs.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Model {
    /// Requests that are served at the same time.
    pub channels: usize,
    pub read: Duration,
    pub write: Duration,
    pub flush: Duration,
    /// Service time of one discard of any length.
    pub discard: Duration,
    /// On top of it.
    pub discard_per_gib: Duration,
    pub while_discarding: WhileDiscarding,
    /// Bandwidth of the bus that reads and writes share.
    pub bytes_per_second: u64,
    /// The most requests of all classes that begin in a second.
    pub iops: Option<u32>,
    /// Requests that may begin at once above the limit. The disk saves them up while
    /// fewer requests begin than the limit allows.
    pub credits: u32,
    pub stalls: Option<Stalls>,
    pub cache: Option<Cache>,
    pub head: Option<Head>,
    pub fast_writes: Option<FastWrites>,
}

/// Whether others are served beside a discard. Behind a loop device only
/// requests that the loop's worker has handed on before it are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum WhileDiscarding {
    AllWait,
    OthersGoOn,
}

/// Periods in which no request begins.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Stalls {
    pub every: Duration,
    pub length: Duration,
}

/// Memory that accepts writes, and is written out all the time. A write waits for room in
/// it, and a flush waits until it is empty.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Cache {
    pub bytes: u64,
    pub drained_per_second: u64,
}

/// One head: a request that does not begin where the last one ended costs a seek. The more
/// requests there are to choose from, the shorter the seek.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Head {
    pub seek: Duration,
}

/// Flash with a fast part. The first `bytes` are written at the usual speed; after that
/// each write takes `slower` times as long. The fast part becomes free again at
/// `regained_per_second`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct FastWrites {
    pub bytes: u64,
    pub regained_per_second: u64,
    pub slower: u32,
}

/// The properties of a typical cloud disk.
impl Default for Model {
    fn default() -> Self {
        Self {
            channels: 4,
            read: Duration::from_micros(150),
            write: Duration::from_micros(150),
            flush: Duration::from_millis(1),
            discard: Duration::from_millis(40),
            discard_per_gib: Duration::ZERO,
            while_discarding: WhileDiscarding::AllWait,
            bytes_per_second: 400_000_000,
            iops: None,
            credits: 0,
            stalls: None,
            cache: None,
            head: None,
            fast_writes: None,
        }
    }
}

impl Model {
    /// This disk with every service time multiplied by `times`.
    pub fn slower(self, times: u32) -> Self {
        let fewer = |rate: u64| rate / u64::from(times.max(1));
        Self {
            read: self.read * times,
            write: self.write * times,
            flush: self.flush * times,
            discard: self.discard * times,
            bytes_per_second: fewer(self.bytes_per_second),
            cache: self.cache.map(|cache| Cache {
                drained_per_second: fewer(cache.drained_per_second),
                ..cache
            }),
            head: self.head.map(|head| Head { seek: head.seek * times }),
            ..self
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Request {
    Read { at: u64, bytes: u64 },
    Write { at: u64, bytes: u64 },
    Flush,
    Discard { bytes: u64 },
}

/// The state of a running disk: when each channel and the bus will be free.
#[derive(Clone, Debug)]
pub struct Service {
    model: Model,
    channels_free_ns: Vec<u64>,
    bus_free_ns: u64,
    next_start_ns: u64,
    /// A time, and the number of credits that were saved by then.
    credits: (u64, f64),
    cached: Level,
    /// The used part of the room for fast writes.
    used: Level,
    /// The position at which the last request ended.
    position: u64,
    /// When the earlier requests end, if that makes seeks shorter.
    ends_ns: VecDeque<u64>,
}

/// A number of bytes that falls at a constant rate.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    at_ns: u64,
    bytes: f64,
}

impl Level {
    /// Lowers the level to what is left at `now_ns`.
    fn fall(&mut self, now_ns: u64, per_second: u64) {
        let gone = now_ns.saturating_sub(self.at_ns) as f64 / 1e9 * per_second as f64;
        self.bytes = (self.bytes - gone).max(0.0);
        self.at_ns = self.at_ns.max(now_ns);
    }
}

impl Service {
    pub fn new(model: Model) -> Self {
        Self {
            model,
            channels_free_ns: vec![0; model.channels.max(1)],
            bus_free_ns: 0,
            next_start_ns: 0,
            credits: (0, f64::from(model.credits)),
            cached: Level::default(),
            used: Level::default(),
            position: 0,
            ends_ns: VecDeque::new(),
        }
    }

    /// Continues as another disk; requests under way keep their ends.
    pub fn become_another(&mut self, model: Model) {
        self.channels_free_ns.resize(model.channels.max(1), 0);
        self.model = model;
    }

    /// Takes a request that arrives at `now_ns`, no earlier than the one before it, and
    /// returns when it ends.
    pub fn admit(&mut self, now_ns: u64, request: Request) -> u64 {
        self.admit_varied(now_ns, request, 1.0)
    }

    /// Like [`Self::admit`], for a request that takes `times` as long as its class does.
    pub fn admit_varied(&mut self, now_ns: u64, request: Request, times: f64) -> u64 {
        let Model { read, write, flush, discard, discard_per_gib, stalls, iops, .. } = self.model;
        let blocks_all = matches!(request, Request::Discard { .. })
            && self.model.while_discarding == WhileDiscarding::AllWait;
        let channels = self.channels_free_ns.iter().copied().enumerate();
        let free = if blocks_all {
            channels.max_by_key(|(_, free_ns)| *free_ns)
        } else {
            channels.min_by_key(|(_, free_ns)| *free_ns)
        };
        let Some((channel, free_ns)) = free else { return now_ns };
        let mut start_ns = after_stall(now_ns.max(free_ns), stalls);
        if let Some(iops) = iops {
            start_ns = after_stall(self.limit(start_ns, iops.max(1)), stalls);
        }
        let took = |time: Duration| (ns(time) as f64 * times) as u64;

        let end_ns = match request {
            Request::Read { at, bytes } => {
                let seek_ns = self.seek_ns(now_ns, at, bytes);
                self.bus(start_ns + took(read) + seek_ns, bytes)
            }
            Request::Write { at, bytes } => {
                // With a cache the head moves later, when the cache is written out.
                let seek_ns =
                    if self.model.cache.is_none() { self.seek_ns(now_ns, at, bytes) } else { 0 };
                let slower = self.use_fast_writes(start_ns, bytes);
                let start_ns = self.cache(start_ns, bytes);
                self.bus(start_ns + took(write * slower) + seek_ns, bytes)
            }
            Request::Flush => {
                let drained_ns = self.drained_ns(start_ns);
                drained_ns + took(flush)
            }
            Request::Discard { bytes } => {
                let gib = bytes as f64 / f64::from(1 << 30);
                start_ns + took(discard + discard_per_gib.mul_f64(gib))
            }
        };
        if blocks_all {
            self.channels_free_ns.fill(end_ns);
        } else {
            self.channels_free_ns[channel] = end_ns;
        }
        if self.model.head.is_some() {
            self.ends_ns.push_back(end_ns);
        }
        end_ns
    }

    /// When a request may begin that would begin at `start_ns` if there were no limit.
    fn limit(&mut self, start_ns: u64, iops: u32) -> u64 {
        let start_ns = start_ns.max(self.next_start_ns);
        let (then_ns, saved) = self.credits;
        let saved = saved + start_ns.saturating_sub(then_ns) as f64 / 1e9 * f64::from(iops);
        let saved = saved.min(f64::from(self.model.credits));
        if saved >= 1.0 {
            self.credits = (start_ns, saved - 1.0);
            return start_ns;
        }
        self.next_start_ns = start_ns + 1_000_000_000 / u64::from(iops);
        self.credits = (self.next_start_ns, saved);
        start_ns
    }

    fn seek_ns(&mut self, now_ns: u64, at: u64, bytes: u64) -> u64 {
        let Some(Head { seek }) = self.model.head else { return 0 };
        while self.ends_ns.front().is_some_and(|end_ns| *end_ns <= now_ns) {
            self.ends_ns.pop_front();
        }
        let moves = self.position != at;
        self.position = at + bytes;
        let choice = (1.0 + self.ends_ns.len() as f64).log2();
        if moves { (ns(seek) as f64 / (1.0 + choice / 2.0)) as u64 } else { 0 }
    }

    /// The factor by which a write that begins now takes longer.
    fn use_fast_writes(&mut self, start_ns: u64, bytes: u64) -> u32 {
        let Some(fast) = self.model.fast_writes else { return 1 };
        self.used.fall(start_ns, fast.regained_per_second);
        if self.used.bytes + bytes as f64 > fast.bytes as f64 {
            return fast.slower;
        }
        self.used.bytes += bytes as f64;
        1
    }

    /// When a write has room in the cache.
    fn cache(&mut self, start_ns: u64, bytes: u64) -> u64 {
        let Some(cache) = self.model.cache else { return start_ns };
        self.cached.fall(start_ns, cache.drained_per_second);
        self.cached.bytes += bytes as f64;
        let over = (self.cached.bytes - cache.bytes as f64).max(0.0);
        start_ns + (over / cache.drained_per_second.max(1) as f64 * 1e9) as u64
    }

    /// When everything that the cache holds now will be written out.
    fn drained_ns(&mut self, start_ns: u64) -> u64 {
        let Some(cache) = self.model.cache else { return start_ns };
        self.cached.fall(start_ns, cache.drained_per_second);
        start_ns + (self.cached.bytes / cache.drained_per_second.max(1) as f64 * 1e9) as u64
    }

    fn bus(&mut self, ready_ns: u64, bytes: u64) -> u64 {
        let seconds = bytes as f64 / self.model.bytes_per_second.max(1) as f64;
        self.bus_free_ns = ready_ns.max(self.bus_free_ns) + (seconds * 1e9) as u64;
        self.bus_free_ns
    }
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn after_stall(at_ns: u64, stalls: Option<Stalls>) -> u64 {
    let Some(Stalls { every, length }) = stalls else { return at_ns };
    let into_ns = at_ns % ns(every).max(1);
    if into_ns < ns(length) { at_ns - into_ns + ns(length) } else { at_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A disk with two channels, 1 ms per request, and a bus of 1 MB/ms.
    fn service(change: impl FnOnce(&mut Model)) -> Service {
        let mut model = Model {
            channels: 2,
            read: Duration::from_millis(1),
            write: Duration::from_millis(1),
            bytes_per_second: 1_000_000_000,
            ..Model::default()
        };
        change(&mut model);
        Service::new(model)
    }

    fn ends(service: &mut Service, requests: &[Request]) -> Vec<u64> {
        requests.iter().map(|request| service.admit(100 * MS, *request)).collect()
    }

    const READ: Request = Request::Read { at: 0, bytes: 0 };
    const DISCARD: Request = Request::Discard { bytes: 1 << 30 };

    #[test]
    fn as_many_are_served_at_once_as_there_are_channels() {
        let mut service = service(|_| {});
        assert_eq!(ends(&mut service, &[READ; 5]), [101, 101, 102, 102, 103].map(|ms| ms * MS));
    }

    #[test]
    fn bytes_of_all_channels_share_the_bus() {
        let mut service = service(|_| {});
        let write = Request::Write { at: 0, bytes: 2_000_000 };
        assert_eq!(ends(&mut service, &[write; 2]), [103, 105].map(|ms| ms * MS));
    }

    #[test]
    fn a_blocking_discard_waits_for_all_and_all_wait_for_it() {
        let mut service = service(|_| {});
        let requests = [READ, DISCARD, READ, READ];
        assert_eq!(ends(&mut service, &requests), [101, 141, 142, 142].map(|ms| ms * MS));
    }

    #[test]
    fn another_discard_takes_one_channel_and_costs_by_its_length() {
        let mut service = service(|model| {
            model.while_discarding = WhileDiscarding::OthersGoOn;
            model.discard_per_gib = Duration::from_millis(10);
        });
        assert_eq!(ends(&mut service, &[DISCARD, READ, READ]), [150, 101, 102].map(|ms| ms * MS));
    }

    #[test]
    fn starts_are_as_far_apart_as_the_iops_say() {
        let mut service = service(|model| model.iops = Some(100));
        assert_eq!(ends(&mut service, &[READ; 3]), [101, 111, 121].map(|ms| ms * MS));
    }

    #[test]
    fn nothing_begins_in_a_stall() {
        let mut service = service(|model| {
            model.stalls = Some(Stalls {
                every: Duration::from_millis(100),
                length: Duration::from_millis(30),
            });
        });
        assert_eq!(ends(&mut service, &[READ]), [131 * MS]);
        assert_eq!(service.admit(150 * MS, READ), 151 * MS);
    }

    #[test]
    fn saved_credits_are_used_up_before_the_limit_holds() {
        let mut service = service(|model| {
            (model.channels, model.iops, model.credits) = (8, Some(100), 3);
        });
        let all = ends(&mut service, &[READ; 6]);
        assert_eq!(all, [101, 101, 101, 101, 111, 121].map(|ms| ms * MS));
        // Two more credits are saved in 20 ms, when no request is held back.
        let later = 151 * MS;
        assert_eq!(service.admit(later, READ), later + MS);
        assert_eq!(service.admit(later, READ), later + MS);
    }

    #[test]
    fn a_flush_waits_until_the_cache_is_written_out() {
        let mut service = service(|model| {
            model.cache = Some(Cache { bytes: 10_000_000, drained_per_second: 100_000_000 });
            model.bytes_per_second = u64::MAX;
        });
        let write = Request::Write { at: 0, bytes: 5_000_000 };
        assert_eq!(service.admit(100 * MS, write), 101 * MS);
        // 3 MB are left after 20 ms, and take 30 ms; the flush itself 1 ms.
        assert_eq!(service.admit(120 * MS, Request::Flush), 151 * MS);
        assert_eq!(service.admit(500 * MS, Request::Flush), 501 * MS);
    }

    #[test]
    fn a_write_waits_for_room_in_the_cache() {
        let mut service = service(|model| {
            model.cache = Some(Cache { bytes: 10_000_000, drained_per_second: 100_000_000 });
            model.bytes_per_second = u64::MAX;
        });
        let write = Request::Write { at: 0, bytes: 8_000_000 };
        assert_eq!(ends(&mut service, &[write; 2]), [101 * MS, 161 * MS]);
    }

    #[test]
    fn a_head_seeks_for_all_but_the_next_block_and_less_with_a_choice() {
        let mut service = service(|model| {
            model.channels = 1;
            model.head = Some(Head { seek: Duration::from_millis(8) });
        });
        let read = |at: u64| Request::Read { at, bytes: 4096 };
        let first_ns = service.admit(100 * MS, read(1 << 20)) - 100 * MS;
        assert!((9 * MS..=9 * MS + 10_000).contains(&first_ns), "{first_ns}");
        let next_ns = service.admit(200 * MS, read((1 << 20) + 4096)) - 200 * MS;
        assert!((MS..=MS + 10_000).contains(&next_ns), "{next_ns}");
        // With another request in the queue a seek takes 8 / (1 + 1/2) ms.
        let ends: Vec<_> = [0, 5 << 20].map(|at| service.admit(300 * MS, read(at))).into();
        let second_ns = ends[1] - ends[0];
        assert!((6_333_000..=6_350_000).contains(&second_ns), "{second_ns}");
    }

    #[test]
    fn writes_beyond_the_fast_bytes_are_slower_until_there_is_room_again() {
        let mut service = service(|model| {
            (model.channels, model.bytes_per_second) = (1, u64::MAX);
            model.fast_writes =
                Some(FastWrites { bytes: 8192, regained_per_second: 4096, slower: 5 });
        });
        let write = Request::Write { at: 0, bytes: 4096 };
        assert_eq!(ends(&mut service, &[write; 3]), [101, 102, 107].map(|ms| ms * MS));
        assert_eq!(service.admit(1_200 * MS, write), 1_201 * MS);
    }
}
