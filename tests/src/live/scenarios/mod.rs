//! Scenarios: an etcd on a simulated disk, a process that makes it slow on purpose, one that
//! does not, and the tracer's verdict. Scenarios about memory have another victim.
//!
//! Each has a test of its own. `TRACER_REPEAT=3` plays every scenario three times, and each
//! verdict must be right. `TRACER_KEEP_RECORDINGS=DIR` keeps recordings for
//! `tracer replay`.

/// The processes that make the disk slow.
pub(super) mod culprits;
/// Space that somebody freed, and that is discarded at once.
mod discarded;
/// The simulated disk, compared with its own model.
mod disk;
/// Caches that somebody drops.
mod dropped;
/// A neighbour that holds up the journal.
mod handles;
/// A disk that is slow when the tracer starts.
mod kept;
/// Filesystems' logs, and who fills them.
mod logs;
/// Whether other work disturbed the machine.
pub(super) mod machine;
/// A neighbour that takes the memory.
mod memory;
/// Neighbours on the same disk.
mod neighbours;
/// Causes other than a neighbour on the disk.
mod others;
/// Advice with a tenant's name in it, in a shell.
mod pasted;
/// Writes that are paused because too many pages are dirty.
mod paused;
/// The process of this node that serves the disk.
mod server;
/// The stage that all scenarios share.
pub(super) mod stage;
/// Kernel threads of the disk and of the filesystem that get no CPU.
mod starved;
/// A disk that gets slow while its neighbours do not change.
mod steady;
/// A victim whose process is stopped.
mod stopped;
/// Others' data that somebody has written.
mod synced;
/// The tracer's verdict, and whether it is right.
pub(super) mod verdict;
/// Waits for nobody's requests.
mod waits;

use std::{env, path::Path};

use tracer_lab::{
    disk::Filesystem,
    tool::{ETCD, FIO, FSTRIM, MKFS_EXT4, MKFS_XFS},
};

use culprits::ETCDCTL;
use machine::play_undisturbed;
use stage::Stage;

/// Plays a scenario, as often as `TRACER_REPEAT` says.
pub(super) fn play(filesystem: Filesystem, scenario: impl Fn(&Stage)) {
    play_on(|| scenario(&Stage::build(filesystem)));
}

/// Plays a scenario that builds its own stage.
fn play_on(scenario: impl Fn()) {
    (0..times()).for_each(|_| play_undisturbed(&scenario));
}

/// The number of times that scenarios are played.
fn times() -> u32 {
    env::var("TRACER_REPEAT").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Skips unless a scenario can be played here.
macro_rules! need_stage {
    () => {
        crate::live::need_live!();
        if let Some(lack) = crate::live::scenarios::lack() {
            crate::skip::skip!("{lack}");
        }
    };
}
pub(super) use need_stage;

/// The reasons why scenarios cannot be played here.
pub(super) fn lack() -> Option<String> {
    if !Path::new("/dev/fuse").exists() {
        return Some("there is no /dev/fuse".to_owned());
    }
    let tools = [ETCD, ETCDCTL, FIO, FSTRIM, MKFS_EXT4, MKFS_XFS];
    let missing = tools.iter().find(|tool| tool.find().is_none())?;
    Some(format!("`{}` is not installed", missing.name))
}
