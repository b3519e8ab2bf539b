//! The wall's clock is set while an agent runs, or the machine is suspended or stopped: times of
//! day are right a second later, and no duration changes with them.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    process::Command,
    thread::{self, sleep},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::{sys::time::TimeSpec, time::ClockId, unistd::gettid};
use serde_json::Value;
use tempfile::TempDir;
use tracer_lab::wal::WalWriter;

use super::{
    devices::{DMSETUP, Device, Mounted, delayed, loop_device, set_delay},
    need, need_guest,
};
use crate::{
    live::served::{Agent, free_address},
    skip::skip,
    subject::{Tracer, tracer_bin},
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR_SECONDS: i64 = 3600;

/// The clock is read again once a second, and an emulated machine may be late by as much.
const SETTLED: Duration = Duration::from_millis(2500);

/// The delay of each bio, so that a sync takes long enough to be kept.
const DELAY: Duration = Duration::from_millis(20);
/// The delay for a sync during which the clock is set.
const LONG_DELAY: Duration = Duration::from_secs(3);
/// Anything is shown within this time: a busy host may give an emulated CPU little of its own.
const SHOWN: Duration = Duration::from_secs(900);
/// One answer about the past takes at most this time; the agent gives it up after a minute.
const ANSWER: Duration = Duration::from_secs(90);
const DISK: &str = "tracer-clock";
const PER_SECOND: u32 = 10;

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Sets the wall's clock ahead by some seconds, or back.
fn step(seconds: i64) {
    let to = unix_seconds() as i64 + seconds;
    let set = Command::new("date").args(["-s", &format!("@{to}")]).output().unwrap();
    assert!(set.status.success(), "{set:?}");
    println!("the clock was set by {seconds} s");
}

/// Waits until something is so, and shows what the agent said if it never is.
#[track_caller]
fn wait_until(agent: &Agent, what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + SHOWN;
    while !is_so() {
        assert!(Instant::now() < end, "not: {what}; it said:\n{}", agent.tracer.transcript());
        sleep(SECOND / 5);
    }
}

/// A time of day that lies between two readings of the clock, to a second.
#[track_caller]
fn check_time(what: &str, at: f64, [before, after]: [f64; 2]) {
    println!("{what}: {:.3} s after the begin of {:.3} s", at - before, after - before);
    assert!((before - 1.0..=after + 1.0).contains(&at), "{what}: {at}, not {before} to {after}");
}

/// A sync in a thread of its own, as the test measured it.
struct Measured {
    tid: i32,
    /// The clock before the call and after it.
    clock: [f64; 2],
    seconds: f64,
}

fn sync(folder: &Path, name: &str) -> Measured {
    let measure = || {
        let mut file = File::create(folder.join(name)).unwrap();
        file.write_all(&[7; 4096]).unwrap();
        let (before, at) = (unix_seconds(), Instant::now());
        file.sync_all().unwrap();
        let seconds = at.elapsed().as_secs_f64();
        Measured { tid: gettid().as_raw(), clock: [before, unix_seconds()], seconds }
    };
    thread::scope(|scope| scope.spawn(measure).join().unwrap())
}

/// The sync of this thread, as the agent has it.
fn shown(agent: &Agent, measured: &Measured) -> Value {
    let find = || {
        let answer = agent.json("/api/v1/syncs?limit=1000");
        let syncs = answer["syncs"].as_array().cloned().unwrap_or_default();
        syncs.into_iter().find(|sync| sync["tid"] == measured.tid)
    };
    let what = format!("a sync of thread {} is kept", measured.tid);
    wait_until(agent, &what, || find().is_some());
    find().unwrap()
}

#[track_caller]
fn check_shown(agent: &Agent, name: &str, measured: &Measured) {
    let sync = shown(agent, measured);
    let [at, seconds] = [&sync["at"], &sync["duration_seconds"]].map(|v| v.as_f64().unwrap());
    let Measured { clock: [before, after], seconds: most, .. } = *measured;
    println!("{name}: a sync of {seconds:.3} s, measured as {most:.3} s");
    assert!((0.0..=most).contains(&seconds), "{name}: {seconds} and not {most}");
    check_time(&format!("{name}: its begin"), at, [before, after - seconds]);
}

/// Everything that the agent's series say of durations and counts.
#[track_caller]
fn check_series(agent: &Agent, since: Instant) {
    let metrics = agent.metrics();
    let values = metrics.lines().filter(|line| !line.starts_with('#'));
    let values = values.filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name, value.parse::<f64>().unwrap()))
    });
    let mut sums = 0;
    for (name, value) in values {
        assert!(!value.is_nan() && value.is_sign_positive(), "{name} {value}");
        // There are few threads, and none waits longer than the test lasts.
        if name.contains("_seconds")
            && !name.contains("_bucket")
            && !name.contains("_count")
            && !name.contains("_timestamp")
        {
            let most = 20.0 * since.elapsed().as_secs_f64();
            assert!(value <= most, "{name} {value} in {most} s");
            sums += 1;
        }
    }
    assert!(sums > 10, "{metrics}");
    // The last verdicts from before the clock was set are replaced at the end of a period, which
    // an emulated machine may reach late.
    let age = || unix_seconds() - agent.json("/api/v1/verdicts")["at"].as_f64().unwrap();
    wait_until(agent, "verdicts have the time of now", || (-1.0..=5.0).contains(&age()));
}

