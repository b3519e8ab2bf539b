//! Whether this machine was its own while a scenario was played.
//!
//! A scenario is an experiment: it asserts what a disk with a known model does to
//! etcd. Where others take this machine's CPUs away meanwhile, they are a culprit
//! that the scenario knows nothing of. So one that failed is played again, if an
//! independent witness tells of such a thing, and never otherwise.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Plays of one scenario, at most.
const PLAYS: u32 = 3;
/// Between two looks of the witness at the clock.
const BEAT: Duration = Duration::from_millis(2);
/// A beat that comes so much later was held up.
const LATE: Duration = Duration::from_millis(20);
/// Of the time, that an undisturbed machine holds beats up in scenarios.
const LATE_SHARE: f64 = 0.01;
/// Of all CPU time, that a hypervisor gives to others at rest.
const STOLEN_SHARE: f64 = 0.02;

/// Plays it until it is right, or wrong on an undisturbed machine, or has been
/// played [`PLAYS`] times.
pub fn play_undisturbed(scenario: impl Fn()) {
    for play in 1.. {
        let witness = Witness::call();
        let ended = catch_unwind(AssertUnwindSafe(&scenario));
        let told = witness.testify();
        match (ended, told.disturbance()) {
            (Ok(()), _) => return,
            (Err(_), Some(what)) if play < PLAYS => println!("played again: {what}"),
            (Err(panic), _) => resume_unwind(panic),
        }
    }
}

/// Who looks at the clock while a scenario is played.
struct Witness {
    stop: Arc<AtomicBool>,
    beats: JoinHandle<Duration>,
    begun: Instant,
    stolen: Option<Stolen>,
}

/// What a [`Witness`] saw, as shares of the time.
#[derive(Clone, Copy, Debug)]
struct Testimony {
    /// In which a beat was held up by [`LATE`] or more.
    late: f64,
    /// That the hypervisor gave to others; zero where it does not tell.
    stolen: f64,
}

impl Witness {
    fn call() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let beats = thread::spawn(move || {
            let mut late = Duration::ZERO;
            while !told.load(Ordering::Relaxed) {
                let before = Instant::now();
                thread::sleep(BEAT);
                let by = before.elapsed().saturating_sub(BEAT);
                late += if by >= LATE { by } else { Duration::ZERO };
            }
            late
        });
        Self { stop, beats, begun: Instant::now(), stolen: Stolen::read() }
    }

    fn testify(self) -> Testimony {
        self.stop.store(true, Ordering::Relaxed);
        let late = self.beats.join().expect("it only looks at the clock");
        let stolen = self.stolen.zip(Stolen::read()).map_or(0.0, |(from, to)| to.share(from));
        Testimony { late: late.as_secs_f64() / self.begun.elapsed().as_secs_f64(), stolen }
    }
}

impl Testimony {
    fn disturbance(self) -> Option<String> {
        let percent = |share: f64| share * 1e2;
        if self.stolen >= STOLEN_SHARE {
            return Some(format!("the hypervisor took {:.1}% of the CPUs", percent(self.stolen)));
        }
        let late = percent(self.late);
        (self.late >= LATE_SHARE)
            .then(|| format!("a sleeper got no CPU for {late:.1}% of the time"))
    }
}

/// CPU time of all CPUs since the boot, in ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stolen {
    stolen: u64,
    all: u64,
}

impl Stolen {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq,
    /// softirq, steal; guests' time is within the first two. proc(5)
    fn parse(stat: &str) -> Option<Self> {
        let mut words = stat.lines().next()?.split_ascii_whitespace();
        words.next().filter(|word| *word == "cpu")?;
        let ticks: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
        Some(Self { stolen: *ticks.get(7)?, all: ticks.iter().sum() })
    }

    /// Of the time since `before`.
    fn share(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.stolen.saturating_sub(before.stolen) as f64 / all as f64
    }
}

#[test]
fn what_was_stolen_is_told_as_a_share_of_all() {
    let stolen = |stat| Stolen::parse(stat).unwrap();
    let before = stolen("cpu  10 5 20 900 40 1 4 20 7 7\ncpu0 1 2 3 4 5 6 7 8 9 10\n");
    assert_eq!(before, Stolen { stolen: 20, all: 1000 });
    let after = stolen("cpu  60 5 20 930 40 1 4 40 50 0\n");
    assert!((after.share(before) - 0.2).abs() < 1e-9);
    assert_eq!(before.share(before), 0.0);
    assert_eq!(Stolen::parse("cpu  1 2 3"), None);
    assert_eq!(Stolen::parse("intr 1 2 3 4 5 6 7 8"), None);
}

#[test]
fn a_failure_is_final_where_nobody_disturbed() {
    let (quiet, late, stolen) = (0.0, Testimony { late: 0.5, stolen: 0.0 }, 0.5);
    assert_eq!(Testimony { late: quiet, stolen: quiet }.disturbance(), None);
    assert!(late.disturbance().unwrap().contains("50.0% of the time"));
    assert!(Testimony { late: quiet, stolen }.disturbance().unwrap().contains("hypervisor"));
}
