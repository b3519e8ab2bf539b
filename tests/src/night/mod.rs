//! Two hours of a simulated node with five incidents and ten minutes of a harmless job:
//! `tracer timeline` finds the five and no sixth, and `tracer why --at` names the cause of each. The
//! truth is the script that the simulation follows.

mod generator;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use generator::{BEGIN, Neighbour, Night};
use serde_json::Value;
use tempfile::TempDir;
use tracer_disk_model::Model;
use tracer_timelines::timeline::{Phase, TRIMS, phase, reads, well, writes};

use crate::subject::tracer_bin;

/// It reads all night.
const PROMETHEUS: Neighbour = Neighbour {
    id: 2,
    comm: "prometheus",
    unit: "prometheus.service",
    stream: reads(1, Some(200)),
};
const FSTRIM: Neighbour =
    Neighbour { id: 3, comm: "fstrim", unit: "fstrim.service", stream: TRIMS };
const BACKUP: Neighbour =
    Neighbour { id: 4, comm: "restic", unit: "backup.service", stream: writes(24, None) };
/// A tenth of what the disk can do, one after another.
const CRON: Neighbour =
    Neighbour { id: 5, comm: "updatedb", unit: "cron.service", stream: reads(1, Some(50)) };

/// The script of a part of the night.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Nothing,
    Beside(Neighbour),
    /// The disk's requests take eight times as long.
    SlowDevice,
    /// etcd's own limit holds each of its syncs for 40 ms.
    Held,
    /// The disk answers nothing for 90 s; the tracer is killed and started again meanwhile.
    Hang,
}

/// Each entry holds from a second of the night on, until the next one.
const SCRIPT: [(u64, Happens); 13] = [
    (0, Happens::Nothing),
    (600, Happens::Beside(FSTRIM)),
    (780, Happens::Nothing),
    (1800, Happens::SlowDevice),
    (1980, Happens::Nothing),
    (3000, Happens::Hang),
    (3090, Happens::Nothing),
    (4200, Happens::Held),
    (4380, Happens::Nothing),
    (5400, Happens::Beside(BACKUP)),
    (5580, Happens::Nothing),
    (6000, Happens::Beside(CRON)),
    (6600, Happens::Nothing),
];
const END: u64 = 7200;

/// A timeline is exact to ten seconds, and an event is over after half a minute without it.
const LATE: f64 = 45.0;

fn slow_device() -> Model {
    let well = well();
    let slow = |time: Duration| time * 8;
    let (read, write) = (slow(well.read), slow(well.write));
    Model { read, write, flush: slow(well.flush), ..well }
}

/// Writes the recording, and says how many syncs are in it.
fn make(path: &Path) -> u64 {
    let mut night = Night::new(path);
    let ends = SCRIPT.iter().skip(1).map(|(at, _)| *at).chain([END]);
    for ((_, happens), end) in SCRIPT.into_iter().zip(ends) {
        let steady = Some(PROMETHEUS);
        let for_rest = |disk| phase(end.saturating_sub(night.second()), disk, &[]);
        match happens {
            Happens::Nothing => night.play(for_rest(well()), [steady, None]),
            Happens::Beside(one) => night.play(for_rest(well()), [steady, Some(one)]),
            Happens::SlowDevice => night.play(for_rest(slow_device()), [steady, None]),
            Happens::Held => {
                let held = Phase { held_ns: 40_000_000, ..for_rest(well()) };
                night.play(held, [steady, None]);
            }
            Happens::Hang => night.hang(),
        }
    }
    let syncs = night.syncs;
    night.end();
    syncs
}

/// Runs the tracer on the recording, and returns what it prints.
#[track_caller]
fn ask(args: &[&str]) -> String {
    let began = Instant::now();
    let output = Command::new(tracer_bin()).args(args).env("TZ", "UTC").output().unwrap();
    let [said, complaint] =
        [&output.stdout, &output.stderr].map(|out| String::from_utf8_lossy(out));
    println!("{args:?} took {:?}", began.elapsed());
    assert!(output.status.success(), "{args:?}: {complaint}");
    said.into_owned()
}

/// The incidents: from, to.
fn incidents() -> Vec<(Happens, f64, f64)> {
    let two = SCRIPT.windows(2);
    let all = two.map(|two| (two[0].1, two[0].0 as f64, two[1].0 as f64));
    let is_one = |happens: &Happens| match happens {
        Happens::Nothing => false,
        Happens::Beside(one) => one.id != CRON.id,
        _ => true,
    };
    all.filter(|(happens, ..)| is_one(happens)).collect()
}

#[test]
fn the_timeline_of_a_night_has_its_five_incidents_and_no_sixth() {
    let folder = TempDir::new().unwrap();
    // Scenarios keep their recordings by this variable, too.
    let kept = env::var_os("TRACER_KEEP_RECORDINGS").map(|kept| PathBuf::from(kept).join("night"));
    let path = kept.unwrap_or_else(|| folder.path().join("recording"));
    let began = Instant::now();
    let syncs = make(&path);
    println!("{syncs} syncs of two hours were made in {:?}", began.elapsed());
    let path = path.to_str().unwrap();
    println!("{}", ask(&["timeline", path]));
    let said = ask(&["timeline", path, "--json"]);
    let events: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let at = |event: &Value| event["at"].as_f64().unwrap() - BEGIN as f64;
    let is_within =
        |event: &Value, from: f64, to: f64| at(event) >= from - 10.0 && at(event) <= to + LATE;
    let incidents = incidents();
    assert_eq!(incidents.len(), 5);
    for event in &events {
        let is_expected = incidents.iter().any(|(_, from, to)| is_within(event, *from, *to));
        assert!(is_expected, "a sixth, at {} s: {event}", at(event));
    }
    for (happens, from, to) in &incidents {
        let word = if matches!(happens, Happens::Hang) { "hang" } else { "slow_began" };
        let mut its = events.iter().filter(|event| is_within(event, *from, *to));
        assert!(its.any(|event| event["event"] == word), "{happens:?} is not in it:\n{said}");
    }
    for (happens, from, to) in incidents {
        let why = why(path, from + 10.0, to);
        let culprit = &why["culprits"][0];
        let said = (why["kind"].as_str(), culprit["comm"].as_str(), culprit["op"].as_str());
        let truth = match happens {
            Happens::Beside(one) if one.id == FSTRIM.id => {
                ("owners", Some("fstrim"), Some("discard"))
            }
            Happens::Beside(_) => ("owners", Some("restic"), Some("write")),
            Happens::Held => ("limit", None, None),
            // prometheus reads as it did before, and is not named.
            _ => ("device", None, None),
        };
        assert_eq!(said, (Some(truth.0), truth.1, truth.2), "{happens:?}: {why}");
    }
    let cron = why(path, 6000.0, 6600.0);
    assert_eq!((&cron["kind"], &cron["culprits"]), (&"none".into(), &Value::Array(Vec::new())));
}

/// The verdict on etcd between two seconds of the night.
#[track_caller]
fn why(path: &str, from: f64, to: f64) -> Value {
    let (at, length) = (from as u64, format!("{}s", (to - from) as u64));
    let at = format!("2026-11-30T{:02}:{:02}:{:02}Z", 1 + at / 3600, at / 60 % 60, at % 60);
    let said = ask(&["why", "etcd", "--recording", path, "--at", &at, "--for", &length, "--json"]);
    serde_json::from_str(&said).unwrap()
}
