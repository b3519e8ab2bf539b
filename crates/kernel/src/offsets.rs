//! Fills the kernel programs' [`Config`] from a kernel's types.
//!
//! Each struct is found by the tracepoint that hands it out, not by its name:
//! BTF may hold several of one name, and the wrong one reads out of bounds.

//!
//! Fields that hooks share are found here; those that one hook alone reads are found
//! in its folder below [`hooks`](crate::hooks).

use std::{cell::RefCell, collections::BTreeMap};

use anyhow::{Context as _, Result};
use tracer_ebpf::config::{ABSENT, Config};

use crate::{
    capability::Capability,
    cgroups,
    hook::Layout,
    pids,
    types::{KernelTypes, Pointers},
};

/// The programs' configuration, and why parts of it are missing that they do without.
pub struct Resolved {
    pub config: Config,
    pub doubts: Vec<String>,
}

/// Finds everything that the programs need to know of this kernel.
///
/// # Errors
///
/// When the kernel lacks a field without which no block request can be
/// followed.
pub fn find(types: &KernelTypes<'_>, pointers: Pointers) -> Result<Resolved> {
    let mut config = Config::ABSENT;
    let request = block(types, &mut config)?;
    let doubts = RefCell::default();
    let layout = Layout { types, pointers, request, task: None, doubts: &doubts };
    let task = layout.doubt(task(types, pointers, &mut config)).flatten();
    config = layout.doubt(files(types, &config)).unwrap_or(config);
    let layout = Layout { task, ..layout };
    for capability in Capability::ALL {
        (capability.hook().find_fields)(&layout, &mut config)?;
    }
    module_fields(types, &mut config);
    Ok(Resolved { config, doubts: doubts.into_inner() })
}

/// Finds the fields of filesystems, each of which may be a module with types of its
/// own.
pub fn module_fields(types: &KernelTypes<'_>, config: &mut Config) {
    for capability in Capability::ALL {
        (capability.hook().find_module_fields)(types, config);
    }
}

/// Returns `struct request`.
fn block(types: &KernelTypes<'_>, config: &mut Config) -> Result<u32> {
    let args = types
        .tracepoint_args("block_rq_issue")
        .context("this kernel has no tracepoint `block_rq_issue` in its BTF")?;
    // The arguments are (queue, request) until 5.10.136, and (request) since:
    // <https://github.com/torvalds/linux/commit/a54895fa057c>.
    let request_arg = args.len().saturating_sub(1);
    let request =
        types.pointee(args[request_arg]).context("`block_rq_issue` passes no struct request")?;
    let need = |path: &str| types.required(request, "request", path);

    config.request_arg = request_arg as u32;
    config.request_queue = need("q")?;
    config.request_cmd_flags = need("cmd_flags")?;
    config.request_data_len = need("__data_len")?;
    config.request_tag = need("tag")?;
    config.request_internal_tag = need("internal_tag")?;
    config.request_hctx = need("mq_hctx")?;
    config.request_bio = need("bio")?;
    config.request_disk = types.offset(request, "rq_disk");

    let hctx = types.follow(request, "mq_hctx")?;
    config.hctx_queue_num = types.required(hctx, "blk_mq_hw_ctx", "queue_num")?;
    let disk = if config.request_disk == ABSENT {
        let queue = types.follow(request, "q")?;
        config.queue_disk = types.required(queue, "request_queue", "disk")?;
        types.follow(queue, "disk")?
    } else {
        types.follow(request, "rq_disk")?
    };
    config.disk_major = types.required(disk, "gendisk", "major")?;
    config.disk_name = types.offset(disk, "disk_name");
    config.disk_first_minor = types.required(disk, "gendisk", "first_minor")?;
    Ok(request)
}

/// Finds the task's fields. All of them stay absent before 5.11, where no typed program
/// can read its own task (<https://github.com/torvalds/linux/commit/3ca1032ab7ab>).
/// Returns the type of `struct task_struct` where one can.
fn task(types: &KernelTypes<'_>, pointers: Pointers, config: &mut Config) -> Result<Option<u32>> {
    let typed = pointers == Pointers::Typed;
    if typed && types.enumerator("BPF_FUNC_get_current_task_btf").is_none() {
        return Ok(None);
    }
    let handed_out = types.handed_out("task_struct", &["sched_switch"]);
    let before = *config;
    *config = types.read_struct("task_struct", handed_out, |task| {
        let mut config = before;
        task_fields(types, pointers, task, &mut config)?;
        Ok(config)
    })?;
    // The one that is handed out stands for all that agree.
    Ok(handed_out.or_else(|| types.first_struct("task_struct")))
}

