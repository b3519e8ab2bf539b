//! The kernel, or a filter in front of it, refuses something: the tracer says why.

use std::{io, os::unix::process::CommandExt as _, process::Command, time::Duration};

use tracer_lab::tool::Tool;

use super::need_live;
use crate::{
    skip::skip,
    subject::{Tracer, tracer_bin},
};

const UNSHARE: Tool = Tool { name: "unshare", package: "util-linux" };
const LONG: Duration = Duration::from_secs(60);

/// Checks that the tracer ends with 3 and one line, which has some words and lacks others.
#[track_caller]
fn check(command: Command, words: &[&str], others: &[&str]) {
    let mut doctor = Tracer::spawn(command);
    let status = doctor.wait(LONG);
    let says = doctor.transcript();
    assert_eq!(status.code(), Some(3), "{says}");
    for word in words {
        assert!(says.contains(word), "no {word:?}: {says}");
    }
    for other in others {
        assert!(!says.contains(other), "{other:?}: {says}");
    }
}

#[test]
fn in_a_user_namespace_it_says_to_run_it_on_the_host() {
    need_live!();
    let Some(unshare) = UNSHARE.find() else { skip!("`unshare` is not installed") };
    let is_possible = Command::new(&unshare).args(["-Ur", "true"]).status();
    if !is_possible.is_ok_and(|status| status.success()) {
        skip!("a user namespace cannot be created here");
    }
    let mut command = Command::new(unshare);
    command.arg("-Ur").arg(tracer_bin()).arg("doctor");
    check(command, &["user namespace", "on the host"], &["locked memory", "seccomp", "CAP_"]);
}

/// Makes a seccomp filter refuse bpf() with an error, as container runtimes' profiles do.
fn refuse_bpf(command: &mut Command, errno: i32) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let number = statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0);
    let is_bpf = libc::sock_filter {
        jf: 1,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_bpf as u32)
    };
    let refuse =
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned());
    let allow = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW);
    let mut filter = [number, is_bpf, refuse, allow];
    // SAFETY: the closure makes one system call, with a filter that it owns, and
    // allocates nothing, which is allowed between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
            let mode = libc::SECCOMP_MODE_FILTER;
            match libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, 0, 0) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
}

#[test]
fn a_seccomp_filter_that_refuses_bpf_is_named_with_its_remedy() {
    need_live!();
    for errno in [libc::EPERM, libc::ENOSYS] {
        let mut command = Command::new(tracer_bin());
        command.arg("doctor");
        refuse_bpf(&mut command, errno);
        check(command, &["seccomp", "Unconfined"], &["locked memory", "report this"]);
    }
}
