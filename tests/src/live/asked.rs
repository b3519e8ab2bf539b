//! An agent that is asked about a time that is over, and somebody who says what they did.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use tracer_lab::{disk::Filesystem, wal::WalWriter};

use super::{
    lab_disk, need_live,
    served::{Agent, free_address},
};
use crate::subject::{Tracer, as_nobody, tracer_bin};

const SECOND: Duration = Duration::from_secs(1);
const PER_SECOND: u32 = 100;

fn agent(address: SocketAddr, folder: &Path, socket: &str) -> Agent {
    let (listen, folder) = (address.to_string(), folder.to_str().unwrap().to_owned());
    let args = ["agent", "--listen", &listen, "--record", &folder, "--socket", socket];
    Agent::until_ready(Tracer::start(&args), address)
}

/// Runs a command to its end, which must be good, and returns its output.
#[track_caller]
fn run(args: &[&str]) -> String {
    let output = Command::new(tracer_bin()).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_was_recorded_is_asked_through_the_agent_with_marks() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    let folder = disk.mountpoint().join("recording");
    let socket = disk.mountpoint().join("agent.sock");
    let (socket, address) = (socket.to_str().unwrap(), free_address());
    let unix = format!("unix:{socket}");
    let agent = agent(address, &folder, socket);
    agent.tracer.wait_for(30 * SECOND, "records into");
    let writer = WalWriter::start(disk.mountpoint(), PER_SECOND).unwrap();
    sleep(8 * SECOND);
    let before = writer.drain().done as f64;
    run(&["mark", "stopped <fstrim>", "--socket", socket]);
    sleep(SECOND);
    let meanwhile = writer.drain().done as f64;
    sleep(7 * SECOND);
    // From here on nothing is added, and the recorder has time to write the last second.
    let after = writer.stop().done as f64;
    sleep(3 * SECOND);

    // The verdict is the same by the path, by the socket and by the directory.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let at = now - 14;
    let by_path = agent.json(&format!("/api/v1/why?victim=wal&at={at}&for=5s"));
    let at = format!("{}Z", humantime(at));
    let asked = ["why", "wal", "--at", &at, "--for", "5s", "--json"];
    let parsed = |text: String| -> Value { serde_json::from_str(&text).unwrap() };
    let by_socket = parsed(run(&[&asked[..], &["--agent", &unix]].concat()));
    let by_folder = parsed(run(&[&asked[..], &["--recording", folder.to_str().unwrap()]].concat()));
    for field in ["victim", "kind", "syncs", "from", "to", "p99_seconds"] {
        assert_eq!(by_path[field], by_folder[field], "{field}: {by_path}\n{by_folder}");
        assert_eq!(by_socket[field], by_folder[field], "{field}: {by_socket}\n{by_folder}");
    }

    let timeline = run(&["timeline", "--agent", &unix, "--json", "--filter", "wal"]);
    let events: Vec<Value> =
        timeline.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mark = events.iter().find(|event| event["event"] == "mark");
    let mark = mark.unwrap_or_else(|| panic!("{timeline}"));
    assert_eq!((&mark["text"], &mark["uid"]), (&"stopped <fstrim>".into(), &0.into()));
    let around = &mark["around"][0];
    let syncs = |minute: &str| around[minute]["syncs"].as_f64().unwrap();
    let [marked_before, marked_after] = ["before", "after"].map(syncs);
    println!("{before}, {meanwhile}, {after} syncs; {marked_before}, {marked_after} by the mark");
    // Its own syncs of a new file are not appends.
    let all = before + meanwhile + after;
    let marked = marked_before + marked_after;
    assert!((all..=all + 3.0).contains(&marked), "{all}: {mark}");
    // The loop takes a mark within a tenth of a second after the command.
    assert!((before..=before + meanwhile + 3.0).contains(&marked_before), "{before}: {mark}");
    let report = run(&["report", "--agent", &format!("http://{address}")]);
    assert!(report.contains("stopped &lt;fstrim&gt; [uid 0]"), "{report}");
    assert!(!report.contains("<fstrim>"), "{report}");

    // Nobody else may open the socket, and the port takes no marks.
    let refused = as_nobody(&["timeline", "--agent", &unix], b"");
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && why.contains("Permission denied"), "{why}");
    assert_eq!(agent.try_get("/api/v1/marks", "").unwrap().0, 404);
}

/// RFC 3339 without a zone, in UTC.
fn humantime(unix_seconds: u64) -> String {
    let date = Command::new("date")
        .args(["-u", "-d", &format!("@{unix_seconds}"), "+%Y-%m-%dT%H:%M:%S"])
        .output()
        .unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}
