//! No heap allocation per record in steady state, counted by the allocator.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs::File,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::Path,
};

use tracer_ebpf::{
    ledger::tick,
    record::{ACCOUNTS, SyncRecord, kind},
};
use tracer_engine::{
    Engine,
    blame::{Owner, OwnerId},
};
use tracer_kernel::maps::ring::{Record, decode};
use tracer_node::files::Files;
use zerocopy::{FromZeros as _, IntoBytes as _};

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed to the system's allocator; a const-initialised
// thread-local of a plain word neither allocates nor has a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller upholds the contract, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract, which is the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller upholds the contract, which is the system allocator's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    COUNT.with(Cell::get)
}

const MS: u64 = 1_000_000;

/// A disk's accounts as they are under load: one of the victim, one of its journal, and
/// four of others.
fn owners() -> [Owner; ACCOUNTS] {
    let mut owners = [Owner::default(); ACCOUNTS];
    let named: [&[u8]; 6] = [b"etcd", b"jbd2/loop0-8", b"fstrim", b"fio", b"postgres", b"tar"];
    for (id, (name, owner)) in (1u32..).zip(named.iter().zip(&mut owners[1..])) {
        owner.comm[..name.len()].copy_from_slice(name);
        owner.id = OwnerId(id);
        owner.cgroup = u64::from(id);
        owner.kthread = name.starts_with(b"jbd2");
    }
    owners
}

/// The `n`th sync of etcd: its length varies, and so does whether it is contended.
fn record(n: u64, file: &File) -> SyncRecord {
    let metadata = file.metadata().expect("our own file");
    let device = metadata.dev();
    let mut record = SyncRecord::new_zeroed();
    record.begin_ns = n * MS;
    record.duration_ns = MS / 2 + n * 7919 % (40 * MS);
    record.cpu_ns = 20_000;
    record.own_queue_ns = 10_000;
    record.own_device_ns = record.duration_ns / 3;
    record.own_span_ns = record.duration_ns / 2;
    record.journal_ns = record.duration_ns / 4;
    record.kind = kind::FDATASYNC;
    record.tgid = std::process::id();
    record.device = (libc::major(device) << 20) | libc::minor(device);
    record.inode = metadata.ino();
    record.generation = 1;
    record.fd = file.as_raw_fd();
    record.cgroup = 1;
    record.comm[..4].copy_from_slice(b"etcd");
    if !n.is_multiple_of(3) {
        for account in 1..7 {
            record.integrals[account] = tick(record.duration_ns) * (account as u64) / 4;
        }
    }
    record
}

#[test]
fn a_million_records_are_taken_in_without_one_allocation() {
    let file = File::open("/proc/self/exe").expect("our own executable");
    let owners = owners();
    let mut files = Files::new(Path::new("/"));
    files.look_at_mounts(1);
    let mut engine = Engine::new();
    let mut take = |n: u64, record: &SyncRecord, now_ns: u64| {
        let Record::Sync(record, underlying) = decode(record.as_bytes()) else {
            panic!("not a sync")
        };
        let file = files.resolve(record.tgid, record.fd, record.into(), now_ns);
        engine.ingest(record, underlying, file.0, 0, |_| &owners);
        if n.is_multiple_of(5_000) {
            engine.rotate();
        }
    };
    let records: Vec<_> = (0..1_000).map(|n| record(n, &file)).collect();
    // New names may allocate: the file, the victim, the owners.
    for (n, record) in (0u64..).zip(&records) {
        take(n, record, 0);
    }
    let before = allocations();
    for n in 0..1_000_000u64 {
        take(n, &records[n as usize % records.len()], 0);
    }
    assert_eq!(allocations() - before, 0);
    assert_eq!(engine.records(), 1_001_000);
    // The counter does count.
    let before = allocations();
    drop(std::hint::black_box(vec![1u8; 100]));
    assert_eq!(allocations() - before, 1);
}
