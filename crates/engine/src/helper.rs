//! Helpers: processes and threads of the node that a victim's syncs wait for, such as
//! the server of its disk or the thread that commits its journal.
//!
//! A helper that waits for a CPU, or is held back by a quota, holds up everybody who
//! waits for it; their requests are in flight meanwhile, or their commit is under way,
//! so without a look at the helper it would be the device's doing, or that of whoever
//! filled the journal. Once a second a tick says how long each helper waited, and what
//! that is a part of: for a server the time that its disk had requests in flight, for
//! others the time that the victim spent in syncs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    freeze::Freezers,
    holders::Holders,
    pauses::Pausers,
    phases::Phase,
    stop::Stoppers,
    sums::Half,
    victim::{Span, Victim},
};

/// The work that a helper does for a sync.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A process that serves the disk.
    Server,
    /// A kernel thread that writes the filesystem's journal or log.
    Journal,
    /// A kernel thread that does the disk's work: of a loop device, an array, dm-crypt.
    Worker,
}

/// A helper in one second.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Helper {
    pub role: Role,
    /// The disk that its victims sync on, as records name it, if there is one.
    pub disk: Option<u32>,
    /// The filesystem's device.
    pub device: u32,
    pub tgid: u32,
    pub comm: String,
    pub cgroup: String,
    /// The time for which it could have run, and did not.
    pub cpu_ns: u64,
    /// The part of it for which a quota held it back.
    pub limit_ns: u64,
    /// The quota, and the cgroup that has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub setting: String,
    /// The time for which it had requests in flight on a disk of its own.
    #[serde(default)]
    pub disk_ns: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub own_disk: String,
    /// The time for which its disk had requests in flight; 0 for one without requests.
    #[serde(default)]
    pub of_ns: u64,
}

/// A server is the cause only if it was held up for this part of the time.
pub const CAUSE: f64 = 1.0 / 3.0;

/// The part of the time for which a thread must be held up to matter.
const MATTERS: f64 = 0.1;

/// A wait for a CPU matters only if it is at least this part of each sync. A thread that wakes
/// waits for some microseconds even if its CPU is idle, and a sync of 60 µs wakes several
/// threads one after another; who ran before them then changes no verdict.
pub const FLOOR: Duration = Duration::from_micros(20);

/// The part of its waits that makes a quota the reason for all of them.
const MOSTLY: f64 = 0.5;

/// Helpers that one victim remembers.
const MAX_HELPERS: usize = 8;

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// It could have run and did not, and of that because of its quota.
    up_ns: f64,
    limit_ns: f64,
    disk_ns: f64,
    of_ns: f64,
}

impl Sums {
    fn add(&mut self, more: &Self) {
        self.up_ns += more.up_ns;
        self.limit_ns += more.limit_ns;
        self.disk_ns += more.disk_ns;
        self.of_ns += more.of_ns;
    }

    /// Whether a victim whose `syncs` waited for `waited_ns` meanwhile was held up for long: for a
    /// part of the time, and of each sync. Of syncs that have not ended, nothing is known.
    fn is_long(&self, cpu_ns: f64, waited_ns: u64, syncs: u64) -> bool {
        let waited_ns = waited_ns as f64;
        let of_ns = if self.of_ns > 0.0 { self.of_ns } else { waited_ns };
        let each_ns = cpu_ns / of_ns.max(1.0) * waited_ns / syncs.max(1) as f64;
        let is_each = syncs == 0 || each_ns >= FLOOR.as_nanos() as f64;
        of_ns > 0.0 && cpu_ns >= MATTERS * of_ns && is_each
    }

    /// The parts of a wait that are for a CPU and for its quota. Who has a quota waits
    /// for little else once it is used up, and the kernel counts that only when it ends.
    fn limited(&self) -> f64 {
        match self.limit_ns / self.up_ns.max(1.0) {
            most if most >= MOSTLY => 1.0,
            part => part,
        }
    }
}

/// A victim's helper, and its sums.
#[derive(Clone, Debug)]
struct HelperSums {
    last: Helper,
    now: Sums,
    before: Sums,
    past: Sums,
    /// Whether it waited for somebody's CPU for long in the last second.
    matters: bool,
}

/// A victim's.
#[derive(Clone, Debug, Default)]
pub struct Helpers {
    known: Vec<HelperSums>,
    /// Those who froze its filesystem.
    pub(super) freezers: Freezers,
    /// Those who dirtied pages while it was paused at the limit on them.
    pub(super) pausers: Pausers,
    /// Whatever stopped its process.
    pub(super) stoppers: Stoppers,
    /// Those who hold up the commits of its journal.
    pub(super) holders: Holders,
}

/// How a helper was over a span: for which parts of the time it was held up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Held {
    pub role: Role,
    pub tgid: u32,
    pub comm: String,
    pub cgroup: String,
    #[serde(rename = "cpu_share")]
    pub cpu: f64,
    #[serde(rename = "limit_share")]
    pub limit: f64,
    /// Requests of its own were in flight on another disk.
    #[serde(rename = "own_disk_share")]
    pub disk: f64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub setting: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub own_disk: String,
    /// Whether it was held up long enough for the wait for it to be the wait for a CPU.
    pub is_cause: bool,
}

impl Held {
    /// It waited for a CPU, or for its quota, for this part of the time.
    pub fn up(&self) -> f64 {
        self.cpu + self.limit
    }
}

