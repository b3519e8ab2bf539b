use std::{collections::BTreeSet, thread::sleep, time::Duration};

use tracer_kernel::{capability::Capability, program::Program};

use super::need_live;
use crate::subject::Tracer;

/// How long a test waits for a tracer that has to load every program, so that a hang fails it.
/// An emulated machine takes half a minute to verify what this one verifies in half a second.
const LOADS: Duration = Duration::from_secs(120);

/// The ids of the programs in the kernel that have a name.
pub(super) fn loaded(program: Program) -> BTreeSet<u32> {
    aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .filter(|loaded| loaded.name() == program.name().as_bytes())
        .map(|loaded| loaded.id())
        .collect()
}

#[test]
fn doctor_says_that_this_machine_can_be_traced() {
    need_live!();
    let mut doctor = Tracer::start(&["doctor"]);
    let status = doctor.wait(LOADS);
    assert_eq!(status.code(), Some(0), "{}", doctor.transcript());
    assert!(
        doctor.transcript().contains("can find who makes syncs slow"),
        "{}",
        doctor.transcript()
    );
}

#[test]
fn killing_the_tracer_leaves_no_program_loaded() {
    need_live!();
    let before = loaded(Program::BlockRqIssue);
    let mut top = Tracer::start(&["top", "--batch", "--interval", "0.2"]);
    top.line(LOADS);
    let mut of_top = &loaded(Program::BlockRqIssue) - &before;
    assert_eq!(of_top.len(), 1);
    top.kill();
    top.wait(Duration::from_secs(10));
    // The kernel frees them when the last reference is gone, a moment later.
    for _ in 0..50 {
        of_top = &of_top & &loaded(Program::BlockRqIssue);
        if of_top.is_empty() {
            return;
        }
        sleep(Duration::from_millis(100));
    }
    panic!("still loaded: {of_top:?}");
}

#[test]
fn top_answers_within_five_seconds_and_stops_when_asked() {
    need_live!();
    let mut top = Tracer::start(&["top", "--json", "--interval", "0.5"]);
    let snapshot = top.json(Duration::from_secs(5));
    assert_eq!(snapshot["schema"], 2);
    assert!(snapshot["dropped"].as_object().is_some_and(|kinds| !kinds.is_empty()));
    assert!(snapshot["metrics"]["tracer_dropped_total{kind=\"ring_full\"}"].is_number());
    top.interrupt();
    assert_eq!(top.wait(Duration::from_secs(5)).code(), Some(0), "{}", top.transcript());
}

/// The strategy that would be selected is skipped, and a named strategy that is unsupported
/// is reported and replaced.
#[test]
fn a_strategy_that_was_asked_for_comes_first() {
    need_live!();
    for wish in ["tracepoint", "vfs"] {
        let mut doctor =
            Tracer::start(&["doctor", "--json", "--strategy", &format!("sync={wish}")]);
        let report = doctor.json(LOADS);
        let capabilities = report["capabilities"].as_array().expect("capabilities");
        let sync = capabilities
            .iter()
            .find(|c| c["capability"] == Capability::Sync.name())
            .expect("syncs");
        let strategies = sync["strategies"].as_array().expect("strategies");
        let selected: Vec<_> =
            strategies.iter().filter(|r| r[1]["outcome"] == "selected").collect();
        assert_eq!(selected.len(), 1, "{sync}");
        let unsupported = report["unsupported"].as_array().expect("sentences");
        let says = |text: &str| unsupported.iter().any(|b| b.as_str().unwrap_or("").contains(text));
        if selected[0][0] == wish {
            let others = strategies.iter().filter(|r| r[0] != wish);
            assert!(others.into_iter().all(|r| r[1]["outcome"] == "not_needed"), "{sync}");
        } else {
            assert!(says(&format!("sync by `{wish}` is ")), "{unsupported:?}");
        }
        assert_eq!(doctor.wait(Duration::from_secs(10)).code(), Some(0));
    }
}