/// Asks for the timeline of the last hour. The process that answers has a low priority, so on an
/// emulated CPU the answer may take minutes.
#[track_caller]
fn timeline(agent: &Agent) -> Value {
    let end = Instant::now() + SHOWN;
    loop {
        match agent.try_get_within(ANSWER, "/api/v1/timeline", "") {
            Some((200, _, body)) => return serde_json::from_str(&body).expect("JSON"),
            // It took too long, or others are being answered.
            Some((503 | 504, ..)) | None => sleep(SECOND),
            Some((status, _, body)) => panic!("{status}: {body}"),
        }
        assert!(Instant::now() < end, "no timeline; it said:\n{}", agent.tracer.transcript());
    }
}

/// The last hour has these marks and no others; the last of them was set within this time.
#[track_caller]
fn check_timeline(agent: &Agent, since: Instant, marks: &[&str], clock: [f64; 2]) {
    let timeline = timeline(agent);
    let events = timeline["events"].as_array().unwrap();
    let set: Vec<_> =
        events.iter().filter(|one| one["event"] == "mark" && one["seen"] == false).collect();
    let texts: Vec<_> = set.iter().filter_map(|mark| mark["text"].as_str()).collect();
    assert_eq!(texts, marks, "{timeline:#}");
    let (last, at) = (texts.last().unwrap(), set.last().unwrap()["at"].as_f64().unwrap());
    check_time(&format!("{last}: its mark"), at, clock);
    // Nothing has lasted longer than the agent has been there, which does not count the time
    // for which a machine was suspended.
    let most = since.elapsed().as_secs_f64() + 10.0;
    for event in events {
        let seconds = event["seconds"].as_f64().unwrap_or(0.0);
        assert!((0.0..most).contains(&seconds), "{event}");
    }
}

/// An agent that records, beside a log on a slow disk.
struct Scene {
    agent: Agent,
    folder: TempDir,
    began: Instant,
    // These are dropped in this order.
    writer: WalWriter,
    mounted: Mounted,
    _disk: Device,
}

