//! A neighbour that uses up the memory, and one that uses only its own.
//!
//! The victim needs a little memory: each of its syncs allocates blocks in another block
//! group of ext4, whose bitmap must be in memory. While nobody else needs the memory, all
//! bitmaps are. A tenant within the same limit reads a file, which evicts the bitmaps, and
//! the syncs read them back.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tracer_disk_model::Model;
use tracer_lab::{
    cgroup::Cgroup, cgroup_v1::CgroupV1, disk::Filesystem, process::Process, tool::last_line,
};

use super::{
    need_stage, play_on,
    stage::cgroup,
    verdict::{Actor, Answer, Truth, Victim, watch},
};
use crate::simulated::{
    SimulatedDisk,
    parts::{Account, Part},
};

/// The size of a group of blocks: the smallest bitmap covers this many blocks.
const GROUP_BLOCKS: u64 = 1024;
const GROUP_BYTES: u64 = GROUP_BLOCKS * 4096;
/// The number of groups, which is more than it uses while it is watched, so each is used once.
const GROUPS: u64 = 420;
const SYNCS_PER_SECOND: u32 = 25;

const LIMIT_BYTES: usize = 64 << 20;
/// The size of the tenant's heap. What it leaves of the limit is less than all bitmaps need,
/// but enough for both processes.
const HEAP_BYTES: usize = 52 << 20;
/// The size of a file of holes. It is read as fast as memory can be allocated, and needs no
/// disk.
const HOLES_BYTES: u64 = 1 << 30;
const READ_BYTES_PER_SECOND: u64 = 400_000_000;

/// The time for the victim's first round.
const BEGUN: Duration = Duration::from_secs(30);

/// The processes within the limit.
#[derive(Clone, Copy, Debug)]
enum LimitOf {
    Both,
    Tenant,
}

/// The victim on its disk, whose reads take 40 ms from now on.
///
/// Fields are dropped in order: what runs, then what it runs in and on.
pub struct Store {
    victim: Process,
    account: PathBuf,
    cgroup: Cgroup,
    pub disk: SimulatedDisk,
}

impl Store {
    /// Lays the victim's file out on a new disk, and starts it with `start`. Other files, of
    /// these names and sizes, are laid out as well.
    pub fn build(
        others: &[(&str, u64)],
        start: impl FnOnce(&Part, &Cgroup) -> Result<Process>,
    ) -> Result<Self> {
        let disk =
            SimulatedDisk::create_with(Filesystem::Ext4, &["-g", &GROUP_BLOCKS.to_string()])?;
        let account = folder(&disk)?.join("account");
        let file = disk.mountpoint().join("store");
        lay_out(&file)?;
        for (name, bytes) in others {
            let other = File::create(disk.mountpoint().join(name))?;
            let piece = vec![0x55; 1 << 20];
            (0..bytes >> 20).try_for_each(|at| other.write_all_at(&piece, at << 20))?;
            other.sync_all()?;
        }
        // Memory is charged to the process that uses it first, which must not be this one.
        disk.forget()?;

        let filler = Part::Filler {
            file,
            stride_bytes: GROUP_BYTES,
            strides: GROUPS,
            per_second: SYNCS_PER_SECOND,
            account: account.clone(),
        };
        let cgroup = cgroup("store");
        let victim = start(&filler, &cgroup)?;
        wait_for_a_round(&victim, &account)?;
        // The journal keeps bitmaps in memory until they are written to their places.
        disk.settle()?;
        disk.become_another(&Model { read: Duration::from_millis(40), ..Model::default() })?;
        Ok(Self { victim, account, cgroup, disk })
    }

    /// Watches the victim while `busy` runs.
    pub fn watch(&self, busy: impl FnOnce(Duration)) -> Answer {
        let answer = watch(self, busy);
        // The filesystem reads bitmaps ahead on its own, and ends no sooner.
        self.disk.become_another(&Model::default()).unwrap();
        answer
    }
}

impl Victim for Store {
    fn pid(&self) -> u32 {
        self.victim.pid()
    }

    fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    fn sync_seconds(&self) -> f64 {
        Account::read(&self.account).expect("it keeps account").seconds
    }
}

