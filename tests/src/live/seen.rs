//! Changes that an agent sees by itself, and marks in its recording.

use std::{fs, path::Path, process::Command, thread::sleep, time::Duration};

use serde_json::Value;
use tracer_lab::{disk::Filesystem, wal::WalWriter};

use super::{
    lab_disk, need_live,
    served::{Agent, free_address},
};
use crate::subject::{Tracer, tracer_bin};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_scheduler_and_a_mount_option_that_are_changed_are_marked_with_the_syncs_around_it() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    let (name, point) = (disk.name().to_owned(), disk.mountpoint().to_owned());
    let file = format!("/sys/block/{name}/queue/scheduler");
    let offered = fs::read_to_string(&file).unwrap();
    let (before, after) = match offered.contains("[none]") {
        true => ("none", "mq-deadline"),
        false => ("mq-deadline", "none"),
    };
    if !offered.contains(after) {
        crate::skip::skip!("`{name}` has no scheduler but {offered}");
    }
    let folder = point.join("recording");
    let config = tempfile::NamedTempFile::new().unwrap();
    fs::write(&config, "period = \"2s\"\n").unwrap();
    let address = free_address();
    let paths = [config.path(), &folder].map(|path: &Path| path.to_str().unwrap().to_owned());
    let [config_path, folder] = paths;
    let listen = address.to_string();
    let args = ["agent", "--listen", &listen, "--config", &config_path, "--record", &folder];
    let agent = Agent::until_ready(Tracer::start(&args), address);
    agent.tracer.wait_for(30 * SECOND, "records into");
    let writer = WalWriter::start(&point, 100).unwrap();
    // The agent needs a period to know the victim, and a look to know its settings.
    sleep(9 * SECOND);
    fs::write(&file, after).unwrap();
    let point = point.to_str().unwrap();
    let remounted = Command::new("mount").args(["-o", "remount,noatime", point]).status().unwrap();
    assert!(remounted.success());
    sleep(6 * SECOND);
    let _ = writer.stop();
    sleep(3 * SECOND);

    let timeline = |more: &[&str]| {
        let args = [&["timeline", &folder, "--filter", "wal"], more].concat();
        let output = Command::new(tracer_bin()).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = timeline(&[]);
    println!("{lines}");
    let events = timeline(&["--json"]);
    let events: Vec<Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let marks: Vec<_> = events.iter().filter(|event| event["event"] == "mark").collect();
    let scheduler = format!("scheduler of {name} changed from {before} to {after}");
    let mark = marks.iter().find(|mark| mark["text"] == scheduler.as_str());
    let mark = mark.unwrap_or_else(|| panic!("{marks:?}"));
    assert_eq!(mark["seen"], true);
    for minute in ["before", "after"] {
        let syncs = mark["around"][0][minute]["syncs"].as_f64().unwrap_or_default();
        assert!(syncs > 100.0, "{minute}: {mark}");
    }
    let says = |mark: &&&Value| {
        let text = mark["text"].as_str().unwrap_or_default();
        text.starts_with("mount options of ") && text.contains(&format!(" on {name} changed from "))
    };
    let mount = marks.iter().find(says).unwrap_or_else(|| panic!("{marks:?}"));
    assert!(mount["text"].as_str().unwrap().contains("noatime"), "{mount}");
    assert!(lines.contains(&format!("  seen     {scheduler}; ")), "{lines}");
}
