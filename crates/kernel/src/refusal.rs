//! Makes sense of a kernel's refusal of a map or a program: the likely cause, and what
//! to do about it.
//!
//! Facts go in, sentences come out. A cause is named only if a fact that was read on this
//! machine supports it.

use std::io;

use crate::confinement::{Confinement, Label, MemoryLimit};

/// The kernel's own "not supported"; libc has no name for it.
const ENOTSUPP: i32 = 524;

/// The step that was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoadStep {
    /// A map. `counts_locked` says whether this kernel counts it against the limit on
    /// locked memory.
    Map { counts_locked: bool },
    /// The load of a program, which the verifier had nothing against.
    Load,
}

/// The one line about a program: the system call's error and, where the verifier came
/// that far, its log.
pub fn explain(hook: &str, error: &io::Error, log: &str) -> String {
    match (error.raw_os_error(), reason(log)) {
        (_, Some(line)) => format!("`{hook}`: the verifier says: {line}"),
        (Some(libc::EPERM), None) => {
            format!("`{hook}`: this kernel permits no program of this kind (EPERM)")
        }
        (Some(ENOTSUPP), None) => {
            format!("`{hook}`: this kernel does not support it (ENOTSUPP)")
        }
        (Some(errno), None) => format!("`{hook}`: {}", io::Error::from_raw_os_error(errno)),
        (None, None) => format!("`{hook}`: {error}"),
    }
}

/// The verifier's reason in its log; `None` where it had nothing against the program. The
/// log ends with statistics either way, and the reason stands before them.
pub fn reason(log: &str) -> Option<&str> {
    const STATISTICS: [&str; 3] = ["processed", "stack depth", "verification time"];
    let mut lines = log.lines().rev().map(str::trim);
    lines.find(|line| !line.is_empty() && !STATISTICS.iter().any(|start| line.starts_with(start)))
}

/// Why the kernel refused, and what to do; `None` where nothing that was read would do
/// it.
pub fn cause(errno: i32, step: LoadStep, confinement: &Confinement) -> Option<String> {
    match errno {
        libc::EPERM | libc::ENOSYS => forbidden(errno, step, confinement),
        libc::EACCES => module(confinement),
        libc::ENOMEM => Some(memory(step, confinement.memory_limit.as_ref())),
        ENOTSUPP if step == LoadStep::Load && confinement.jit_harden == Some(2) => Some(
            "net.core.bpf_jit_harden is 2, which may make programs too long for this kernel's \
             compiler: `sysctl -w net.core.bpf_jit_harden=1` hardens only those of unprivileged \
             users"
                .to_owned(),
        ),
        _ => None,
    }
}

fn forbidden(errno: i32, step: LoadStep, confinement: &Confinement) -> Option<String> {
    // Nothing has looked at the command yet where even one that is none is refused.
    let is_shut = confinement.bpf_errno == Some(errno);
    if is_shut && confinement.has_seccomp {
        let mut text = "a seccomp filter on this process refuses bpf(), though it has the \
                        capabilities for it: run it with the tracer's own profile, `tracer.json` of \
                        deploy/seccomp and of the packages (for Docker and Podman `--security-opt \
                        seccomp=tracer.json`, in the pod's securityContext `seccompProfile: {type: \
                        Localhost, localhostProfile: tracer.json}`), or with no filter (`Unconfined`, \
                        `seccomp=unconfined`), in a systemd unit with no SystemCallFilter= that lacks \
                        `bpf`"
            .to_owned();
        if let Some(more) = module(confinement) {
            text.push_str("; if it is not that: ");
            text.push_str(&more);
        }
        return Some(text);
    }
    if errno == libc::ENOSYS {
        return None;
    }
    // Some kinds of programs some kernels permit to nobody, confined or not.
    if step == LoadStep::Load && !is_shut {
        return None;
    }
    if let (LoadStep::Map { counts_locked: true }, false, Some(bytes)) =
        (step, is_shut, confinement.locked_bytes)
    {
        return Some(format!(
            "this kernel counts the tables as locked memory, of which this process may have {}: \
             raise the limit (`ulimit -l unlimited`, or CAP_SYS_RESOURCE)",
            size(bytes)
        ));
    }
    module(confinement)
}

/// The security module that may have refused.
fn module(confinement: &Confinement) -> Option<String> {
    let kind = match &confinement.label {
        Some(Label::Selinux(kind)) => Some(kind.as_str()),
        _ => None,
    };
    let is_confined = kind.is_some_and(|kind| kind != "unconfined_t");
    let selinux = confinement.selinux_enforces.unwrap_or(is_confined);
    if selinux {
        let whose =
            kind.map_or(String::new(), |kind| format!(", and this process is of type `{kind}`"));
        return Some(format!(
            "SELinux is enforcing{whose}: `ausearch -m avc` on the node shows whether it refused \
             this; the container needs a type that may use BPF (`seLinuxOptions: {{type: spc_t}}`, \
             on Bottlerocket `super_t`)"
        ));
    }
    match &confinement.label {
        Some(Label::AppArmor(profile)) => Some(format!(
            "AppArmor confines this process by the profile `{profile}`: the kernel's log shows \
             whether it refused this; run it unconfined (`appArmorProfile: {{type: Unconfined}}`, \
             before Kubernetes 1.30 the annotation; `--security-opt apparmor=unconfined`)"
        )),
        _ => None,
    }
}

fn memory(step: LoadStep, limit: Option<&MemoryLimit>) -> String {
    // Before 5.11 maps did not count as their cgroup's memory:
    // <https://github.com/torvalds/linux/commit/80ee81e0403c>.
    let counts = step != LoadStep::Map { counts_locked: true };
    match limit.filter(|_| counts) {
        Some(MemoryLimit { bytes, file }) => format!(
            "the kernel has no memory for it; this process's cgroup may have {} (`{}`), which \
             the tracer's tables in the kernel count against: raise it (`resources.limits.memory` \
             in the pod's spec, MemoryMax= in a systemd unit)",
            size(*bytes),
            file.display()
        ),
        None => "the kernel has no memory for it".to_owned(),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

#[cfg(test)]
mod tests;
