//! A kernel worker writes back what somebody else made dirty.
//!
//! It feeds `tracer_blame_seconds_total`: the writes of kernel workers are charged to
//! those for whom they write.

use anyhow::Result;
use tracer_ebpf::config::{ABSENT, Config};

use crate::{
    hook::{Hook, Layout, Strategy, step},
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
        ],
    }],
    find_fields,
    ..Hook::PLAIN
};

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
