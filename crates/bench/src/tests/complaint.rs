//! Tests of the reason why another tracer does not run.

use crate::peers::complaint::find;

#[test]
fn the_cause_is_named_and_not_what_followed_from_it() {
    let stderr = b"libbpf: prog 'start': BPF program load failed: Operation not permitted\n\
        libbpf: permission error while running as root\n\
        failed to load BPF object: -1\n";
    assert_eq!(
        find(stderr),
        "libbpf: prog 'start': BPF program load failed: Operation not permitted"
    );
}

#[test]
fn a_complaint_about_locked_memory_is_no_cause() {
    let stderr = b"ERROR: Unknown error -1: couldn't set RLIMIT_MEMLOCK for bpftrace.\n\
        ERROR: failed to detach probe: kprobe:f\n\
        open(/sys/kernel/tracing/kprobe_events): No such file or directory\n";
    assert!(find(stderr).starts_with("open(/sys/kernel/tracing/kprobe_events): No such"));
}

#[test]
fn the_directory_of_our_tools_is_not_shown() {
    let found = find(b"/home/a/p/.tools/peers/usr/sbin/b.bt:2: WARNING: f is not traceable");
    assert_eq!(found, "b.bt:2: WARNING: f is not traceable");
}

#[test]
fn silence_is_reported_too() {
    assert_eq!(find(b"\n \n"), "it printed nothing");
    assert_eq!(find(b"one\ntwo\x1b[0m\n"), "two[0m");
}
