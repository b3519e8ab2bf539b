//! A kernel worker writes back what somebody else made dirty, or discards what somebody else
//! freed.
//!
//! It feeds `tracer_blame_seconds_total`: the writes and discards of kernel workers are charged
//! to those for whom they are made.

use anyhow::Result;
use tracer_ebpf::config::{ABSENT, Config};

use crate::{
    hook::{Gap, Hook, Layout, Served, Strategy, gap, on_demand, optional, step},
    program::Program,
    types::KernelTypes,
};

pub const HOOK: Hook = Hook {
    name: "writeback",
    purpose: "whose data a kernel worker writes back",
    is_required: false,
    without: "written-back data are charged to the kernel worker, not to the process that \
              wrote them",
    strategies: &[Strategy {
        name: "tracepoint",
        steps: &[
            step(Program::WritebackSingleInode),
            step(Program::WritebackSingleInodeStart),
            step(Program::WritebackDirtyInodeEnqueue),
            // Once a kernel thread was seen to discard.
            on_demand(optional(step(Program::Ext4DiscardBlocks))),
            on_demand(optional(step(Program::Ext4FreeBlocks))),
            on_demand(optional(step(Program::XfsDiscardExtent))),
            on_demand(optional(step(Program::XfsExtentBusy))),
            on_demand(optional(step(Program::XfsFileFreed))),
            on_demand(optional(step(Program::XfsFileFreeing))),
            on_demand(optional(step(Program::XfsFileDeleted))),
        ],
    }],
    find_fields,
    is_usable,
    find_gaps,
    ..Hook::PLAIN
};

const OF_EXT4: [Program; 2] = [Program::Ext4DiscardBlocks, Program::Ext4FreeBlocks];
const OF_XFS: [Program; 2] = [Program::XfsDiscardExtent, Program::XfsExtentBusy];

fn is_usable(program: Program, config: &Config) -> bool {
    match program {
        Program::Ext4DiscardBlocks | Program::Ext4FreeBlocks => config.sb_dev != ABSENT,
        Program::XfsFileFreeing | Program::XfsFileDeleted => config.xfs_inode_vnode != ABSENT,
        _ => true,
    }
}

/// A node may have either filesystem, or none of them.
fn find_gaps(served: &Served<'_>) -> Vec<Gap> {
    if served.has(&OF_EXT4) || served.has(&OF_XFS) {
        return Vec::new();
    }
    vec![gap("freed", "who freed the space that a kernel thread discards is not known")]
}

fn find_fields(layout: &Layout<'_>, config: &mut Config) -> Result<()> {
    // Absent as a whole without CONFIG_BLK_CGROUP.
    let _ = cgroups(layout.types, layout.request, config);
    if let Some(task) = layout.task
        && config.bio_blkg != ABSENT
    {
        // Absent without CONFIG_CGROUPS and CONFIG_BLK_CGROUP.
        let _ = io_cgroup(layout.types, task, config);
    }
    Ok(())
}

/// From a request's bio to its cgroup.
fn cgroups(types: &KernelTypes<'_>, request: u32, config: &mut Config) -> Option<()> {
    let field = |of, path| types.field(of, path);
    let behind = |of, path| types.pointee(field(of, path)?.type_id);
    let bio = behind(request, "bio")?;
    let group = behind(bio, "bi_blkg")?;
    let blkcg = behind(group, "blkcg")?;
    let cgroup = behind(blkcg, "css.cgroup")?;
    let root = behind(cgroup, "root")?;
    let node = behind(cgroup, "kn")?;
    [
        config.bio_blkg,
        config.blkg_blkcg,
        config.blkcg_cgroup,
        config.cgroup_level,
        config.cgroup_root,
        config.cgroup_node,
        config.root_hierarchy,
        config.node_id,
    ] = [
        field(bio, "bi_blkg")?.offset_bytes,
        field(group, "blkcg")?.offset_bytes,
        field(blkcg, "css.cgroup")?.offset_bytes,
        field(cgroup, "level")?.offset_bytes,
        field(cgroup, "root")?.offset_bytes,
        field(cgroup, "kn")?.offset_bytes,
        field(root, "hierarchy_id")?.offset_bytes,
        field(node, "id")?.offset_bytes,
    ];
    Some(())
}

/// From a task to the cgroup that its bios name.
fn io_cgroup(types: &KernelTypes<'_>, task: u32, config: &mut Config) -> Option<()> {
    const POINTER_BYTES: u32 = 8;
    let cgroups = types.field(task, "cgroups")?;
    let set = types.pointee(cgroups.type_id)?;
    let subsystems = types.field(set, "subsys")?;
    let io = types.enumerator("io_cgrp_id")?;
    let state = types.pointee(types.array(subsystems.type_id)?.0)?;
    let at = subsystems.offset_bytes.checked_add(io.checked_mul(POINTER_BYTES)?)?;
    [config.cgroups_io, config.css_cgroup] = [at, types.field(state, "cgroup")?.offset_bytes];
    Some(())
}