impl Victim {
    /// Takes in what happened to a helper of its in the last second, in which its `syncs`
    /// waited for `waited_ns`.
    pub(super) fn help(&mut self, helper: &Helper, waited_ns: u64, syncs: u32) {
        let is_its = match helper.disk {
            Some(disk) if helper.role != Role::Journal => self.is_on(disk),
            _ => helper.device == self.key.device,
        };
        if !is_its {
            return;
        }
        let sums = Sums {
            up_ns: helper.cpu_ns as f64,
            limit_ns: helper.limit_ns.min(helper.cpu_ns) as f64,
            disk_ns: helper.disk_ns as f64,
            of_ns: helper.of_ns as f64,
        };
        let known = self.helpers.find(helper);
        known.now.add(&sums);
        let cpu_ns = sums.up_ns * (1.0 - known.lately().limited());
        known.matters = sums.is_long(cpu_ns, waited_ns, syncs.into());
        if !helper.setting.is_empty() {
            known.last.setting.clone_from(&helper.setting);
        }
        if !helper.own_disk.is_empty() {
            known.last.own_disk.clone_from(&helper.own_disk);
        }
    }

    /// Whether a process is a helper of it that waited for a CPU in the last second.
    pub(super) fn is_held_up_by(&self, tgid: u32) -> bool {
        self.helpers.known.iter().any(|known| known.matters && known.last.tgid == tgid)
    }

    /// For how long its helpers waited for a CPU in the window, in ns: those that waited for long
    /// in all of it. A single second may be longer.
    pub fn held_up_ns(&self) -> f64 {
        let halves = [&self.now, &self.before];
        let waited_ns = halves.map(|half| half.phases.wait_ns() + half.phases.ns[Phase::Runqueue]);
        let (waited_ns, syncs) = (waited_ns.iter().sum(), self.now.syncs + self.before.syncs);
        let waits = self.helpers.known.iter().map(|known| {
            let lately = known.lately();
            (lately, lately.up_ns * (1.0 - lately.limited()))
        });
        let long = waits.filter(|(lately, cpu_ns)| lately.is_long(*cpu_ns, waited_ns, syncs));
        long.map(|(_, cpu_ns)| cpu_ns).sum()
    }

    /// How its helpers were over a span whose sums are `sum`, those most held up first.
    pub(super) fn held(&self, sum: &Half, span: Span) -> Vec<Held> {
        let mut held: Vec<_> =
            self.helpers.known.iter().filter_map(|known| known.held(sum, span)).collect();
        held.sort_by(|a, b| b.up().total_cmp(&a.up()));
        held
    }
}

impl Helpers {
    /// The helper as it is known; whoever was held up least makes room for another, and
    /// servers last of all.
    fn find(&mut self, helper: &Helper) -> &mut HelperSums {
        let is_same = |known: &HelperSums| {
            (known.last.role, known.last.tgid) == (helper.role, helper.tgid)
                && known.last.comm == helper.comm
        };
        let at = match self.known.iter().position(is_same) {
            Some(at) => at,
            None => {
                let weigh = |known: &HelperSums| {
                    let up_ns = known.now.up_ns + known.before.up_ns + known.past.up_ns;
                    (known.last.role == Role::Server, up_ns as u64)
                };
                let least = self.known.iter().enumerate().min_by_key(|(_, known)| weigh(known));
                if let Some((least, _)) = least.filter(|_| self.known.len() >= MAX_HELPERS) {
                    self.known.remove(least);
                }
                let none = Sums::default();
                let last = Helper { own_disk: String::new(), ..helper.clone() };
                self.known.push(HelperSums {
                    last,
                    now: none,
                    before: none,
                    past: none,
                    matters: false,
                });
                self.known.len() - 1
            }
        };
        &mut self.known[at]
    }

    /// Forgets the older half of the window.
    pub(super) fn rotate(&mut self) {
        self.known.retain_mut(HelperSums::rotate);
        self.freezers.rotate();
        self.pausers.rotate();
        self.stoppers.rotate();
        self.holders.rotate();
    }

    pub(super) fn begin_period(&mut self) {
        for known in &mut self.known {
            (known.now, known.before, known.past) = Default::default();
        }
        self.freezers.begin_period();
        self.pausers.begin_period();
        self.stoppers.begin_period();
        self.holders.begin_period();
    }
}

impl HelperSums {
    /// Its sums in the window.
    fn lately(&self) -> Sums {
        let mut lately = self.now;
        lately.add(&self.before);
        lately
    }

    fn held(&self, sum: &Half, span: Span) -> Option<Held> {
        let mut sums = self.lately();
        if span == Span::Period {
            sums.add(&self.past);
        }
        let ticks_ns = f64::from(sum.ticks) * 1e9;
        let of_ns = match sums.of_ns {
            // At most all the time: syncs of several threads overlap.
            none if none <= 0.0 => ticks_ns.min(sum.duration_ns as f64),
            of_ns => of_ns,
        };
        if of_ns <= 0.0 {
            return None;
        }
        let up = (sums.up_ns / of_ns).min(1.0);
        let limit = up * sums.limited();
        let Helper { role, tgid, ref comm, ref cgroup, ref setting, ref own_disk, .. } = self.last;
        Some(Held {
            role,
            tgid,
            comm: comm.clone(),
            cgroup: cgroup.clone(),
            cpu: up - limit,
            limit,
            disk: (sums.disk_ns / of_ns).min(1.0),
            setting: setting.clone(),
            own_disk: own_disk.clone(),
            is_cause: up >= if role == Role::Server { CAUSE } else { MATTERS },
        })
    }

    /// `false` once nothing is known of it.
    fn rotate(&mut self) -> bool {
        self.past.add(&self.before);
        self.before = std::mem::take(&mut self.now);
        self.past.of_ns + self.before.of_ns + self.past.up_ns + self.before.up_ns > 0.0
    }
}
