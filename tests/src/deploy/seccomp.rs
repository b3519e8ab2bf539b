//! The profile for engines that refuse `bpf()`: it is as narrow as an engine's own, and in
//! a form that each engine can read.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::{read, workspace};
use crate::skip::skip;

const PROFILE: &str = "deploy/seccomp/tracer.json";

/// The two calls that the profile is there for.
const ADDED: [&str; 2] = ["bpf", "perf_event_open"];

fn profile() -> Value {
    serde_json::from_str(&read(PROFILE)).unwrap()
}

fn names(rule: &Value) -> impl Iterator<Item = String> {
    rule["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned())
}

/// The calls of all rules that `wanted` picks.
fn calls(profile: &Value, wanted: impl Fn(&Value) -> bool) -> BTreeSet<String> {
    let rules = profile["syscalls"].as_array().unwrap();
    rules.iter().filter(|rule| wanted(rule)).flat_map(names).collect()
}

fn allows(rule: &Value) -> bool {
    rule["action"] == "SCMP_ACT_ALLOW"
}

/// The runtime's own form, which containerd requires and the engines read, too.
#[test]
fn the_profile_has_only_what_every_runtime_reads() {
    let profile = profile();
    let fields: Vec<_> = profile.as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, ["architectures", "defaultAction", "defaultErrnoRet", "syscalls"]);
    for rule in profile["syscalls"].as_array().unwrap() {
        for field in rule.as_object().unwrap().keys() {
            assert!(["names", "action", "args", "errnoRet"].contains(&field.as_str()), "{field}");
        }
    }
}

#[test]
fn the_profile_refuses_whatever_it_does_not_name() {
    let profile = profile();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let allowed = calls(&profile, allows);
    let refused = calls(&profile, |rule| !allows(rule));
    assert_eq!(allowed.intersection(&refused).collect::<Vec<_>>(), [""; 0]);
    assert!(ADDED.iter().all(|call| allowed.contains(*call)));
    // Whoever controls a container with the tracer's capabilities reaches no more of
    // the kernel by these.
    for call in [
        "acct",
        "chroot",
        "delete_module",
        "finit_module",
        "init_module",
        "iopl",
        "kexec_load",
        "open_by_handle_at",
        "quotactl",
        "reboot",
        "settimeofday",
        "swapon",
        "userfaultfd",
    ] {
        assert!(!allowed.contains(call), "{call} is allowed");
    }
}

/// Our profile allows exactly two calls more than an engine's own.
#[test]
fn the_profile_is_as_narrow_as_an_engines_own_but_for_two_calls() {
    let unpacked = workspace().join(".tools/podman/usr/share/containers/seccomp.json");
    let places = [unpacked.as_path(), Path::new("/usr/share/containers/seccomp.json")];
    let Some(text) = places.iter().find_map(|path| fs::read_to_string(path).ok()) else {
        skip!("no container engine is here whose own profile could be compared");
    };
    let engines: Value = serde_json::from_str(&text).unwrap();
    // The calls that are allowed whatever the container's capabilities are.
    let theirs = calls(&engines, |rule| allows(rule) && rule["includes"]["caps"].is_null());
    let ours = calls(&profile(), allows);
    let more: Vec<_> = ours.difference(&theirs).collect();
    assert_eq!(more, ADDED);
    assert!(theirs.len() > 300, "{} calls are no profile", theirs.len());
}
