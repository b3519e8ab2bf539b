//! Tests of the unit for hosts without Kubernetes.

use std::fs;

use super::{find_program, read};
use crate::skip::skip;

const UNIT: &str = "deploy/systemd/tracer.service";

#[test]
fn the_service_is_one_that_systemd_takes() {
    let Some(mut systemd) = find_program("systemd-analyze") else {
        skip!("`systemd-analyze` is not installed");
    };
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("tracer.service");
    // It would complain that the tracer is not installed.
    let unit = read(UNIT).replace("ExecStart=/usr/local/bin/tracer", "ExecStart=/bin/true");
    fs::write(&copy, unit).unwrap();
    let output = systemd.args(["verify", "--man=no"]).arg(&copy).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // It accepts what it does not know, but names it; it names other units' faults, too.
    let of_ours: Vec<_> = said.lines().filter(|line| line.contains("tracer.service")).collect();
    assert_eq!(of_ours, [""; 0]);
    assert!(output.status.success(), "{said}");
}

#[test]
fn what_it_may_do_is_bounded_by_what_it_gets() {
    let unit = read(UNIT);
    let value = |name: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {UNIT}")).to_owned()
    };
    assert_eq!(value("AmbientCapabilities="), value("CapabilityBoundingSet="));
    assert_eq!(value("NoNewPrivileges="), "yes");
    let state = value("Environment=TRACER_STATE_DIR=");
    assert_eq!(state, format!("/var/lib/{}", value("StateDirectory=")));
    assert_eq!(value("StateDirectoryMode="), "0700");
}
