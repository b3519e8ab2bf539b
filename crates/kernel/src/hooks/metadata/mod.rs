//! Tasks put blocks into a filesystem's journal (jbd2).
//!
//! It feeds `tracer_blame_seconds_total` with the operation `metadata`, on ext4.

use tracer_ebpf::config::ABSENT;

use crate::{
    hook::{Gap, Hook, Served, Strategy, on_demand, optional, step},
    program::Program,
};

pub const HOOK: Hook = Hook {
    name: "metadata",
    purpose: "who fills a filesystem's journal (jbd2; attached only while syncs \
              wait for commits)",
    is_required: false,
    without: "who filled the journal that a commit writes is not known",
    strategies: &[Strategy {
        name: "tracepoint",
        steps: &[
            on_demand(step(Program::Jbd2HandleStats)),
            optional(step(Program::Jbd2DataSubmitted)),
            optional(step(Program::Jbd2SubmitInodeData)),
        ],
    }],
    is_usable: |_, config| config.journal_fs_dev != ABSENT,
    find_gaps,
    ..Hook::PLAIN
};

fn find_gaps(served: &Served<'_>) -> Vec<Gap> {
    if served.has(&[Program::Jbd2HandleStats]) {
        return Vec::new();
    }
    vec![(HOOK.name, HOOK.without.to_owned())]
}
