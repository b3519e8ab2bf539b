//! A victim whose cgroup has more memory than `memory.high`: the kernel lets each of its threads
//! sleep that allocates, mostly on its way out of the kernel, and the syncs stay quick.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use tracer_lab::{cgroup::Cgroup, process::Process};

use super::{
    cgroups::{cgroup_with_io, folder, has_controllers},
    devices::{self, Device, Mounted, NullBlk, write},
    need, need_guest,
};
use crate::{
    simulated::parts::{Account, Part},
    skip::skip,
    subject::{Tracer, tracer_bin},
};

const MODULES: [&str; 2] = ["configfs", "null_blk"];
/// The service time of every request.
const DELAY: Duration = Duration::from_millis(2);
/// The timeout of anything that takes seconds on an emulated machine.
const LONG: Duration = Duration::from_secs(180);
const QUIET: Duration = Duration::from_secs(16);
const BUSY: Duration = Duration::from_secs(24);

/// There is no swap, so none of this can be reclaimed.
const HEAP_BYTES: usize = 48 << 20;
/// The limit is below that by a twentieth or so.
const LIMIT_BYTES: usize = 46 << 20;

/// Fields are dropped in order: what runs, then what it runs on.
struct Stage {
    _bystander: Process,
    victim: Process,
    account: PathBuf,
    cgroup: Cgroup,
    _mounted: Mounted,
    _device: Device,
}

impl Stage {
    /// A victim that allocates this much for each record, and an innocent that writes to its disk.
    fn build(bytes: u64, buffer_bytes: usize) -> Self {
        let device = devices::null_blk(NullBlk { delay: DELAY, ..NullBlk::default() }).unwrap();
        let mounted = Mounted::ext4(&device.path()).expect("ext4 on it");
        let cgroup = cgroup_with_io("store").unwrap();
        let beside = cgroup_with_io("bystander").unwrap();
        let account = mounted.path().join("account");
        let victim = Part::Builder {
            file: mounted.path().join("store"),
            bytes,
            buffer_bytes,
            per_second: 20,
            heap_bytes: HEAP_BYTES,
            account: account.clone(),
        };
        let victim = victim.start("store", &cgroup).unwrap();
        let bystander = Part::Writer {
            file: mounted.path().join("bystander"),
            file_bytes: 4 << 20,
            bytes_per_second: 1 << 20,
        };
        let bystander = bystander.start("bystander", &beside).unwrap();
        let end = Instant::now() + LONG;
        while !Account::read(&account).is_ok_and(|account| account.syncs > 20) {
            assert!(Instant::now() < end && victim.ended().is_none(), "{:?}", victim.ended());
            sleep(Duration::from_millis(100));
        }
        Self { _bystander: bystander, victim, account, cgroup, _mounted: mounted, _device: device }
    }

    fn account(&self) -> Account {
        Account::read(&self.account).expect("it keeps account")
    }

    /// Sets `memory.high`.
    fn limit(&self, to: &str) {
        write(&folder(&self.cgroup).join("memory.high"), to).unwrap();
    }

    /// The time for which all of its cgroup waited for memory, as the kernel counts it; 0 where it
    /// does not.
    fn stalled_seconds(&self) -> f64 {
        let pressure = fs::read_to_string(folder(&self.cgroup).join("memory.pressure"));
        let pressure = pressure.unwrap_or_default();
        let full = pressure.lines().find_map(|line| line.strip_prefix("full "));
        let total = full.and_then(|full| full.rsplit_once("total=")?.1.parse::<f64>().ok());
        total.unwrap_or(0.0) / 1e6
    }

