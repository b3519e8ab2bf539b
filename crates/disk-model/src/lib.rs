//! How long a simulated disk takes for what it is asked.
//!
//! A handful of channels serve requests side by side; each request costs its
//! class's own time, and its bytes go over one bus that all channels share.
//! Pure: times in, times out, in ns of whatever clock the caller has. Knows
//! nothing of FUSE, and nothing of what is on the disk.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a disk is like; may be changed while it runs.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Model {
    /// Requests that are served at the same time.
    pub channels: usize,
    pub read: Duration,
    pub write: Duration,
    pub flush: Duration,
    /// Of one discard, however long.
    pub discard: Duration,
    /// On top of it.
    pub discard_per_gib: Duration,
    pub while_discarding: WhileDiscarding,
    /// Of the bus that reads and writes share.
    pub bytes_per_second: u64,
    /// The most requests of all classes that begin in a second.
    pub iops: Option<u32>,
    pub stalls: Option<Stalls>,
}

/// Whether others are served beside a discard. Behind a loop device only
/// requests that the loop's worker has handed on before it are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum WhileDiscarding {
    AllWait,
    OthersGoOn,
}

/// Moments in which nothing begins.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Stalls {
    pub every: Duration,
    pub length: Duration,
}

/// As a decent disk of a cloud is.
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
            stalls: None,
        }
    }
}

impl Model {
    /// The same disk, everything taking so many times as long.
    pub fn slower(self, times: u32) -> Self {
        Self {
            read: self.read * times,
            write: self.write * times,
            flush: self.flush * times,
            discard: self.discard * times,
            bytes_per_second: self.bytes_per_second / u64::from(times.max(1)),
            ..self
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Request {
    Read { bytes: u64 },
    Write { bytes: u64 },
    Flush,
    Discard { bytes: u64 },
}

/// The disk at work: when each channel and the bus will be free.
#[derive(Debug)]
pub struct Service {
    model: Model,
    channels_free_ns: Vec<u64>,
    bus_free_ns: u64,
    next_start_ns: u64,
}

impl Service {
    pub fn new(model: Model) -> Self {
        let channels_free_ns = vec![0; model.channels.max(1)];
        Self { model, channels_free_ns, bus_free_ns: 0, next_start_ns: 0 }
    }

    /// Goes on as another disk; what is under way keeps its end.
    pub fn become_another(&mut self, model: Model) {
        self.channels_free_ns.resize(model.channels.max(1), 0);
        self.model = model;
    }

    /// Takes a request that arrives at `now_ns`, no earlier than the one before
    /// it, and says when it ends.
    pub fn admit(&mut self, now_ns: u64, request: Request) -> u64 {
        let model = self.model;
        let blocks_all = matches!(request, Request::Discard { .. })
            && model.while_discarding == WhileDiscarding::AllWait;
        let channels = self.channels_free_ns.iter_mut();
        let free = if blocks_all {
            channels.max_by_key(|free_ns| **free_ns)
        } else {
            channels.min_by_key(|free_ns| **free_ns)
        };
        let Some(free) = free else { return now_ns };
        let start_ns = after_stall(now_ns.max(*free).max(self.next_start_ns), model.stalls);
        if let Some(iops) = model.iops {
            self.next_start_ns = start_ns + 1_000_000_000 / u64::from(iops.max(1));
        }

        let end_ns = match request {
            Request::Read { bytes } => self.bus(start_ns + ns(model.read), bytes),
            Request::Write { bytes } => self.bus(start_ns + ns(model.write), bytes),
            Request::Flush => start_ns + ns(model.flush),
            Request::Discard { bytes } => {
                let gib = bytes as f64 / f64::from(1 << 30);
                start_ns + ns(model.discard + model.discard_per_gib.mul_f64(gib))
            }
        };
        if blocks_all {
            self.channels_free_ns.fill(end_ns);
        } else if let Some(free) = self.channels_free_ns.iter_mut().min() {
            *free = end_ns;
        }
        end_ns
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

    /// Two channels, 1 ms each, a bus of 1 MB/ms.
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

    const READ: Request = Request::Read { bytes: 0 };
    const DISCARD: Request = Request::Discard { bytes: 1 << 30 };

    #[test]
    fn as_many_are_served_at_once_as_there_are_channels() {
        let mut service = service(|_| {});
        assert_eq!(ends(&mut service, &[READ; 5]), [101, 101, 102, 102, 103].map(|ms| ms * MS));
    }

    #[test]
    fn bytes_of_all_channels_share_the_bus() {
        let mut service = service(|_| {});
        let write = Request::Write { bytes: 2_000_000 };
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
}
