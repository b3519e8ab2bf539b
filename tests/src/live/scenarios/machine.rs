//! Finds out whether other work disturbed this machine while a scenario was played.
//!
//! A scenario is an experiment: it asserts what a disk with a known model does to etcd. If
//! other processes take this machine's CPUs away meanwhile, they are a culprit that the
//! scenario does not know. So a scenario that failed is played again if an independent
//! witness saw such a disturbance, and never otherwise.
//!
//! The CPU time of strangers is all that was used, except for that of this process and those
//! that it started, and except for kernel threads, whose work may be for anybody. The tracer
//! is not asked.

use std::{
    collections::HashMap,
    fmt::{self, Display, Formatter},
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

/// The largest number of plays of one scenario.
const PLAYS: u32 = 3;
/// The time between two looks of the witness at the clock.
const BEAT: Duration = Duration::from_millis(2);
/// A beat that is later than this was held up.
const LATE: Duration = Duration::from_millis(20);
/// On an undisturbed machine, late beats lose at most this share of the time.
const LATE_SHARE: f64 = 0.01;
/// At rest, a hypervisor gives at most this share of CPU time to others.
const STOLEN_SHARE: f64 = 0.02;
/// On a machine that runs only the scenario, strangers use less than this share of all
/// CPU time: 1.5 % at most in eleven plays there.
const STRANGERS_SHARE: f64 = 0.03;
/// The flag of kernel threads in `/proc/<pid>/stat`:
/// <https://elixir.bootlin.com/linux/v6.12/source/include/linux/sched.h>.
const PF_KTHREAD: u64 = 0x0020_0000;

/// Plays a scenario until it is right, or wrong on an undisturbed machine, or has been played
/// [`PLAYS`] times.
pub fn play_undisturbed(scenario: impl Fn()) {
    for play in 1.. {
        let witness = Witness::call();
        let ended = catch_unwind(AssertUnwindSafe(&scenario));
        let observed = witness.end();
        println!("{observed}");
        match (ended, observed.disturbance()) {
            (Ok(()), _) => return,
            (Err(_), Some(what)) if play < PLAYS => println!("played again: {what}"),
            (Err(panic), _) => resume_unwind(panic),
        }
    }
}

/// A watcher of clocks while a scenario is played.
struct Witness {
    stop: Arc<AtomicBool>,
    beats: JoinHandle<Duration>,
    begun: Instant,
    used: Option<Used>,
}

/// The observations of a [`Witness`], as shares of the time.
#[derive(Clone, Copy, Debug)]
struct Observations {
    /// The share in which a beat was held up by [`LATE`] or more.
    late: f64,
    /// The CPU time that the hypervisor gave to others; zero if it is not reported.
    stolen: f64,
    /// The CPU time of processes that do not belong to the scenario.
    strangers: f64,
}

impl Witness {
    fn call() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let beats = thread::spawn(move || {
            let mut late = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let before = Instant::now();
                thread::sleep(BEAT);
                let by = before.elapsed().saturating_sub(BEAT);
                late += if by >= LATE { by } else { Duration::ZERO };
            }
            late
        });
        Self { stop, beats, begun: Instant::now(), used: Used::read() }
    }

    fn end(self) -> Observations {
        self.stop.store(true, Ordering::Relaxed);
        let late = self.beats.join().expect("it only looks at the clock");
        let elapsed = self.begun.elapsed();
        let used = self.used.as_ref().zip(Used::read());
        let (stolen, strangers) = used.map_or((0.0, 0.0), |(before, after)| {
            (after.stolen_since(before), after.strangers_since(before, elapsed))
        });
        Observations { late: late.as_secs_f64() / elapsed.as_secs_f64(), stolen, strangers }
    }
}

impl Observations {
    fn disturbance(self) -> Option<String> {
        let percent = |share: f64| share * 1e2;
        if self.stolen >= STOLEN_SHARE {
            return Some(format!("the hypervisor took {:.1}% of the CPUs", percent(self.stolen)));
        }
        if self.strangers >= STRANGERS_SHARE {
            return Some(format!("strangers used {:.1}% of the CPUs", percent(self.strangers)));
        }
        let late = percent(self.late);
        (self.late >= LATE_SHARE)
            .then(|| format!("a sleeper got no CPU for {late:.1}% of the time"))
    }
}

impl Display for Observations {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { late, stolen, strangers } = self;
        let [late, stolen, strangers] = [late, stolen, strangers].map(|share| share * 1e2);
        write!(f, "machine: strangers {strangers:.1}%, stolen {stolen:.1}%, late {late:.1}%")
    }
}

/// All CPU time that was used since the boot, and by whom.
#[derive(Clone, Debug, PartialEq)]
struct Used {
    cpus: Ticks,
    /// The CPU time of this process and those that it has waited for, which is that of the whole
    /// scenario once it is over.
    own: Duration,
    /// The CPU time of kernel threads, by pid.
    kernel: HashMap<u32, Duration>,
}

impl Used {
    fn read() -> Option<Self> {
        let cpus = Ticks::parse(&fs::read_to_string("/proc/stat").ok()?)?;
        Some(Self { cpus, own: read_own()?, kernel: read_kernel_threads() })
    }

    /// A share of all CPU time.
    fn stolen_since(&self, before: &Self) -> f64 {
        let all = self.cpus.all.saturating_sub(before.cpus.all).max(1);
        self.cpus.stolen.saturating_sub(before.cpus.stolen) as f64 / all as f64
    }