    /// The verdict on a time without the limit, and then with it.
    fn watch(&self) -> Seen {
        let mut command = Command::new("nice");
        let length = (QUIET + BUSY).as_secs();
        command.args(["-n", "19"]).arg(tracer_bin()).args(["why", &self.victim.pid().to_string()]);
        command.args(["--for", &format!("{length}s"), "--json"]);
        let mut why = Tracer::spawn(command);
        why.wait_for(LONG, "watching");
        let of_quiet = self.account();
        sleep(QUIET);
        let (before, stalled) = (self.account(), self.stalled_seconds());
        let begin = Instant::now();
        self.limit(&LIMIT_BYTES.to_string());
        sleep(BUSY.saturating_sub(begin.elapsed()));
        let (after, used) = (self.account(), self.stalled_seconds() - stalled);
        let events = fs::read_to_string(folder(&self.cgroup).join("memory.events.local"));
        let verdict = why.find_line(LONG, |line| line.starts_with('{'));
        self.limit("max");
        assert_eq!(why.wait(LONG).code(), Some(0), "{}", why.transcript());
        let verdict: Value = serde_json::from_str(&verdict).unwrap();
        // A round takes its time without the limit, too.
        let each = (before.seconds - of_quiet.seconds) / (before.syncs - of_quiet.syncs) as f64;
        let rounds = after.syncs - before.syncs;
        let felt = after.seconds - before.seconds - each * rounds as f64;
        println!(
            "a round took {:.1} ms before; {rounds} rounds in {:?}, {felt:.2} s longer; stalled for \
             {used:.2} s; {}",
            each * 1e3,
            begin.elapsed(),
            events.unwrap_or_default().replace('\n', ", "),
        );
        println!("{}: {}", verdict["kind"], verdict["verdict"]);
        println!(
            "{}, {}: {}",
            verdict["confidence"], verdict["confidence_reason"], verdict["stop"]
        );
        Seen { verdict, felt }
    }
}

/// A verdict, and for how much longer its rounds took at its limit than before, as the victim says.
struct Seen {
    verdict: Value,
    felt: f64,
}

fn swaps() -> bool {
    fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1)
}

/// The first process waits for the others to end.
fn shows_where_threads_sleep() -> bool {
    fs::read_to_string("/proc/1/wchan").is_ok_and(|function| function != "0")
}

/// Skips unless a cgroup's memory can be limited here, and none of it is swapped.
macro_rules! need_limits {
    () => {
        need_guest!();
        need!(&MODULES, &[]);
        if !has_controllers() || swaps() {
            skip!("this kernel has no memory controller for cgroups, or the machine swaps");
        }
    };
}

#[test]
fn a_victim_above_its_memory_high_is_slowed_by_that_limit() {
    need_limits!();
    let stage = Stage::build(64 << 10, 256 << 10);
    let seen = stage.watch();
    let Seen { verdict, felt } = &seen;
    assert!(*felt > 6.0, "the limit was not in force: it felt {felt} s");
    assert_eq!(verdict["kind"], "limit", "{verdict}");
    // Only the number of syncs shows it where the kernel does not say in which function a thread sleeps.
    let confidence = if shows_where_threads_sleep() { "high" } else { "medium" };
    assert_eq!(verdict["confidence"], confidence, "{verdict}");
    assert_eq!(verdict["culprits"].as_array().map(Vec::len), Some(0), "{verdict}");
    let stop = &verdict["stop"];
    let setting = format!("memory.high of {}", stage.cgroup.path());
    assert_eq!(stop["how"], "memory", "{verdict}");
    assert_eq!(stop["setting"], setting.as_str(), "{verdict}");
    assert_eq!(stop["limit_bytes"], LIMIT_BYTES, "{verdict}");
    let used = stop["used_bytes"].as_u64().expect("it is known how much is used");
    assert!(used > LIMIT_BYTES as u64, "{verdict}");
    let said = verdict["outside_seconds"].as_f64().expect("a number");
    assert!((0.6 * felt..=1.2 * felt).contains(&said), "said {said} s of {felt} s: {verdict}");
    let sentence = verdict["verdict"].as_str().unwrap_or_default();
    assert!(sentence.contains(&format!("memory is reached ({setting}: 48.2 MB, ")), "{sentence}");
}

/// Another thread of it waits all the time, and hardly anything of that keeps a sync waiting.
#[test]
fn a_victim_whose_other_thread_alone_is_above_memory_high_is_not_slow() {
    need_limits!();
    let stage = Stage::build(512, 0);
    let seen = stage.watch();
    let said = seen.verdict["outside_seconds"].as_f64().expect("a number");
    println!("said {said:.2} s of {:.2} s", seen.felt);
    assert!(said <= 1.2 * seen.felt.max(0.0) + 1.0, "{}", seen.verdict);
    assert_ne!(seen.verdict["kind"], "limit", "{}", seen.verdict);
}
