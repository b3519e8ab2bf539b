//! A victim whose process is stopped: at its syncs by one who traces it, or as a whole by a signal
//! or by the freezer of its cgroup.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Result;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tracer_lab::{cgroup_v1::CgroupV1, disk::Filesystem};

use super::{
    need_stage, play,
    stage::{Stage, bystander, cgroup},
    verdict::{Actor, QUIET_TRUTH, Truth, watch_for},
};
use crate::{simulated::parts::Part, skip::skip};

const SECOND: Duration = Duration::from_secs(1);

/// Each sync waits for 8 ms before it, and for 8 ms after it. etcd counts both.
#[test]
fn who_traces_etcd_is_named() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let (debug, beside) = (cgroup("debug"), cgroup("bystander"));
        let _bystander = bystander(stage).start("bystander", &beside).unwrap();
        let (mut pid, mut traced) = (0, Duration::ZERO);
        let seen = watch_for(stage, 20 * SECOND, |length| {
            let tracer = Part::Tracer { pid: stage.etcd.pid(), pause: Duration::from_millis(8) };
            let tracer = tracer.start("strace", &debug).unwrap();
            let begin = Instant::now();
            sleep(length);
            assert!(tracer.ended().is_none(), "{:?}", tracer.ended());
            (pid, traced) = (tracer.pid(), begin.elapsed());
        });
        let truth = Truth {
            kinds: &["owners"],
            culprits: &[Actor { comm: "strace", cgroup: &debug }],
            innocent: &[Actor { comm: "bystander", cgroup: &beside }],
            slower: 0.0,
        };
        let felt = seen.own_seconds - seen.said_seconds();
        let said = seen.verdict.outside_seconds;
        println!("etcd felt {felt:.2} s around its syncs in {traced:?}; said {said:.2} s");
        println!("verdict: {}", seen.verdict.verdict);
        seen.judge_verdict("a debugger", &truth);
        // It is sampled ten times a second.
        assert!((0.7 * felt..=1.3 * felt).contains(&said), "etcd felt {felt}: {seen:?}");
        let culprit = &seen.verdict.culprits[0];
        let (op, via) = (culprit.op.as_deref(), culprit.via.as_deref());
        assert_eq!((op, via), (Some("trace"), Some("trace")), "{culprit:?}");
        assert_eq!(culprit.confidence.as_deref(), Some("high"), "{culprit:?}");
        let sentence = &seen.verdict.verdict;
        assert!(sentence.contains(&format!("pid {pid}, traces it (ptrace)")), "{sentence}");
    });
}

/// The one who traces it looks at each system call, and lets it go on at once.
#[test]
fn a_debugger_that_hardly_stops_etcd_is_not_blamed() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let debug = cgroup("debug");
        let seen = watch_for(stage, 8 * SECOND, |length| {
            let tracer = Part::Tracer { pid: stage.etcd.pid(), pause: Duration::ZERO };
            let _tracer = tracer.start("strace", &debug).unwrap();
            sleep(length);
        });
        let strace = Actor { comm: "strace", cgroup: &debug };
        seen.judge_verdict("a quick debugger", &Truth { innocent: &[strace], ..QUIET_TRUTH });
    });
}

/// Stops etcd for four seconds in ten, and asserts that this is said, and of nobody.
fn who_is_stopped_is_said_to_be(
    scenario: &str,
    says: &str,
    stop: impl Fn(&Stage) -> Result<()>,
    resume: impl Fn(&Stage) -> Result<()>,
) {
    play(Filesystem::Ext4, |stage| {
        let beside = cgroup("bystander");
        let _bystander = bystander(stage).start("bystander", &beside).unwrap();
        let mut stopped = Duration::ZERO;
        let seen = watch_for(stage, 20 * SECOND, |length| {
            let begin = Instant::now();
            for round in 0..2 {
                sleep((round * 10 * SECOND).saturating_sub(begin.elapsed()));
                let since = Instant::now();
                stop(stage).unwrap();
                sleep(4 * SECOND);
                resume(stage).unwrap();
                stopped += since.elapsed();
            }
            sleep(length.saturating_sub(begin.elapsed()));
        });
        let innocent = [Actor { comm: "bystander", cgroup: &beside }];
        let truth = Truth { kinds: &["limit"], innocent: &innocent, ..QUIET_TRUTH };
        let (said, stopped) = (seen.verdict.outside_seconds, stopped.as_secs_f64());
        println!("stopped for {stopped:.2} s, of which it says {said:.2} s");
        println!("verdict: {}", seen.verdict.verdict);
        seen.judge_verdict(scenario, &truth);
        assert!((0.8 * stopped..=1.05 * stopped).contains(&said), "{seen:?}");
        assert_eq!(seen.verdict.confidence, "high", "{seen:?}");
        assert!(seen.verdict.verdict.contains(says), "{}", seen.verdict.verdict);
    });
}

fn signal(stage: &Stage, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(stage.etcd.pid())?), signal)?)
}

#[test]
fn an_etcd_that_a_signal_stops_is_said_to_be_stopped() {
    need_stage!();
    who_is_stopped_is_said_to_be(
        "SIGSTOP",
        "a signal stopped it (SIGSTOP), and it did not run for",
        |stage| signal(stage, Signal::SIGSTOP),
        |stage| signal(stage, Signal::SIGCONT),
    );
}

#[test]
fn an_etcd_whose_cgroup_is_frozen_is_said_to_be_stopped() {
    need_stage!();
    who_is_stopped_is_said_to_be(
        "a frozen cgroup",
        "its cgroup was frozen (cgroup.freeze of /tracer-lab-",
        |stage| stage.cgroup.set("cgroup.freeze", "1"),
        |stage| stage.cgroup.set("cgroup.freeze", "0"),
    );
}

#[test]
fn an_etcd_whose_cgroup_of_version_1_is_frozen_is_said_to_be_stopped() {
    need_stage!();
    let Some(freezer) = CgroupV1::create("freezer", "etcd").unwrap() else {
        skip!("there is no cgroup v1 hierarchy for freezer");
    };
    who_is_stopped_is_said_to_be(
        "a frozen cgroup of version 1",
        "its cgroup was frozen (freezer.state of /tracer-lab-",
        |stage| {
            freezer.add(stage.etcd.pid())?;
            freezer.set("freezer.state", "FROZEN")
        },
        |stage| {
            freezer.set("freezer.state", "THAWED")?;
            freezer.leave(stage.etcd.pid())
        },
    );
}
