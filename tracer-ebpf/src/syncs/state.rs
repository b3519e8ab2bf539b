//! The state of a sync while it is under way.

pub use tracer_ebpf::open_sync::{COMMIT, OpenSync};
use tracer_ebpf::{
    clocks::Clocks,
    open_sync::{Contender, Totals},
    record::{ACCOUNTS, COMM, NO_DISK},
};

use crate::cell::{MapCell, fields};

/// How long a bio takes to become a request where nothing holds it back.
const USUAL_NS: u64 = 2_000;

fields! {
    OpenSync {
        begin_ns: u64,
        cgroup: u64,
        comm: [u64; COMM / 8],
        clocks: Clocks,
        journal: Totals,
        inode: u64,
        generation: u32,
        backing: u32,
        own_queue_ns: u64,
        own_device_ns: u64,
        own_read_ns: u64,
        own_work: u64,
        own_first_ns: u64,
        own_last_ns: u64,
        bio_ns: u64,
        throttle_ns: u64,
        reclaim_ns: u64,
        reclaim_cpu_ns: u64,
        log_force_ns: u64,
        own_before_force_ns: u64,
        contender: Contender,
        seq: u32,
        kind: u32,
        fd: i32,
        device: u32,
        base_device: u32,
        disk: u32,
        depth: u32,
        stacked: u32,
        tid: u32,
        shown_tgid: u32,
        shown_tid: u32,
        kthread: u16,
        carried: u16,
        marked: u64,
        marks: [u64; ACCOUNTS],
    }
}

impl MapCell<OpenSync> {
    /// Leaves only the marks: they are made when a disk becomes known.
    #[inline(always)]
    pub fn clear(self) {
        self.begin_ns().set(0);
        self.clocks().set(Clocks::NONE);
        self.journal().set(Totals::NONE);
        self.inode().set(0);
        self.generation().set(0);
        self.backing().set(0);
        self.device().set(0);
        self.base_device().set(0);
        self.disk().set(NO_DISK);
        self.stacked().set(0);
        self.carried().set(0);
        self.own_queue_ns().set(0);
        self.own_device_ns().set(0);
        self.own_read_ns().set(0);
        self.own_work().set(0);
        self.own_first_ns().set(0);
        self.own_last_ns().set(0);
        self.bio_ns().set(0);
        self.throttle_ns().set(0);
        self.reclaim_ns().set(0);
        self.reclaim_cpu_ns().set(0);
        self.log_force_ns().set(0);
        self.own_before_force_ns().set(0);
        self.contender().known().set(0);
        self.kind().set(0);
        self.fd().set(0);
        self.depth().set(0);
    }

    /// The bio that its thread submitted last has been given a request.
    #[inline(always)]
    pub fn end_throttle(self, now: u64) {
        let bio_ns = self.bio_ns().get();
        if bio_ns != 0 {
            let waited_ns = now.saturating_sub(bio_ns).saturating_sub(USUAL_NS);
            self.throttle_ns().add_alone(waited_ns);
            self.bio_ns().set(0);
        }
    }
}
