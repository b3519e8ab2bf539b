use std::path::PathBuf;

use super::*;

const MAP: LoadStep = LoadStep::Map { counts_locked: false };
const OLD_MAP: LoadStep = LoadStep::Map { counts_locked: true };

fn free() -> Confinement {
    Confinement { bpf_errno: Some(libc::EINVAL), ..Confinement::default() }
}

/// The cause's text holds each of these words, and none of the others that stand for a
/// cause; no words are no cause.
#[track_caller]
fn check(errno: i32, step: LoadStep, confinement: &Confinement, words: &[&str]) {
    const ALL: [&str; 7] = [
        "seccomp",
        "SELinux",
        "AppArmor",
        "locked memory",
        "bpf_jit_harden",
        "resources.limits.memory",
        "user namespace",
    ];
    let Some(text) = cause(errno, step, confinement) else {
        assert_eq!(words, [""; 0], "no cause is given");
        return;
    };
    assert!(!words.is_empty(), "there is no cause: {text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text:?}");
    }
    for other in ALL.iter().filter(|other| !words.contains(other)) {
        assert!(!text.contains(other), "{other:?} in {text:?}");
    }
}

#[test]
fn where_nothing_holds_the_process_no_cause_is_given() {
    for errno in [libc::EPERM, libc::EACCES, libc::EINVAL, libc::E2BIG, libc::ENOSYS, ENOTSUPP] {
        for step in [MAP, OLD_MAP, LoadStep::Load] {
            check(errno, step, &free(), &[]);
        }
    }
}

#[test]
fn a_filter_that_shuts_bpf_is_named_first_and_a_filter_that_lets_it_pass_is_not() {
    let shut = Confinement { has_seccomp: true, bpf_errno: Some(libc::EPERM), ..free() };
    check(libc::EPERM, MAP, &shut, &["seccomp", "Unconfined", "seccomp=unconfined"]);
    check(libc::EPERM, MAP, &shut, &["seccomp", "deploy/seccomp", "seccomp=tracer.json"]);
    check(libc::EPERM, MAP, &shut, &["seccomp", "localhostProfile: tracer.json"]);
    let limited = Confinement { locked_bytes: Some(65536), ..shut.clone() };
    check(libc::EPERM, OLD_MAP, &limited, &["seccomp"]);
    let absent = Confinement { bpf_errno: Some(libc::ENOSYS), ..shut.clone() };
    check(libc::ENOSYS, MAP, &absent, &["seccomp"]);
    let passing = Confinement { has_seccomp: true, ..free() };
    check(libc::EPERM, MAP, &passing, &[]);
    let beside = Confinement { label: Some(Label::AppArmor("cri".to_owned())), ..shut };
    check(libc::EPERM, MAP, &beside, &["seccomp", "AppArmor", "`cri`"]);
    let text = cause(libc::EPERM, MAP, &beside).unwrap();
    assert!(text.find("seccomp") < text.find("AppArmor"), "{text}");
}

#[test]
fn locked_memory_is_named_only_where_the_kernel_counts_it_and_there_is_a_limit() {
    let limited = Confinement { locked_bytes: Some(65536), ..free() };
    check(libc::EPERM, OLD_MAP, &limited, &["locked memory", "64 KiB", "CAP_SYS_RESOURCE"]);
    check(libc::EPERM, MAP, &limited, &[]);
    check(libc::EPERM, LoadStep::Load, &limited, &[]);
    check(libc::EPERM, OLD_MAP, &free(), &[]);
}

#[test]
fn selinux_is_named_where_it_enforces_and_apparmor_where_it_confines() {
    let of = |enforces, label| Confinement { selinux_enforces: enforces, label, ..free() };
    let selinux = |kind: &str| Some(Label::Selinux(kind.to_owned()));
    let apparmor = Some(Label::AppArmor("docker-default".to_owned()));
    let named = ["SELinux", "spc_t", "super_t"];
    for step in [MAP, OLD_MAP, LoadStep::Load] {
        check(libc::EACCES, step, &of(Some(true), selinux("container_t")), &named);
        check(libc::EACCES, step, &of(Some(true), None), &named);
        // Its folder is not mounted in most containers.
        check(libc::EACCES, step, &of(None, selinux("container_t")), &named);
        check(libc::EACCES, step, &of(None, selinux("unconfined_t")), &[]);
        check(libc::EACCES, step, &of(Some(false), selinux("container_t")), &[]);
        check(libc::EACCES, step, &of(None, apparmor.clone()), &["AppArmor", "`docker-default`"]);
        check(libc::EACCES, step, &of(Some(false), apparmor.clone()), &["AppArmor"]);
        check(libc::EACCES, step, &of(None, None), &[]);
    }
    let text = cause(libc::EACCES, MAP, &of(None, selinux("container_t"))).unwrap();
    assert!(text.contains("`container_t`"), "{text}");
}

#[test]
fn a_limit_on_memory_is_named_with_its_figure() {
    let file = PathBuf::from("/sys/fs/cgroup/kubepods/memory.max");
    let limit = MemoryLimit { bytes: 128 << 20, file };
    let limited = Confinement { memory_limit: Some(limit), ..free() };
    let words = ["resources.limits.memory", "128 MiB", "/sys/fs/cgroup/kubepods/memory.max"];
    check(libc::ENOMEM, MAP, &limited, &words);
    check(libc::ENOMEM, LoadStep::Load, &limited, &words);
    check(libc::ENOMEM, OLD_MAP, &limited, &["no memory"]);
    check(libc::ENOMEM, MAP, &free(), &["no memory"]);
}

#[test]
fn a_hardened_compiler_is_named_only_where_a_program_was_loaded() {
    let of = |jit_harden| Confinement { jit_harden, ..free() };
    check(ENOTSUPP, LoadStep::Load, &of(Some(2)), &["bpf_jit_harden", "bpf_jit_harden=1"]);
    check(ENOTSUPP, LoadStep::Load, &of(Some(1)), &[]);
    check(ENOTSUPP, LoadStep::Load, &of(None), &[]);
    check(ENOTSUPP, MAP, &of(Some(2)), &[]);
}

const STATISTICS: &str = "processed 9 insns (limit 1000000) max_states_per_insn 0 total_states 1\n";

#[test]
fn a_log_of_statistics_alone_has_no_reason() {
    assert_eq!(reason(STATISTICS), None);
    assert_eq!(reason("verification time 9 usec\nstack depth 8\nprocessed 1 insns\n\n"), None);
    assert_eq!(reason(""), None);
    assert_eq!(
        reason("back-edge from insn 3 to 1\nprocessed 0 insns\n"),
        Some("back-edge from insn 3 to 1")
    );
}

#[test]
fn a_program_is_explained_in_one_line() {
    let error = io::Error::from_raw_os_error;
    let log = "0: R1=ctx()\nR0 invalid mem access 'scalar'\nprocessed 9 insns\n\n";
    for (errno, log, expected) in [
        (libc::EACCES, log, "`x`: the verifier says: R0 invalid mem access 'scalar'"),
        (libc::EPERM, "", "`x`: this kernel permits no program of this kind (EPERM)"),
        (ENOTSUPP, "", "`x`: this kernel does not support it (ENOTSUPP)"),
        // The verifier took it, and the compiler did not.
        (ENOTSUPP, STATISTICS, "`x`: this kernel does not support it (ENOTSUPP)"),
        (libc::EACCES, "", "`x`: Permission denied (os error 13)"),
    ] {
        assert_eq!(explain("x", &error(errno), log), expected);
    }
}
