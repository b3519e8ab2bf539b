//! Somebody freezes a filesystem (`fsfreeze`, a snapshot of its volume), or has all of it written
//! (`umount`).
//!
//! It feeds verdicts with the operation `freeze`, and `outside_seconds` and `trigger` in JSON.

use anyhow::Result;
use tracer_ebpf::config::{ABSENT, Config};

use crate::{
    hook::{Gap, Hook, Layout, Served, Strategy, gap, optional, step},
    program::Program,
    types::KernelTypes,
};

pub const HOOK: Hook = Hook {
    name: "freeze",
    purpose: "who freezes a filesystem, so that others cannot write to it, and who unmounts one",
    is_required: false,
    without: "who freezes a filesystem, and that its users cannot write meanwhile, is not seen",
    strategies: &[Strategy {
        name: "tracepoint",
        steps: &[
            optional(step(Program::Ext4Freeze)),
            optional(step(Program::XfsFreeze)),
            optional(step(Program::WritebackQueue)),
        ],
    }],
    find_fields,
    find_module_fields,
    is_usable,
    find_gaps,
};

fn find_fields(layout: &Layout<'_>, config: &mut Config) -> Result<()> {
    let types = layout.types;
    let found = || {
        let work = types.handed_out("wb_writeback_work", &["writeback_queue"])?;
        let fields = ["sb", "sync_mode", "reason"].map(|path| types.offset(work, path));
        fields.iter().all(|at| *at != ABSENT).then_some(fields)
    };
    if let Some(found) = found() {
        [config.work_sb, config.work_mode, config.work_reason] = found;
    }
    Ok(())
}

fn find_module_fields(types: &KernelTypes<'_>, config: &mut Config) {
    if let Some(at) = types.offset_in_first_arg("xfs_fs_sync_fs", "m_super") {
        config.xfs_mount_super = at;
    }
}

fn is_usable(program: Program, config: &Config) -> bool {
    match program {
        Program::WritebackQueue => config.work_sb != ABSENT && config.sb_dev != ABSENT,
        Program::XfsFreeze => config.xfs_mount_super != ABSENT && config.sb_frozen != ABSENT,
        _ => config.sb_frozen != ABSENT,
    }
}

/// A node may have either filesystem, or none of them.
fn find_gaps(served: &Served<'_>) -> Vec<Gap> {
    let mut gaps = Vec::new();
    if !served.has(&[Program::Ext4Freeze]) && !served.has(&[Program::XfsFreeze]) {
        gaps.push(gap(HOOK.name, HOOK.without));
    }
    if !served.has(&[Program::WritebackQueue]) {
        gaps.push(gap(
            "umount",
            "who has the data of others written by an umount, a remount or a freeze is not seen",
        ));
    }
    gaps
}