/// The folder beside a disk's mountpoint.
fn folder(disk: &SimulatedDisk) -> Result<&Path> {
    disk.mountpoint().parent().context("a mountpoint lies in a folder")
}

/// Fields are dropped in order: what runs, then what it runs in.
struct Shortage {
    store: Store,
    tenant: Part,
    limit: CgroupV1,
}

impl Shortage {
    fn build(limit: CgroupV1, of_whom: LimitOf) -> Result<Self> {
        limit.set("memory.limit_in_bytes", &LIMIT_BYTES.to_string())?;
        let store = Store::build(&[], |victim, cgroup| match of_whom {
            LimitOf::Both => victim.start_within(&limit, "store", cgroup),
            LimitOf::Tenant => victim.start("store", cgroup),
        })?;
        let holes = folder(&store.disk)?.join("holes");
        File::create(&holes)?.set_len(HOLES_BYTES)?;
        let tenant = Part::Hoarder {
            heap_bytes: HEAP_BYTES,
            file: holes,
            bytes_per_second: READ_BYTES_PER_SECOND,
        };
        Ok(Self { store, tenant, limit })
    }

    /// Watches the victim; calls `before`, and then starts the tenant.
    fn watch(&self, tenant: &Cgroup, before: impl FnOnce()) -> Answer {
        self.store.watch(|length| {
            before();
            let _tenant = self.tenant.start_within(&self.limit, "hoarder", tenant).unwrap();
            sleep(length);
        })
    }
}

/// Makes a file that has a block in every group.
fn lay_out(path: &Path) -> Result<()> {
    let file = File::create(path)?;
    for group in 0..GROUPS {
        file.write_all_at(&[0x55; 4096], group * GROUP_BYTES)?;
    }
    file.sync_all().with_context(|| format!("failed to lay `{}` out", path.display()))
}

fn wait_for_a_round(victim: &Process, account: &Path) -> Result<()> {
    let until = Instant::now() + BEGUN;
    while !Account::read(account).is_ok_and(|account| account.syncs > GROUPS) {
        if let Some(ended) = victim.ended() {
            bail!("the victim ended: {}", last_line(&ended.stderr));
        }
        if Instant::now() > until {
            bail!("the victim has not finished its first round after {BEGUN:?}");
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Builds one, or skips with the reason why this machine cannot limit memory.
macro_rules! need_shortage {
    ($of_whom:expr) => {
        match CgroupV1::create("memory", "limit").unwrap() {
            Some(limit) => Shortage::build(limit, $of_whom).expect("memory to be short of"),
            None => crate::skip::skip!("no cgroup v1 for `memory`"),
        }
    };
}

#[test]
fn a_tenant_that_takes_the_memory_is_named() {
    need_stage!();
    play_on(|| {
        let shortage = need_shortage!(LimitOf::Both);
        let (tenant, writer) = (cgroup("hoarder"), cgroup("bystander"));
        let bystander = Part::Writer {
            file: shortage.store.disk.mountpoint().join("bystander"),
            file_bytes: 16 << 20,
            bytes_per_second: 1 << 20,
        };
        let _bystander = bystander.start("bystander", &writer).unwrap();
        let answer = shortage.watch(&tenant, || ());
        let truth = Truth {
            kinds: &["memory"],
            culprits: &[Actor { comm: "hoarder", cgroup: &tenant }],
            innocent: &[Actor { comm: "bystander", cgroup: &writer }],
            slower: 1.5,
        };
        answer.judge("a tenant that takes the memory", &truth);
    });
}

/// The bitmaps are evicted for another reason.
#[test]
fn who_is_at_a_limit_of_its_own_takes_memory_from_nobody_else() {
    need_stage!();
    play_on(|| {
        let shortage = need_shortage!(LimitOf::Tenant);
        let tenant = cgroup("hoarder");
        let answer = shortage.watch(&tenant, || shortage.store.disk.forget().unwrap());
        let truth = Truth {
            kinds: &["memory"],
            culprits: &[],
            innocent: &[Actor { comm: "hoarder", cgroup: &tenant }],
            slower: 1.5,
        };
        answer.judge("a tenant at its own limit", &truth);
    });
}
