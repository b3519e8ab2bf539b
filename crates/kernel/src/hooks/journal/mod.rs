//! A filesystem's journal commits (jbd2).
//!
//! It feeds the phase `journal`, and for commits the phases `queue` and `device`.

use tracer_ebpf::config::{ABSENT, Config};

use crate::{
    hook::{Gap, Hook, Served, Strategy, gap, optional, step},
    program::Program,
    types::KernelTypes,
};

pub const HOOK: Hook = Hook {
    name: "journal",
    purpose: "when a filesystem's journal commits (jbd2)",
    is_required: false,
    without: "time in the journal is shown as `other`",
    strategies: &[Strategy {
        name: "tracepoint",
        steps: &[
            step(Program::Jbd2EndCommit),
            optional(step(Program::Jbd2CommitLogging)),
            optional(step(Program::Jbd2CommitFlushing)),
            optional(step(Program::Jbd2CommitLocking)),
            step(Program::Jbd2StartCommit),
        ],
    }],
    find_module_fields,
    is_usable: |_, config| config.journal_fs_dev != ABSENT,
    find_gaps,
    ..Hook::PLAIN
};

fn find_module_fields(types: &KernelTypes<'_>, config: &mut Config) {
    if let Some(at) = types.offset_in_first_arg("jbd2_start_commit", "j_fs_dev") {
        config.journal_fs_dev = at;
    }
}

fn find_gaps(served: &Served<'_>) -> Vec<Gap> {
    let parts =
        [Program::Jbd2CommitLocking, Program::Jbd2CommitFlushing, Program::Jbd2CommitLogging];
    if served.has(&parts) {
        return Vec::new();
    }
    vec![gap("commit", "the stages of a journal's commit are not distinguished")]
}
