//! Tests that trace this machine's kernel, as root.
//!
//! Each causes a known delay, and asserts bounds and counts. If the machine lacks something
//! a test says so with `skip!`; on a machine that has everything no test may skip
//! (`TRACER_NO_SKIP_LIVE=1`).

/// The agent: what it serves, and what it may still do.
pub mod agent;
/// An agent that is asked about a past time.
mod asked;
/// Block requests: counts compared with the kernel's own, and no request leaks.
pub mod block;
/// Filesystems, schedulers and strategies, cell by cell.
mod cells;
/// The agent as a container would run it.
mod container;
/// A node with very many workloads.
mod crowd;
/// The demo, as a user runs it.
mod demo;
/// The image in a container engine; no guest has one.
#[cfg(not(target_env = "musl"))]
mod engine;
/// A real etcd: its own counters compared with ours.
mod etcd;
/// Filters of a running agent, and its log as JSON.
mod filtered;
/// Writeback whose owner the kernel programs' tables do not know.
mod forgotten;
/// Filesystems that are frozen.
mod frozen;
/// Syncs that do not end.
mod hanging;
/// Cgroups of version 1, beside those of version 2.
mod hierarchies;
/// The package, in a root that has nothing else; no guest has the sources.
#[cfg(not(target_env = "musl"))]
mod installed;
/// Disks that are attached after the start.
mod late;
/// Filesystems' logs, and who fills them.
mod logs;
/// Cells of the matrix of timelines, on a real kernel.
mod matrix;
/// The tracer in a PID namespace of its own.
mod nested;
/// The actors that kernel threads work for, and the cost of their requests.
mod ownership;
/// The agent's page, in a browser; no guest has one.
#[cfg(not(target_env = "musl"))]
mod page;
/// The phases of syncs, and other events around them.
mod phases;
/// The program as a whole: what it prints, and that it leaves nothing behind.
mod program;
/// A Prometheus that scrapes an agent, and answers the queries of dashboards and alerts.
#[cfg(not(target_env = "musl"))]
mod prometheus;
/// A flight recorder that is killed, and one on a full disk.
mod recorder;
/// Recordings: whole, cut off, and their verdicts.
mod recording;
/// A kernel that refuses, and the tracer's message then.
mod refused;
/// A culprit and an innocent bystander, on a disk of known slowness.
mod scenarios;
/// Changes that the agent sees by itself.
mod seen;
/// A running agent, and what it serves.
pub mod served;
/// A node in trouble: a disk that does not answer, is full or read-only.
mod sick;
/// A hook that is detached while the tracer runs.
mod silenced;
/// Every way to sync, seen once per call.
mod syncs;

use tracer::session::{Options, Session};
use tracer_kernel::strategies::Forced;
use tracer_lab::disk::{Filesystem, LoopDisk, default_dir};

/// Skips unless this machine can be traced.
macro_rules! need_live {
    () => {
        if !crate::subject::is_root() {
            crate::skip::skip!("not root");
        }
        if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
            crate::skip::skip!("this kernel has no BTF");
        }
    };
}
pub(crate) use need_live;

/// Runs a test with a tracer in its own process.
pub fn traced<T>(test: impl FnOnce(&mut Session) -> T) -> T {
    traced_through(Vec::new(), |session| {
        session.check_capabilities().expect("all capabilities are there");
        test(session)
    })
}

/// Runs a test with named strategies, which this kernel may not support.
pub fn traced_through<T>(forced: Vec<Forced>, test: impl FnOnce(&mut Session) -> T) -> T {
    traced_with(&Options { forced, ..Options::default() }, test)
}

/// Runs a test with a tracer that is started by these options.
pub fn traced_with<T>(options: &Options, test: impl FnOnce(&mut Session) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut session = Session::start(options).expect("this kernel can be traced");
        session.finish_loading();
        test(&mut session)
    })
}

/// A disk of our own.
pub fn lab_disk(filesystem: Filesystem) -> LoopDisk {
    let folder = default_dir().expect("a folder on a block device");
    LoopDisk::create(&folder, 1 << 30, filesystem).expect("a loop device with a filesystem")
}
