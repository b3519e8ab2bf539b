//! Transactions take room in the log of an xfs.
//!
//! It feeds `tracer_blame_seconds_total` with the operation `metadata`, on xfs.

use tracer_ebpf::config::{ABSENT, Config};

use crate::{
    hook::{Gap, Hook, Served, Strategy, gap, on_demand, optional, step},
    program::Program,
    types::KernelTypes,
};

pub const HOOK: Hook = Hook {
    name: "tickets",
    purpose: "who fills the log of an xfs (attached only while syncs wait for it)",
    is_required: false,
    without: "which owners fill the log of an xfs is not known",
    strategies: &[Strategy {
        name: "tracepoint",
        steps: &[
            on_demand(step(Program::XfsLogTicketUngrant)),
            on_demand(step(Program::XfsLogTicketRegrant)),
            // Ends before begins.
            on_demand(optional(step(Program::XfsInodeSetReclaimable))),
            on_demand(optional(step(Program::XfsInodeInactivating))),
            on_demand(optional(step(Program::XfsInodeSetNeedInactive))),
            on_demand(optional(step(Program::XfsUnwrittenConvert))),
            on_demand(optional(step(Program::XfsSetfilesize))),
        ],
    }],
    find_module_fields,
    is_usable,
    find_gaps,
    ..Hook::PLAIN
};

fn find_module_fields(types: &KernelTypes<'_>, config: &mut Config) {
    const AT: &str = "xfs_log_ticket_ungrant";
    let found = || {
        let log = types.handed_out("xlog", &[AT])?;
        let ticket = types.handed_out("xlog_ticket", &[AT])?;
        let mount = types.field(log, "l_mp")?;
        let of_mount = types.field(types.pointee(mount.type_id)?, "m_super")?;
        let reserved = types.field(ticket, "t_unit_res")?;
        let left = types.field(ticket, "t_curr_res")?;
        Some([mount, of_mount, reserved, left].map(|field| field.offset_bytes))
    };
    if let Some(found) = found() {
        [config.xlog_mount, config.xfs_mount_super, config.ticket_reserved, config.ticket_left] =
            found;
    }
}

fn is_usable(program: Program, config: &Config) -> bool {
    match program {
        Program::XfsLogTicketUngrant | Program::XfsLogTicketRegrant => config.xlog_mount != ABSENT,
        Program::XfsInodeSetReclaimable => true,
        _ => config.xfs_inode_vnode != ABSENT,
    }
}

fn find_gaps(served: &Served<'_>) -> Vec<Gap> {
    if !served.has(&[Program::XfsLogTicketUngrant, Program::XfsLogTicketRegrant]) {
        return vec![gap(HOOK.name, HOOK.without)];
    }
    let by_workers = [
        Program::XfsInodeSetReclaimable,
        Program::XfsInodeInactivating,
        Program::XfsInodeSetNeedInactive,
        Program::XfsUnwrittenConvert,
        Program::XfsSetfilesize,
    ];
    if served.has(&by_workers) {
        return Vec::new();
    }
    vec![gap(HOOK.name, "for whom kernel workers change an xfs is not known")]
}
