//! Syncs, from begin to end.
//!
//! Three ways lead to them: the system calls' own functions, what ext4 says and,
//! for everything else, a hook on every call, or the one function behind most of
//! them.
//!
//! It feeds `tracer_sync_duration_seconds` and the phases `cpu` and `runqueue`.

use anyhow::Result;
use tracer_ebpf::config::{ABSENT, Config};

use crate::{
    hook::{Gap, Hook, Layout, Served, Strategy, gap, on_demand, optional, step},
    program::Program,
    types::{KernelTypes, Pointers},
};

pub const HOOK: Hook = Hook {
    name: "sync",
    purpose: "each fsync, fdatasync and similar call, from begin to end",
    is_required: true,
    without: "syncs are not seen",
    strategies: &[
        Strategy {
            name: "fentry",
            steps: &[
                step(Program::FsyncExit),
                step(Program::FsyncEntry),
                step(Program::FdatasyncExit),
                step(Program::FdatasyncEntry),
                step(Program::MsyncExit),
                step(Program::MsyncEntry),
                step(Program::SyncFileRangeExit),
                step(Program::SyncFileRangeEntry),
                step(Program::SyncfsExit),
                step(Program::SyncfsEntry),
                optional(step(Program::SyncExit)),
                optional(step(Program::SyncEntry)),
                optional(step(Program::VfsRangeExit)),
                optional(step(Program::VfsRangeEntry)),
                optional(step(Program::VfsExit)),
                optional(step(Program::VfsEntry)),
                optional(step(Program::WriteFileEntry)),
                optional(step(Program::WritePagesEntry)),
                optional(step(Program::SyncInodesEntry)),
            ],
        },
        Strategy {
            name: "tracepoint",
            // Programs on demand are attached if a filesystem other than ext4 is mounted.
            steps: &[
                on_demand(step(Program::SysExit)),
                on_demand(step(Program::SysEnter)),
                on_demand(optional(step(Program::Ext4Writepages))),
                // They mark only the begin of a sync.
                on_demand(optional(step(Program::XfsFileFsync))),
                on_demand(optional(step(Program::BtrfsSyncFile))),
                optional(step(Program::Ext4SyncFileExit)),
                optional(step(Program::Ext4SyncFileEnter)),
                optional(step(Program::Ext4SyncFs)),
            ],
        },
        Strategy {
            name: "vfs",
            steps: &[
                step(Program::VfsRangeExit),
                step(Program::VfsOnlyEntry),
                optional(step(Program::WriteFileEntry)),
                optional(step(Program::WritePagesEntry)),
            ],
        },
    ],
    find_fields,
    find_module_fields,
    is_usable,
    find_gaps,
};

fn find_fields(layout: &Layout<'_>, config: &mut Config) -> Result<()> {
    let types = layout.types;
    let registers =
        types.read_struct("pt_regs", types.handed_out("pt_regs", &["sys_enter"]), |regs| {
            let one_of = |x86_64, arm64| match types.offset(regs, x86_64) {
                ABSENT => types.offset(regs, arm64),
                at => at,
            };
            // On arm64 the arguments are in an array.
            Ok([one_of("di", "regs"), one_of("orig_ax", "syscallno")])
        });
    [config.regs_arg0, config.regs_syscall] = layout.doubt(registers).unwrap_or([ABSENT; 2]);
    let number = |nr: libc::c_long| nr as u32;
    config.nr_fsync = number(libc::SYS_fsync);
    config.nr_fdatasync = number(libc::SYS_fdatasync);
    config.nr_msync = number(libc::SYS_msync);
    config.nr_sync_file_range = number(libc::SYS_sync_file_range);
    config.nr_syncfs = number(libc::SYS_syncfs);
    config.nr_sync = number(libc::SYS_sync);
    config.nr_umount = number(libc::SYS_umount2);
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
    if layout.task.is_some() {
        let has_helper = types.enumerator("BPF_FUNC_task_pt_regs").is_some();
        let typed = layout.pointers == Pointers::Typed;
        config.task_regs = u32::from(typed && has_helper && config.regs_syscall != ABSENT);
    }
    Ok(())
}

fn find_module_fields(types: &KernelTypes<'_>, config: &mut Config) {
    if let Some(at) = types.offset_in_first_arg("xfs_file_fsync", "i_vnode") {
        config.xfs_inode_vnode = at;
    }
}

fn is_usable(program: Program, config: &Config) -> bool {
    program != Program::XfsFileFsync || config.xfs_inode_vnode != ABSENT
}

fn find_gaps(served: &Served<'_>) -> Vec<Gap> {
    let has = |programs: &[Program]| served.has(programs);
    let mut found: Vec<Gap> = Vec::new();
    match served.strategy {
        "fentry" => {
            if !has(&[Program::VfsRangeEntry, Program::VfsRangeExit]) {
                let sentence = "writes to O_DSYNC files and io_uring's syncs are not seen";
                found.push(gap("o_dsync", sentence));
            }
            if !has(&[Program::WriteFileEntry]) {
                found.push(late_disk("all filesystems"));
            }
        }
        "vfs" => {
            let sentence = "only fsync and fdatasync are seen, and writes to O_DSYNC files are \
                            taken for fdatasync";
            found.push(gap("calls", sentence));
        }
        _ => {
            if !has(&[Program::SysEnter, Program::SysExit]) {
                let sentence = "only syncs of files on ext4 are seen, not of whole filesystems and \
                                not by sync_file_range";
                found.push(gap("calls", sentence));
            }
            let ext4 = [Program::Ext4SyncFileEnter, Program::Ext4SyncFileExit];
            let ext4 = has(&ext4).then_some("ext4");
            let xfs = has(&[Program::XfsFileFsync]).then_some("xfs");
            let btrfs = has(&[Program::BtrfsSyncFile]).then_some("btrfs");
            let named: Vec<_> = [ext4, xfs, btrfs].into_iter().flatten().collect();
            let (written, queued) = (seen_on(&named), seen_on(ext4.as_slice()));
            let sentence =
                format!("writes to O_DSYNC files, and the file of an msync, are {written}");
            found.push(gap("o_dsync", sentence));
            found.push(gap("io_uring", format!("io_uring's syncs are {queued}")));
            found.push(late_disk(match (ext4, xfs) {
                (Some(_), Some(_)) => "filesystems other than ext4 and xfs",
                (Some(_), None) => "filesystems other than ext4",
                (None, Some(_)) => "filesystems other than xfs",
                (None, None) => "all filesystems",
            }));
        }
    }
    found
}

/// `seen only on ext4, xfs and btrfs`, or `not seen` for none.
fn seen_on(filesystems: &[&str]) -> String {
    match filesystems {
        [] => "not seen".to_owned(),
        [one] => format!("seen only on {one}"),
        [most @ .., last] => format!("seen only on {} and {last}", most.join(", ")),
    }
}

/// If no hook names a file's disk, the first request of the sync does.
fn late_disk(filesystems: &str) -> Gap {
    let sentence = format!(
        "on {filesystems} a sync's disk is known only from its first block request on: requests \
         of others that were in flight before that are not seen"
    );
    gap("disk", sentence)
}
