//! A neighbour that takes the memory, and one that only takes its own.
//!
//! The victim needs a little of it: each of its syncs takes blocks in another
//! group of ext4's, whose bitmap must be there. While nobody wants the memory
//! they all are. What a tenant within the same limit reads drives them out, and
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
/// More than are met while it is watched, so that each is met once.
const GROUPS: u64 = 420;
const SYNCS_PER_SECOND: u32 = 25;

const LIMIT_BYTES: usize = 64 << 20;
/// The tenant's heap. It leaves less of the limit than all bitmaps need, and enough for
/// both processes to live.
const HEAP_BYTES: usize = 52 << 20;
/// A file of holes: it is read as fast as memory is found for it, and no disk
/// has to do with that.
const HOLES_BYTES: u64 = 1 << 30;
const READ_BYTES_PER_SECOND: u64 = 400_000_000;

/// For the victim's first round.
const BEGUN: Duration = Duration::from_secs(30);

/// The processes within the limit.
#[derive(Clone, Copy, Debug)]
enum LimitOf {
    Both,
    Tenant,
}

/// Fields are dropped in order: what runs, then what it runs in and on.
struct Shortage {
    victim: Process,
    account: PathBuf,
    tenant: Part,
    limit: CgroupV1,
    cgroup: Cgroup,
    disk: SimulatedDisk,
}

impl Shortage {
    fn build(limit: CgroupV1, of_whom: LimitOf) -> Result<Self> {
        let disk =
            SimulatedDisk::create_with(Filesystem::Ext4, &["-g", &GROUP_BLOCKS.to_string()])?;
        limit.set("memory.limit_in_bytes", &LIMIT_BYTES.to_string())?;
        let folder = disk.mountpoint().parent().context("a mountpoint lies in a folder")?;
        let (account, holes) = (folder.join("account"), folder.join("holes"));
        File::create(&holes)?.set_len(HOLES_BYTES)?;
        let file = disk.mountpoint().join("store");
        lay_out(&file)?;
        // Memory is on the account of who asked for it first: not of us.
        disk.forget()?;

        let filler = Part::Filler {
            file,
            stride_bytes: GROUP_BYTES,
            strides: GROUPS,
            per_second: SYNCS_PER_SECOND,
            account: account.clone(),
        };
        let cgroup = cgroup("store");
        let victim = match of_whom {
            LimitOf::Both => filler.start_within(&limit, "store", &cgroup)?,
            LimitOf::Tenant => filler.start("store", &cgroup)?,
        };
        wait_for_a_round(&victim, &account)?;
        // The journal holds on to bitmaps that are not in their places yet.
        disk.settle()?;
        disk.become_another(&Model { read: Duration::from_millis(40), ..Model::default() })?;
        let tenant = Part::Hoarder {
            heap_bytes: HEAP_BYTES,
            file: holes,
            bytes_per_second: READ_BYTES_PER_SECOND,
        };
        Ok(Self { victim, account, tenant, limit, cgroup, disk })
    }

    /// Watches the victim; the tenant comes after what is done `before`.
    fn watch(&self, tenant: &Cgroup, before: impl FnOnce()) -> Answer {
        let answer = watch(self, |length| {
            before();
            let _tenant = self.tenant.start_within(&self.limit, "hoarder", tenant).unwrap();
            sleep(length);
        });
        // The filesystem reads bitmaps ahead on its own, and ends no sooner.
        self.disk.become_another(&Model::default()).unwrap();
        answer
    }
}

impl Victim for Shortage {
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

/// A file that has a block in every group.
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
            bail!("the victim has ended: {}", last_line(&ended.stderr));
        }
        if Instant::now() > until {
            bail!("the victim is not once round after {BEGUN:?}");
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// One of its kind, or the reason why this machine cannot limit memory so.
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
            file: shortage.disk.mountpoint().join("bystander"),
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

/// The bitmaps go for another reason meanwhile.
#[test]
fn who_is_at_a_limit_of_its_own_takes_memory_from_nobody_else() {
    need_stage!();
    play_on(|| {
        let shortage = need_shortage!(LimitOf::Tenant);
        let tenant = cgroup("hoarder");
        let answer = shortage.watch(&tenant, || shortage.disk.forget().unwrap());
        let truth = Truth {
            kinds: &["memory"],
            culprits: &[],
            innocent: &[Actor { comm: "hoarder", cgroup: &tenant }],
            slower: 1.5,
        };
        answer.judge("a tenant at its own limit", &truth);
    });
}
