//! Somebody freezes a filesystem (`fsfreeze`, a snapshot of its volume).
//!
//! It feeds verdicts with the operation `freeze`, and `outside_seconds` in JSON.

use tracer_ebpf::config::{ABSENT, Config};

use crate::{
    hook::{Gap, Hook, Served, Strategy, gap, optional, step},
    program::Program,
    types::KernelTypes,
};

pub const HOOK: Hook = Hook {
    name: "freeze",
    purpose: "who freezes a filesystem, so that others cannot write to it",
    is_required: false,
    without: "who freezes a filesystem, and that its users cannot write meanwhile, is not seen",
    strategies: &[Strategy {
        name: "tracepoint",
        steps: &[optional(step(Program::Ext4Freeze)), optional(step(Program::XfsFreeze))],
    }],
    find_module_fields,
    is_usable,
    find_gaps,
    ..Hook::PLAIN
};

fn find_module_fields(types: &KernelTypes<'_>, config: &mut Config) {
    if let Some(at) = types.offset_in_first_arg("xfs_fs_sync_fs", "m_super") {
        config.xfs_mount_super = at;
    }
}

fn is_usable(program: Program, config: &Config) -> bool {
    let is_its = program != Program::XfsFreeze || config.xfs_mount_super != ABSENT;
    is_its && config.sb_frozen != ABSENT
}

/// A node may have either filesystem, or none of them.
fn find_gaps(served: &Served<'_>) -> Vec<Gap> {
    if served.has(&[Program::Ext4Freeze]) || served.has(&[Program::XfsFreeze]) {
        return Vec::new();
    }
    vec![gap(HOOK.name, HOOK.without)]
}