    /// A share of all CPU time, at least zero: the kernel counts it in ticks, and
    /// that of single threads in nanoseconds.
    fn strangers_since(&self, before: &Self, elapsed: Duration) -> f64 {
        let all = self.cpus.all.saturating_sub(before.cpus.all).max(1);
        let busy = self.cpus.busy.saturating_sub(before.cpus.busy) as f64 / all as f64;
        let threads = self.kernel.iter().map(|(pid, used)| {
            // A pid may have been reused for another thread meanwhile.
            used.checked_sub(before.kernel.get(pid).copied().unwrap_or_default()).unwrap_or(*used)
        });
        let known = self.own.saturating_sub(before.own) + threads.sum::<Duration>();
        let capacity = elapsed.as_secs_f64() * self.cpus.count as f64;
        (busy - known.as_secs_f64() / capacity.max(1e-9)).max(0.0)
    }
}

/// CPU times of all CPUs since the boot, in ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ticks {
    busy: u64,
    stolen: u64,
    all: u64,
    /// CPUs.
    count: usize,
}

impl Ticks {
    /// `/proc/stat` begins with a line of user, nice, system, idle, iowait, irq,
    /// softirq, steal (guests' time is within the first two) of all CPUs, and has one
    /// for each. proc(5)
    fn parse(stat: &str) -> Option<Self> {
        let mut lines = stat.lines();
        let mut words = lines.next()?.split_ascii_whitespace();
        words.next().filter(|word| *word == "cpu")?;
        let ticks: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
        let [user, nice, system, _idle, _iowait, irq, softirq, stolen] = ticks[..] else {
            return None;
        };
        let busy = user + nice + system + irq + softirq;
        let count = lines.take_while(|line| line.starts_with("cpu")).count();
        Some(Self { busy, stolen, all: ticks.iter().sum(), count })
    }
}

/// The CPU time of this process and those that it has waited for.
fn read_own() -> Option<Duration> {
    let mut own = Duration::ZERO;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who).ok()?;
        let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        own += Duration::from_micros(us.try_into().ok()?);
    }
    Some(own)
}

/// CPU times of all kernel threads that can be read.
fn read_kernel_threads() -> HashMap<u32, Duration> {
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    let thread = |pid: u32| {
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        if !is_kernel_thread(&read("stat")?) {
            return None;
        }
        let ran = read("schedstat")?;
        let ns = ran.split_ascii_whitespace().next()?.parse().ok()?;
        Some((pid, Duration::from_nanos(ns)))
    };
    pids.filter_map(thread).collect()
}

/// Whether `/proc/<pid>/stat` is that of a kernel thread; a name in it may contain anything.
/// See proc(5).
fn is_kernel_thread(stat: &str) -> bool {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let flags = after_name.split_ascii_whitespace().nth(6);
    flags.and_then(|flags| flags.parse::<u64>().ok()).is_some_and(|flags| flags & PF_KTHREAD != 0)
}

const STAT: &str = "cpu  10 5 20 900 40 1 4 20 7 7\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 1\nintr 1\n";

#[test]
fn cpu_time_is_used_stolen_or_idle() {
    let ticks = Ticks::parse(STAT).unwrap();
    assert_eq!(ticks, Ticks { busy: 40, stolen: 20, all: 1000, count: 2 });
    assert_eq!(Ticks::parse("cpu  1 2 3"), None);
    assert_eq!(Ticks::parse("intr 1 2 3 4 5 6 7 8"), None);
}

/// Two CPUs for ten seconds, in ticks of 10 ms: a share of 0.1 is two seconds.
#[test]
fn strangers_used_what_nobody_else_did() {
    let used = |busy, stolen, own, threads: &[(u32, u64)]| Used {
        cpus: Ticks { busy, stolen, all: 5000 + 2000 * u64::from(busy > 1000), count: 2 },
        own: Duration::from_secs(own),
        kernel: threads.iter().map(|(pid, ms)| (*pid, Duration::from_millis(*ms))).collect(),
    };
    let before = used(1000, 10, 40, &[(2, 7000), (9, 500)]);
    let shares = |busy, own, threads: &[(u32, u64)]| {
        let after = used(busy, 50, own, threads);
        (after.stolen_since(&before), after.strangers_since(&before, Duration::from_secs(10)))
    };
    let assert_is = |(stolen, strangers): (f64, f64), is: f64| {
        assert!((stolen - 0.02).abs() < 1e-9 && (strangers - is).abs() < 1e-9, "{strangers}");
    };
    // 12 s were used: 6 by strangers, where 5 are its own and 1 the kernel's.
    assert_is(shares(2200, 45, &[(2, 8000), (9, 500)]), 0.3);
    // One thread is new, and another has a pid that was used before.
    assert_is(shares(2200, 45, &[(2, 7000), (9, 200), (11, 800)]), 0.3);
    assert_is(shares(2200, 52, &[]), 0.0);
    // The ticks may add up to less than the threads' own times.
    assert_is(shares(2200, 53, &[]), 0.0);
}

#[test]
fn kernel_threads_are_known_by_a_flag() {
    assert!(is_kernel_thread("9 (kworker/0:1) I 2 0 0 0 -1 69238880 0 0 0 0"));
    assert!(!is_kernel_thread("7 (a) b) I 2) S 1 7 7 0 -1 4194560 1 0 0 0"));
    assert!(!is_kernel_thread("7 (a"));
}

#[test]
fn a_failure_is_final_where_nobody_disturbed() {
    let quiet = Observations { late: 0.0, stolen: 0.0, strangers: 0.02 };
    let says = |observed: Observations, what| {
        assert!(observed.disturbance().unwrap().contains(what), "{observed:?}");
    };
    assert_eq!(quiet.disturbance(), None);
    says(Observations { late: 0.5, ..quiet }, "50.0% of the time");
    says(Observations { stolen: 0.5, ..quiet }, "hypervisor");
    says(Observations { strangers: 0.3, ..quiet }, "strangers used 30.0%");
}