impl Scene {
    fn start() -> Self {
        let disk = delayed(DISK, loop_device(256 << 20).unwrap()).unwrap();
        let mounted = Mounted::ext4(&disk.path()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [socket, recording] =
            ["agent.sock", "recording"].map(|name| folder.path().join(name).display().to_string());
        let address = free_address();
        let listen = address.to_string();
        let args = ["agent", "--listen", &listen, "--record", &recording, "--socket", &socket];
        let began = Instant::now();
        let tracer = Tracer::start(&[&args[..], &["--period", "2s", "--min-sync", "1ms"]].concat());
        let agent = Agent::until_ready(tracer, address);
        agent.tracer.wait_for(60 * SECOND, "records into");
        let writer = WalWriter::start(&mounted.path().join("etcd"), PER_SECOND).unwrap();
        set_delay(DISK, DELAY).unwrap();
        sleep(5 * SECOND);
        Self { agent, folder, began, writer, mounted, _disk: disk }
    }

    /// The clock before and after it.
    fn mark(&self, text: &str) -> [f64; 2] {
        let before = unix_seconds();
        let socket = self.folder.path().join("agent.sock");
        let mut command = Command::new(tracer_bin());
        let marked = command.args(["mark", text, "--socket"]).arg(socket).output().unwrap();
        assert!(marked.status.success(), "{marked:?}");
        [before, unix_seconds()]
    }

    /// Checks all that has a time of day or a duration, while the clock is as it is now. The
    /// last hour has the marks of this name and of these others.
    #[track_caller]
    fn check(&self, name: &str, others: &[&str]) {
        check_shown(&self.agent, name, &sync(self.mounted.path(), name));
        check_series(&self.agent, self.began);
        let marked = self.mark(name);
        sleep(SETTLED);
        check_timeline(&self.agent, self.began, &[others, &[name]].concat(), marked);
    }

    /// Makes a sync that takes some seconds, and does something a second after its begin. Returns
    /// how long it took by the agent, which is no longer than was measured here.
    #[track_caller]
    fn long_sync(&self, name: &str, meanwhile: impl FnOnce()) -> f64 {
        set_delay(DISK, LONG_DELAY).unwrap();
        let folder = self.mounted.path();
        let long = thread::scope(|scope| {
            let long = scope.spawn(move || sync(folder, "long"));
            sleep(SECOND);
            meanwhile();
            long.join().unwrap()
        });
        set_delay(DISK, DELAY).unwrap();
        assert!(long.seconds >= LONG_DELAY.as_secs_f64(), "{}", long.seconds);
        let seconds = shown(&self.agent, &long)["duration_seconds"].as_f64().unwrap();
        println!("{name}: the sync that was under way took {seconds:.3} of {:.3} s", long.seconds);
        let least = LONG_DELAY.as_secs_f64() * 0.9;
        assert!((least..=long.seconds).contains(&seconds), "{name}: {seconds}");
        seconds
    }

    fn end(self) {
        let Self { agent, writer, mounted, .. } = self;
        drop((agent, writer));
        set_delay(DISK, Duration::ZERO).unwrap();
        drop(mounted);
    }
}

#[test]
fn after_the_clock_was_set_times_are_right_and_no_duration_changes() {
    need_guest!();
    need!(&["dm-mod", "dm-delay"], &[DMSETUP]);
    let scene = Scene::start();
    scene.check("before", &[]);
    for (hours, name) in [(1, "ahead"), (-2, "back"), (1, "as it was")] {
        // A sync is under way meanwhile.
        scene.long_sync(name, || {
            step(hours * HOUR_SECONDS);
            sleep(SETTLED);
            check_series(&scene.agent, scene.began);
        });
        // Whatever was marked before is of another hour, or of this one by the clock before it was
        // set.
        scene.check(name, &[]);
    }
    scene.end();
}

/// Suspends the machine as far as all its clocks stand, for five seconds.
fn suspend() -> io::Result<()> {
    let power = Path::new("/sys/power");
    fs::write(power.join("pm_test"), "core")?;
    fs::write(power.join("state"), "mem")
}

#[test]
fn after_the_machine_was_suspended_times_are_right() {
    need_guest!();
    need!(&["dm-mod", "dm-delay"], &[DMSETUP]);
    let scene = Scene::start();
    scene.check("before", &[]);
    let [booted, up] =
        [ClockId::CLOCK_BOOTTIME, ClockId::CLOCK_MONOTONIC].map(|c| c.now().unwrap());
    if let Err(error) = suspend() {
        scene.end();
        skip!("this machine cannot be suspended: {error}");
    }
    let seconds = |since: TimeSpec, clock: ClockId| {
        Duration::from(clock.now().unwrap() - since).as_secs_f64()
    };
    let stood = seconds(booted, ClockId::CLOCK_BOOTTIME) - seconds(up, ClockId::CLOCK_MONOTONIC);
    println!("the kernel's clock stood for {stood:.3} s");
    if stood < 3.0 {
        scene.end();
        skip!("the kernel's clock does not stand while this machine is suspended");
    }
    sleep(SETTLED);
    scene.check("resumed", &["before"]);
    scene.end();
}

/// Has QEMU stopped for some seconds. A hypervisor does the same to a machine that it migrates: the
/// clocks go on, and the kernel does not notice. Returns the longest gap that this thread saw.
fn pause(seconds: u64) -> Duration {
    // Whoever reads the console stops the machine, a moment after this line.
    io::stdout().write_all(format!("\ntracer-vm: pause {seconds}\n").as_bytes()).unwrap();
    let end = Instant::now() + 60 * SECOND;
    let mut last = Instant::now();
    loop {
        sleep(SECOND / 100);
        let stood = last.elapsed();
        if stood.as_secs() + 1 >= seconds {
            return stood;
        }
        last = Instant::now();
        assert!(last < end, "the machine was not stopped");
    }
}

#[test]
fn after_the_machine_was_stopped_unnoticed_times_are_right() {
    const PAUSE_SECONDS: u64 = 8;
    need_guest!();
    need!(&["dm-mod", "dm-delay"], &[DMSETUP]);
    let scene = Scene::start();
    scene.check("before", &[]);
    let mut stood = Duration::ZERO;
    let seconds = scene.long_sync("stopped", || stood = pause(PAUSE_SECONDS));
    println!("nothing ran for {:.3} s", stood.as_secs_f64());
    // The kernel's clock ran on, so the sync that was under way includes the pause.
    assert!(seconds >= stood.as_secs_f64(), "{seconds} s with {stood:?} in it");
    sleep(SETTLED);
    scene.check("went on", &["before"]);
    scene.end();
}