fn task_fields(
    types: &KernelTypes<'_>,
    pointers: Pointers,
    task: u32,
    config: &mut Config,
) -> Result<()> {
    let need = |path: &str| types.required(task, "task_struct", path);
    config.task_flags = need("flags")?;
    config.task_group_leader = need("group_leader")?;
    config.task_comm = need("comm")?;
    config.task_exec_runtime = need("se.sum_exec_runtime")?;
    config.task_exec_start = need("se.exec_start")?;
    config.task_pid = need("pid")?;
    config.task_tgid = need("tgid")?;
    // Needs CONFIG_SCHED_INFO.
    config.task_run_delay = types.offset(task, "sched_info.run_delay");
    config.task_last_arrival = types.offset(task, "sched_info.last_arrival");
    config.task_last_queued = types.offset(task, "sched_info.last_queued");
    task_cgroup(types, task, config);
    pids::find_fields(types, pointers, task, config);
    Ok(())
}

/// From a task to its cgroup. What is missing stays absent.
fn task_cgroup(types: &KernelTypes<'_>, task: u32, config: &mut Config) {
    config.task_cgroups = types.offset(task, "cgroups");
    let Ok(set) = types.follow(task, "cgroups") else { return };
    config.css_set_dfl_cgrp = types.offset(set, "dfl_cgrp");
    let Ok(cgroup) = types.follow(set, "dfl_cgrp") else { return };
    config.cgroup_node = types.offset(cgroup, "kn");
    let Ok(node) = types.follow(cgroup, "kn") else { return };
    config.node_id = types.offset(node, "id");
}

/// Finds where a task names its cgroup of each controller.
pub fn cgroup_states(
    types: &KernelTypes<'_>,
    pointers: Pointers,
    config: &mut Config,
) -> BTreeMap<&'static str, u32> {
    let mut scratch = Config::ABSENT;
    let task = task(types, pointers, &mut scratch).ok().flatten();
    task.map(|task| cgroups::find_states(types, task, config)).unwrap_or_default()
}

/// All of it is absent, or none of what is required.
fn files(types: &KernelTypes<'_>, before: &Config) -> Result<Config> {
    let handed_out = types.handed_out("file", &["ext4_sync_file_enter", "vfs_fsync_range"]);
    types.read_struct("file", handed_out, |file| {
        let mut config = *before;
        file_fields(types, file, &mut config)?;
        Ok(config)
    })
}

fn file_fields(types: &KernelTypes<'_>, file: u32, config: &mut Config) -> Result<()> {
    config.file_inode = types.required(file, "file", "f_inode")?;
    let inode = types.follow(file, "f_inode")?;
    config.inode_ino = types.required(inode, "inode", "i_ino")?;
    config.inode_generation = types.offset(inode, "i_generation");
    config.inode_mode = types.required(inode, "inode", "i_mode")?;
    config.inode_sb = types.required(inode, "inode", "i_sb")?;
    let mapping = types.follow(inode, "i_mapping")?;
    config.mapping_host = types.required(mapping, "address_space", "host")?;
    let sb = types.follow(inode, "i_sb")?;
    config.sb_dev = types.required(sb, "super_block", "s_dev")?;
    config.sb_bdev = types.required(sb, "super_block", "s_bdev")?;
    config.sb_frozen = types.offset(sb, "s_writers.frozen");
    if let Ok(bdi) = types.follow(sb, "s_bdi")
        && let Some(id) = types.field(bdi, "id")
    {
        [config.sb_bdi, config.bdi_id] = [types.offset(sb, "s_bdi"), id.offset_bytes];
    }
    let bdev = types.follow(sb, "s_bdev")?;
    config.bdev_disk = types.required(bdev, "block_device", "bd_disk")?;
    config.bdev_dev = types.required(bdev, "block_device", "bd_dev")?;
    Ok(())
}

#[cfg(test)]
mod tests;
