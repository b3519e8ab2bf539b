//! What is known of a sync while it is under way.

use tracer_ebpf::{
    clocks::Clocks,
    record::{ACCOUNTS, NO_DISK, kind},
};

use crate::{
    cell::{MapCell, fields},
    contenders::Contender,
    journals::Totals,
};

/// How long a bio takes to become a request where nothing holds it back.
const USUAL_NS: u64 = 2_000;

/// A sync under way, or a journal's commit ([`COMMIT`]).
#[repr(C)]
pub struct OpenSync {
    pub begin_ns: u64,
    pub clocks: Clocks,
    /// The journal's sums when the filesystem became known.
    pub journal: Totals,
    pub inode: u64,
    pub generation: u32,
    pub backing: u32,
    /// Sums over its own requests; added to where they end, on any CPU. Reads
    /// apart: what it reads back had been evicted.
    pub own_queue_ns: u64,
    pub own_device_ns: u64,
    pub own_read_ns: u64,
    pub own_requests: u64,
    pub own_bytes: u64,
    /// Birth of its first own request, end of its last.
    pub own_first_ns: u64,
    pub own_last_ns: u64,
    /// When its last bio was submitted; 0 once that has a request.
    pub bio_ns: u64,
    /// Its bios waited to become requests.
    pub throttle_ns: u64,
    /// In direct reclaim, and of that on a CPU.
    pub reclaim_ns: u64,
    pub reclaim_cpu_ns: u64,
    /// When it first forced a log (xfs), and what its requests had taken then.
    pub log_force_ns: u64,
    pub own_before_force_ns: u64,
    pub contender: Contender,
    /// Tells this sync from the thread's others.
    pub seq: u32,
    pub kind: u32,
    pub fd: i32,
    /// The filesystem of the file that was named.
    pub device: u32,
    /// The filesystem on the disk: another one below an overlay.
    pub base_device: u32,
    pub disk: u32,
    /// How deep it is in filesystems' own syncs; always 0 in a system call's.
    pub depth: u32,
    /// 1 where further disks are watched.
    pub stacked: u32,
    /// The thread; 0 where its place in the table is free.
    pub tid: u32,
    /// So many of the marks were made; the others say nothing.
    pub marked: u64,
    /// The accounts' integrals when the disk became known.
    pub marks: [u64; ACCOUNTS],
}

fields! {
    OpenSync {
        begin_ns: u64,
        clocks: Clocks,
        journal: Totals,
        inode: u64,
        generation: u32,
        backing: u32,
        own_queue_ns: u64,
        own_device_ns: u64,
        own_read_ns: u64,
        own_requests: u64,
        own_bytes: u64,
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
        self.own_queue_ns().set(0);
        self.own_device_ns().set(0);
        self.own_read_ns().set(0);
        self.own_requests().set(0);
        self.own_bytes().set(0);
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

/// The kind of a journal's commit: never told.
pub const COMMIT: u32 = kind::COUNT as u32;
