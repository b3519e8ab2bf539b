//! Privileges of the agent after its start: hardly any.
//!
//! Loading programs takes many capabilities; afterwards the kernel asks only for
//! those in [`KEPT`]. Attaching a program that is already loaded, such as the run
//! queue's hook when it is wanted, takes none; programs that are loaded later come
//! from another process (`session::loader`). Capabilities belong to threads:
//! the loop gives up all others, and the thread that speaks HTTP all of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl::set_no_new_privs;

/// The capabilities that the loop keeps, if it has them, and their purposes.
pub const KEPT: [(Capability, &str); 3] = [
    // If unprivileged BPF is off, kernels before 5.19 ask for it in every bpf(2) call:
    // <https://github.com/torvalds/linux/commit/c8644cd0efe7>.
    (Capability::CAP_BPF, "to read and write the kernel programs' tables"),
    (Capability::CAP_SYS_PTRACE, "to see which files others have open"),
    (Capability::CAP_DAC_READ_SEARCH, "to read others' directories in /proc"),
];

/// Whether privileges are given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Privileges {
    Drop,
    Keep,
}

/// The calling thread gives up all but what the loop needs, and says what it
/// kept.
///
/// # Errors
///
/// When the kernel does not let it.
pub fn drop_most() -> Result<Vec<Capability>> {
    let has = caps::read(None, CapSet::Permitted).context("failed to read the capabilities")?;
    let mut kept: Vec<_> = KEPT.iter().map(|(c, _)| *c).filter(|c| has.contains(c)).collect();
    // On older kernels CAP_SYS_ADMIN stands for both.
    if !has.contains(&Capability::CAP_BPF) && has.contains(&Capability::CAP_SYS_ADMIN) {
        kept.insert(0, Capability::CAP_SYS_ADMIN);
    }
    keep(&kept)?;
    Ok(kept)
}

/// The capabilities that the agent should have, could start without, and lacks,
/// with their purposes.
pub fn lacking() -> Vec<(Capability, &'static str)> {
    let has = |c| caps::has_cap(None, CapSet::Effective, c).unwrap_or(false);
    KEPT.into_iter().filter(|(c, _)| *c != Capability::CAP_BPF && !has(*c)).collect()
}

/// The names of this process's other threads that have a capability which the calling
/// thread has not. A thread that is gone, or that cannot be read, has none.
pub fn threads_with_more() -> Vec<String> {
    let effective = |task: &Path| -> Option<u64> {
        let status = fs::read_to_string(task.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let Some(own) = effective(Path::new("/proc/thread-self")) else { return Vec::new() };
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let more = tasks
        .map(|task| task.path())
        .filter(|task| effective(task).is_some_and(|has| has & !own != 0));
    let name = |task: PathBuf| fs::read_to_string(task.join("comm")).unwrap_or_default();
    more.map(|task| name(task).trim().to_owned()).collect()
}

/// The calling thread gives up everything.
///
/// # Errors
///
/// When the kernel does not let it.
pub fn drop_all() -> Result<()> {
    keep(&[])
}

fn keep(kept: &[Capability]) -> Result<()> {
    let wanted: CapsHashSet = kept.iter().copied().collect();
    let bounding = caps::read(None, CapSet::Bounding).context("failed to read the bounding set")?;
    let may_bound = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP);
    if may_bound.unwrap_or(false) {
        for capability in bounding.difference(&wanted) {
            caps::drop(None, CapSet::Bounding, *capability)
                .with_context(|| format!("failed to bound `{capability}`"))?;
        }
    }
    // Kernels before 4.3 have no ambient capabilities
    // (<https://github.com/torvalds/linux/commit/58319057b784>); and a capability that is
    // not inheritable is not ambient.
    let _ = caps::clear(None, CapSet::Ambient);
    let nothing = CapsHashSet::new();
    for (set, left) in [
        (CapSet::Inheritable, &nothing),
        (CapSet::Effective, &wanted),
        (CapSet::Permitted, &wanted),
    ] {
        caps::set(None, set, left).with_context(|| format!("failed to shrink `{set:?}`"))?;
    }
    set_no_new_privs().context("failed to set no_new_privs")
}
