//! User space alone: a million records go through decoding, files and engine, as in a
//! session, without the kernel.
//!
//! This measures the steady state: victims, owners and the file are known before it
//! counts, and the clock stands still, so the file is not looked up again.

use std::{
    fs::File,
    hint::black_box,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::Path,
    process,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use tracer_ebpf::{
    ledger::tick,
    record::{ACCOUNTS, COMM, SyncRecord, kind},
};
use tracer_engine::{
    Engine,
    blame::{Owner, OwnerId},
};
use tracer_kernel::{
    clock::monotonic_ns,
    maps::ring::{Record, decode},
};
use tracer_node::{devices, files::Files};
use zerocopy::{FromZeros as _, IntoBytes as _};

use crate::{
    Round, allocations,
    fio::Stand,
    report::{
        rows::{ALLOCATIONS, REPLAY},
        table::Table,
    },
};

const RECORDS: usize = 1_000_000;
const WARM_UP: usize = 20_000;
const ROTATE_EVERY: usize = 5_000;
/// The number of different records; together they are about as large as the ring.
const POOL: usize = 1024;
/// The number of cgroups that sync; each is a victim.
const VICTIMS: u64 = 8;
const MS: u64 = 1_000_000;

pub fn measure(stand: &Stand, round: &Round, table: &mut Table) -> Result<()> {
    round.say("replay of a million records");
    let path = stand.sync_file();
    let file = File::open(&path).with_context(|| format!("failed to open `{}`", path.display()))?;
    let pool = make_records(&file)?;
    let mut replay = Replay {
        files: Files::new(Path::new("/")),
        engine: Engine::new(),
        owners: make_owners(),
        now_ns: monotonic_ns(),
    };
    replay.files.look_at_mounts(replay.now_ns + 1);
    replay.run(&pool, WARM_UP)?;
    if replay.files.unresolved() != 0 {
        bail!("our own file `{}` was not found among our descriptors", path.display());
    }

    let before = allocations::count();
    let begin = Instant::now();
    replay.run(&pool, RECORDS)?;
    let ns = begin.elapsed().as_nanos() as f64;
    let allocated = allocations::count() - before;
    table.note(&REPLAY, "time, per record", "ns", ns / RECORDS as f64);
    table.note(&REPLAY, "allocations, per record", "", allocated as f64 / RECORDS as f64);
    table.note(&REPLAY, ALLOCATIONS, "", allocated as f64);
    Ok(())
}

struct Replay {
    files: Files,
    engine: Engine,
    owners: [Owner; ACCOUNTS],
    now_ns: u64,
}

impl Replay {
    fn run(&mut self, pool: &[SyncRecord], records: usize) -> Result<()> {
        for (at, record) in pool.iter().cycle().take(records).enumerate() {
            // The compiler must not know that these bytes are a record.
            let Record::Sync(record, underlying) = decode(black_box(record.as_bytes())) else {
                bail!("a record is not decoded as one");
            };
            let file = self.files.resolve(record.tgid, record.fd, record.into(), self.now_ns);
            let owners = &self.owners;
            black_box(self.engine.ingest(record, underlying, file.0, 0, |_| owners));
            if at % ROTATE_EVERY == ROTATE_EVERY - 1 {
                self.engine.rotate();
            }
        }
        Ok(())
    }
}

/// Account 1 is the victim's own, 2 is its journal's, 3 to 6 are the competitors'.
fn make_owners() -> [Owner; ACCOUNTS] {
    std::array::from_fn(|at| {
        let mut comm = [0; COMM];
        let name: &[u8] = match at {
            1 => b"victim",
            2 => b"jbd2/loop0-8",
            _ => b"tenant",
        };
        comm[..name.len()].copy_from_slice(name);
        let cgroup = if at == 2 { 0 } else { at as u64 };
        Owner {
            id: OwnerId(at as u32),
            cgroup,
            comm,
            kthread: at == 2,
            op: 1,
            weight_ns: 1,
            via: 0,
        }
    })
}

/// Every second sync is disturbed, by four competitors.
fn make_records(file: &File) -> Result<Vec<SyncRecord>> {
    let meta = file.metadata().context("failed to read our own file's metadata")?;
    let owners = make_owners();
    let record = |at: usize| {
        let mut record = SyncRecord::new_zeroed();
        record.begin_ns = at as u64 * 10 * MS;
        record.duration_ns = MS + (at as u64 * 7919) % (4 * MS);
        record.cpu_ns = MS / 10;
        record.runqueue_ns = MS / 50;
        record.own_queue_ns = MS / 20;
        record.own_device_ns = MS / 2;
        record.own_span_ns = MS / 2;
        record.journal_ns = MS / 4;
        record.own_requests = 2;
        record.cgroup = 1 + at as u64 % VICTIMS;
        record.comm = owners[1].comm;
        record.device = devices::from_stat(meta.dev());
        record.inode = meta.ino();
        record.generation = 1;
        record.tgid = process::id();
        record.tid = process::id();
        record.fd = file.as_raw_fd();
        record.kind = kind::FDATASYNC;
        record.integrals[1] = tick(record.duration_ns / 2);
        record.integrals[2] = tick(record.duration_ns / 4);
        if at % 2 == 1 {
            for account in 3..7 {
                record.integrals[account] = tick(record.duration_ns * account as u64 / 4);
            }
        }
        record
    };
    Ok((0..POOL).map(record).collect())
}
