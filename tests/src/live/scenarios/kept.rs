//! A disk that is slow when the tracer starts, and was not before.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, thread::sleep, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use tracer_disk_model::Model;
use tracer_lab::disk::Filesystem;

use super::{need_stage, play, steady::small};
use crate::{live::served::Agent, subject::Tracer};

const SECOND: Duration = Duration::from_secs(1);

/// For the agent to learn: eight batches of a second are worth keeping.
const LEARNS: Duration = Duration::from_secs(11);
const WATCHES: &str = "7s";

fn why(state: &Path) -> Tracer {
    let state = state.to_str().unwrap();
    Tracer::start(&["why", "etcd", "--for", WATCHES, "--json", "--state-dir", state])
}

#[test]
fn a_damaged_reference_is_named_and_counted_and_in_nobodys_way() {
    crate::live::need_live!();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("reference"), "tracer-reference 1 2 00000000\n[]").unwrap();
    let state = folder.path().to_str().unwrap();
    let mut top = Tracer::start(&["top", "--json", "-n", "1", "--state-dir", state]);
    let snapshot = top.json(30 * SECOND);
    assert_eq!(top.wait(10 * SECOND).code(), Some(0), "{}", top.transcript());
    assert_eq!(snapshot["dropped"]["reference_refused"], 1, "{snapshot}");
    assert_eq!(snapshot.get("reference_at"), None);
    let says = top.transcript();
    assert!(
        says.contains("reference` are not used: its length or checksum does not fit"),
        "{says}"
    );
}

/// The syncs take less than the limit for any log, so only the kept reference shows that they
/// are slow.
#[test]
fn a_disk_that_became_slow_before_the_start_is_named_beside_a_kept_reference() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        stage.disk.become_another(&small()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (state, nothing) = (folder.path().join("state"), folder.path().join("nothing"));
        let config = folder.path().join("agent.toml");
        fs::write(&config, format!("period = \"1s\"\nstate-dir = \"{}\"\n", state.display()))
            .unwrap();
        let mut agent = Agent::start(&config);
        sleep(LEARNS);
        agent.tracer.signal(Signal::SIGTERM);
        assert_eq!(agent.tracer.wait(10 * SECOND).code(), Some(0));
        let says = agent.tracer.transcript();
        assert!(!says.contains("failed") && !says.contains("refused"), "{says}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let kept = state.join("reference");
        assert_eq!((mode(&state), mode(&kept)), (0o700, 0o600));
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);

        let slow = Duration::from_millis(2);
        let then = Model { read: slow, write: slow, flush: Duration::from_millis(4), ..small() };
        stage.disk.become_another(&then).unwrap();
        sleep(SECOND);
        let [mut known, mut unknown] = [why(&state), why(&nothing)];
        let [known, unknown]: [Value; 2] =
            [&mut known, &mut unknown].map(|why| why.json(30 * SECOND));
        let brief = |why: &Value| {
            let of = |name: &str| why[name].to_string();
            format!(
                "{} {} {} p50 {}",
                of("kind"),
                of("confidence"),
                of("verdict"),
                of("p50_seconds")
            )
        };
        println!("with {}\nwithout {}", brief(&known), brief(&unknown));
        assert_eq!(known["kind"], "device", "{known}");
        let sentence = known["verdict"].as_str().unwrap();
        assert!(sentence.contains("the device is slower than it was on 20"), "{sentence}");
        let age = known["to"].as_f64().unwrap() - known["reference_at"].as_f64().unwrap();
        assert!((0.0..60.0).contains(&age), "a reference of {age} s ago");
        let times = known["device"]["reference_times"].as_f64().unwrap();
        assert!((2.0..20.0).contains(&times), "{times} times");
        assert_ne!(unknown["kind"], "device", "{unknown}");
        assert_eq!(unknown.get("reference_at"), None);
        assert!(!nothing.exists(), "a command writes nothing");
    });
}
