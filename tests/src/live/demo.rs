use std::{path::Path, time::Duration};

use super::need_live;
use crate::subject::Tracer;

/// The demo names fstrim while it trims, the tenant while it writes, nobody in
/// between; its counts of WAL syncs are etcd's own; and it cleans up.
#[test]
fn the_demo_names_the_culprit_and_nobody_else() {
    need_live!();
    let mut demo = Tracer::start(&["demo", "--fast", "--json"]);
    let status = demo.wait(Duration::from_secs(110));
    assert_eq!(status.code(), Some(0), "{}", demo.transcript());
    let findings = demo.json(Duration::from_secs(1));
    assert_eq!(findings["right"], true);
    let acts = findings["acts"].as_array().expect("acts");
    let first = |act: &str| {
        let act = acts.iter().find(|a| a["act"] == act).expect("the act");
        let part = act["blame"][0].clone();
        (part["actor"]["comm"].clone(), part["share"].as_f64().unwrap_or(0.0))
    };
    for (act, culprit) in [("trim", "fstrim"), ("tenant", "fio")] {
        let (comm, share) = first(act);
        assert_eq!(comm, culprit, "{findings}");
        assert!(share > 0.5, "{findings}");
    }
    let sum = |counts: &serde_json::Value| {
        counts.as_array().expect("counts").iter().filter_map(serde_json::Value::as_u64).sum::<u64>()
    };
    let wal = &findings["wal"];
    assert!(sum(&wal["etcd"]) > 500, "{wal}");
    assert_eq!(sum(&wal["etcd"]), sum(&wal["tracer"]), "{wal}");
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains("tracer-lab-"), "{mounts}");
}

/// Killed in the middle, the demo leaves a disk; the next lab sweeps it.
#[test]
fn an_interrupted_demo_cleans_up() {
    need_live!();
    let mut demo = Tracer::start(&["demo", "--fast"]);
    // The demo has a disk and an etcd by then.
    std::thread::sleep(Duration::from_secs(6));
    demo.interrupt();
    let status = demo.wait(Duration::from_secs(30));
    assert_eq!(status.code(), Some(1), "{}", demo.transcript());
    assert!(demo.transcript().contains("interrupted"), "{}", demo.transcript());
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains("tracer-lab-"), "{mounts}");
    assert!(!Path::new("/sys/fs/cgroup/unified/tracer-lab-etcd").exists());
}
