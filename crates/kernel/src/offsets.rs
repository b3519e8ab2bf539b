//! Fills the kernel programs' [`Config`] from a kernel's types.
//!
//! Each struct is found by the tracepoint that hands it out, not by its name:
//! BTF may hold several of one name, and the wrong one reads out of bounds.

use anyhow::{Context as _, Result};
use tracer_ebpf::config::{ABSENT, Config};

use crate::{facts::Pointers, types::KernelTypes};

/// `RQF_FLUSH_SEQ` as a bit number where BTF does not tell: a macro
/// (`1 << 4`) until 6.10, an enumerator since.
const FLUSH_SEQ_BIT: u32 = 4;

/// Everything that the programs need to know of this kernel.
///
/// # Errors
///
/// When the kernel lacks a field without which no block request can be
/// followed.
pub fn config(types: &KernelTypes<'_>, pointers: Pointers) -> Result<Config> {
    let mut config = Config::ABSENT;
    block(types, &mut config)?;
    system_calls(types, &mut config);
    task(types, pointers, &mut config);
    files(types, &mut config)?;
    Ok(config)
}

fn block(types: &KernelTypes<'_>, config: &mut Config) -> Result<()> {
    let args = types
        .tracepoint_args("block_rq_issue")
        .context("this kernel has no tracepoint `block_rq_issue` in its BTF")?;
    // (queue, request) until 5.10.136, (request) since.
    let request_arg = args.len().saturating_sub(1);
    let request =
        types.pointee(args[request_arg]).context("`block_rq_issue` hands out no struct request")?;
    let need = |path: &str| required(types, request, "request", path);

    config.request_arg = request_arg as u32;
    config.request_queue = need("q")?;
    config.request_cmd_flags = need("cmd_flags")?;
    config.request_rq_flags = need("rq_flags")?;
    config.request_data_len = need("__data_len")?;
    config.request_tag = need("tag")?;
    config.request_internal_tag = need("internal_tag")?;
    config.request_hctx = need("mq_hctx")?;
    config.request_bio = need("bio")?;
    config.request_io_start = offset(types, request, "io_start_time_ns");
    let told_by_bio = types.tracepoint("block_io_start").is_none()
        && types.tracepoint_args("block_getrq").is_some_and(|args| args.len() == 1);
    config.births_by_bio = u32::from(told_by_bio);
    config.request_disk = offset(types, request, "rq_disk");
    config.flush_seq_bit = types.enumerator("__RQF_FLUSH_SEQ").unwrap_or(FLUSH_SEQ_BIT);

    let hctx = follow(types, request, "mq_hctx")?;
    config.hctx_queue_num = required(types, hctx, "blk_mq_hw_ctx", "queue_num")?;
    let disk = if config.request_disk == ABSENT {
        let queue = follow(types, request, "q")?;
        config.queue_disk = required(types, queue, "request_queue", "disk")?;
        follow(types, queue, "disk")?
    } else {
        follow(types, request, "rq_disk")?
    };
    config.disk_major = required(types, disk, "gendisk", "major")?;
    config.disk_first_minor = required(types, disk, "gendisk", "first_minor")?;
    // Absent as a whole without CONFIG_BLK_CGROUP.
    let _ = cgroups(types, request, config);
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

/// The task's fields stay absent as a whole before 5.11, where no typed program
/// can get at its task.
fn task(types: &KernelTypes<'_>, pointers: Pointers, config: &mut Config) {
    let typed = pointers == Pointers::Typed;
    if typed && types.enumerator("BPF_FUNC_get_current_task_btf").is_none() {
        return;
    }
    let Ok(task) = types.struct_named("task_struct") else { return };
    let fields =
        ["flags", "group_leader", "comm", "se.sum_exec_runtime", "se.exec_start", "pid", "tgid"]
            .map(|path| offset(types, task, path));
    if fields.contains(&ABSENT) {
        return;
    }
    [
        config.task_flags,
        config.task_group_leader,
        config.task_comm,
        config.task_exec_runtime,
        config.task_exec_start,
        config.task_pid,
        config.task_tgid,
    ] = fields;
    let has_helper = types.enumerator("BPF_FUNC_task_pt_regs").is_some();
    config.task_regs = u32::from(typed && has_helper && config.regs_syscall != ABSENT);
    // Needs CONFIG_SCHED_INFO.
    config.task_run_delay = offset(types, task, "sched_info.run_delay");
    switches(types, task, config);
    if config.bio_blkg != ABSENT {
        // Absent without CONFIG_CGROUPS and CONFIG_BLK_CGROUP.
        let _ = io_cgroup(types, task, config);
    }
}

/// Which tasks a switch of a CPU hands out, and from a task to its cgroup.
/// What is missing stays absent.
fn switches(types: &KernelTypes<'_>, task: u32, config: &mut Config) {
    let args = types.tracepoint_args("sched_switch").unwrap_or_default();
    if let Some(prev) = args.iter().position(|arg| types.pointee(*arg) == Some(task)) {
        config.switch_prev_arg = prev as u32;
    }
    config.task_cgroups = offset(types, task, "cgroups");
    let Ok(set) = follow(types, task, "cgroups") else { return };
    config.css_set_dfl_cgrp = offset(types, set, "dfl_cgrp");
    let Ok(cgroup) = follow(types, set, "dfl_cgrp") else { return };
    config.cgroup_node = offset(types, cgroup, "kn");
    let Ok(node) = follow(types, cgroup, "kn") else { return };
    config.node_id = offset(types, node, "id");
}

/// From a task to the cgroup that its bios name.
fn io_cgroup(types: &KernelTypes<'_>, task: u32, config: &mut Config) -> Option<()> {
    const POINTER_BYTES: u32 = 8;
    let cgroups = types.field(task, "cgroups")?;
    let set = types.pointee(cgroups.type_id)?;
    let subsystems = types.field(set, "subsys")?.offset_bytes;
    let io = types.enumerator("io_cgrp_id")?;
    let state = types.struct_named("cgroup_subsys_state").ok()?;
    [config.cgroups_io, config.css_cgroup] =
        [subsystems + io * POINTER_BYTES, types.field(state, "cgroup")?.offset_bytes];
    Some(())
}

fn files(types: &KernelTypes<'_>, config: &mut Config) -> Result<()> {
    let file = types.struct_named("file")?;
    config.file_inode = required(types, file, "file", "f_inode")?;
    let inode = follow(types, file, "f_inode")?;
    config.inode_ino = required(types, inode, "inode", "i_ino")?;
    config.inode_generation = offset(types, inode, "i_generation");
    config.inode_mode = required(types, inode, "inode", "i_mode")?;
    config.inode_sb = required(types, inode, "inode", "i_sb")?;
    let mapping = follow(types, inode, "i_mapping")?;
    config.mapping_host = required(types, mapping, "address_space", "host")?;
    let sb = follow(types, inode, "i_sb")?;
    config.sb_dev = required(types, sb, "super_block", "s_dev")?;
    config.sb_bdev = required(types, sb, "super_block", "s_bdev")?;
    if let Ok(bdi) = follow(types, sb, "s_bdi")
        && let Some(id) = types.field(bdi, "id")
    {
        [config.sb_bdi, config.bdi_id] = [offset(types, sb, "s_bdi"), id.offset_bytes];
    }
    let bdev = follow(types, sb, "s_bdev")?;
    config.bdev_disk = required(types, bdev, "block_device", "bd_disk")?;
    config.bdev_dev = required(types, bdev, "block_device", "bd_dev")?;
    filesystems(types, config);
    Ok(())
}

/// What the filesystems know, each of which may be a module with types of its
/// own. There may be several structs of one name: the tracepoints tell.
pub fn filesystems(types: &KernelTypes<'_>, config: &mut Config) {
    let of_first_arg = |tracepoint, path| {
        let args = types.tracepoint_args(tracepoint)?;
        let handed_out = types.pointee(*args.first()?)?;
        Some(types.field(handed_out, path)?.offset_bytes)
    };
    if let Some(at) = of_first_arg("xfs_file_fsync", "i_vnode") {
        config.xfs_inode_vnode = at;
    }
    if let Some(at) = of_first_arg("jbd2_start_commit", "j_fs_dev") {
        config.journal_fs_dev = at;
    }
}

fn system_calls(types: &KernelTypes<'_>, config: &mut Config) {
    if let Ok(regs) = types.struct_named("pt_regs") {
        // x86-64; arm64 keeps the registers in an array.
        config.regs_arg0 = match offset(types, regs, "di") {
            ABSENT => offset(types, regs, "regs"),
            at => at,
        };
        config.regs_syscall = match offset(types, regs, "orig_ax") {
            ABSENT => offset(types, regs, "syscallno"),
            at => at,
        };
    }
    let number = |nr: libc::c_long| nr as u32;
    config.nr_fsync = number(libc::SYS_fsync);
    config.nr_fdatasync = number(libc::SYS_fdatasync);
    config.nr_msync = number(libc::SYS_msync);
    config.nr_sync_file_range = number(libc::SYS_sync_file_range);
    config.nr_syncfs = number(libc::SYS_syncfs);
    config.nr_sync = number(libc::SYS_sync);
    let writes = [
        libc::SYS_write,
        libc::SYS_pwrite64,
        libc::SYS_writev,
        libc::SYS_pwritev,
        libc::SYS_pwritev2,
        libc::SYS_sendfile,
        libc::SYS_splice,
        libc::SYS_copy_file_range,
        libc::SYS_fallocate,
    ]
    .map(number);
    let syncs = [
        config.nr_fsync,
        config.nr_fdatasync,
        config.nr_msync,
        config.nr_sync_file_range,
        config.nr_syncfs,
        config.nr_sync,
    ];
    for nr in writes.into_iter().chain(syncs) {
        if let Some(word) = config.sync_exits.get_mut(nr as usize / 32) {
            *word |= 1 << (nr % 32);
        }
    }
}

fn offset(types: &KernelTypes<'_>, of: u32, path: &str) -> u32 {
    types.field(of, path).map_or(ABSENT, |field| field.offset_bytes)
}

fn required(types: &KernelTypes<'_>, of: u32, name: &str, path: &str) -> Result<u32> {
    types
        .field(of, path)
        .map(|field| field.offset_bytes)
        .with_context(|| format!("no field `{path}` in this kernel's `struct {name}`"))
}

/// The struct that a pointer field leads to.
fn follow(types: &KernelTypes<'_>, of: u32, path: &str) -> Result<u32> {
    types
        .field(of, path)
        .and_then(|field| types.pointee(field.type_id))
        .with_context(|| format!("no pointer `{path}` in this kernel's BTF"))
}
