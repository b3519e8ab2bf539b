//! The stage of the demo: the disk, etcd and its clients, the culprits.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};

use tracer_lab::{
    cgroup::Cgroup,
    disk::{Filesystem, LoopDisk, default_dir},
    etcd::{Etcd, WAL_FSYNC, etcd_installed},
    histogram::{Histogram, histogram},
    puts::Puts,
    tenant::Tenant,
    trim::Trim,
    wal::WalWriter,
};

use crate::{act::Act, report::Wal, say::say};

const DISK_BYTES: u64 = 4 << 30;
const PUTS_PER_SECOND: u32 = 150;
const CLIENTS: u32 = 4;

/// The writer of the log that is watched. Fields are dropped in order: the
/// clients before etcd.
enum Victim {
    Etcd { puts: Option<Puts>, etcd: Box<Etcd>, before: Option<Histogram> },
    Writer { _writer: WalWriter },
}

/// Fields are dropped in order: what runs, then the disk that it runs on.
pub struct Stage {
    tenant: Tenant,
    trim: Trim,
    victim: Victim,
    disk: LoopDisk,
    /// Notes on the culprits, printed once the full screen is closed.
    notes: Vec<String>,
}

impl Stage {
    /// Makes the disk, starts the victim, and prepares the culprits, so that
    /// their preparations are over before anybody watches.
    pub fn build(folder: Option<&Path>) -> Result<Self> {
        let folder = folder.map_or_else(default_dir, |folder| Ok(folder.to_owned()))?;
        let disk = LoopDisk::create(&folder, DISK_BYTES, Filesystem::Ext4)?;
        let cgroup = |name| {
            Cgroup::create(name).unwrap_or_else(|error| {
                say(&format!("no cgroup for `{name}`: {error:#}"));
                Cgroup::none()
            })
        };
        let trim = Trim::prepare(&disk, &cgroup("fstrim"))?;
        let tenant = Tenant::prepare(&disk, &cgroup("tenant"))?;
        let data = disk.mountpoint().join("etcd");
        let victim = if etcd_installed() {
            let etcd = Box::new(Etcd::start(&data, &cgroup("etcd"))?);
            // etcd's own start, with an election, is over by then.
            std::thread::sleep(Duration::from_secs(2));
            Victim::Etcd { puts: None, etcd, before: None }
        } else {
            say("etcd is not installed: a writer of our own replaces it");
            Victim::Writer { _writer: WalWriter::start(&data, PUTS_PER_SECOND)? }
        };
        Ok(Self { tenant, trim, victim, disk, notes: Vec::new() })
    }

    pub fn describe(&self) -> String {
        let victim = match &self.victim {
            Victim::Etcd { etcd, .. } => {
                format!("etcd (pid {}) under {PUTS_PER_SECOND} puts/s", etcd.pid())
            }
            Victim::Writer { .. } => format!("a WAL writer at {PUTS_PER_SECOND} syncs/s"),
        };
        format!(
            "{} with ext4, {victim}; then fstrim (the image's blocks are put back between \
             rounds, in pieces of {} KiB, so that there is something to free) and a tenant, {}",
            self.disk.device(),
            self.trim.piece_bytes() >> 10,
            self.tenant.program(),
        )
    }

    /// Name of the disk, such as `loop0`.
    pub fn disk(&self) -> &str {
        self.disk.name()
    }

    /// The process whose log is watched.
    pub fn victim_pid(&self) -> u32 {
        match &self.victim {
            Victim::Etcd { etcd, .. } => etcd.pid(),
            Victim::Writer { .. } => std::process::id(),
        }
    }

    pub fn begin(&mut self, act: Act, length: Duration) -> Result<()> {
        match act {
            Act::Quiet | Act::Rest => Ok(()),
            Act::Trim => self.trim.start(),
            Act::Tenant => self.tenant.start(length + Duration::from_secs(5)),
        }
    }

    pub fn end(&mut self, act: Act) -> Result<()> {
        match act {
            Act::Quiet | Act::Rest => {}
            Act::Trim => {
                let work = self.trim.stop()?;
                let each = work.discarding.as_secs_f64() * 1e3 / (work.discards.max(1) as f64);
                self.notes.push(format!(
                    "fstrim made {} discards in {} rounds, {each:.1} ms each on average",
                    work.discards, work.rounds
                ));
            }
            Act::Tenant => {
                let work = self.tenant.stop()?;
                let rate = work.written_bytes as f64 / work.took.as_secs_f64().max(1e-3) / 1e6;
                self.notes.push(format!("the tenant wrote {rate:.0} MB/s"));
            }
        }
        Ok(())
    }

    /// Starts the clients. etcd was idle before, so its count and ours begin at the same sync.
    pub fn begin_puts(&mut self) -> Result<()> {
        if let Victim::Etcd { puts, etcd, before } = &mut self.victim {
            *before = Some(wal_fsyncs(etcd)?);
            *puts = Some(Puts::start(etcd, PUTS_PER_SECOND, CLIENTS)?);
        }
        Ok(())
    }

    /// Ends the clients, and lets etcd become idle.
    pub fn end_puts(&mut self) {
        if let Victim::Etcd { puts, .. } = &mut self.victim
            && let Some(puts) = puts.take()
        {
            let work = puts.stop();
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            self.notes.push(format!(
                "etcd took {} puts ({} failed): p50 {:.1} ms, p99 {:.1} ms, max {:.0} ms",
                work.done,
                work.errors,
                ms(work.p50),
                ms(work.p99),
                ms(work.max)
            ));
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Our counts of WAL syncs next to etcd's own, if there is an etcd.
    pub fn compare_wal(&self, ours: Vec<u64>) -> Result<Option<Wal>> {
        let Victim::Etcd { etcd, before: Some(before), .. } = &self.victim else {
            return Ok(None);
        };
        let theirs = wal_fsyncs(etcd)?;
        let theirs = theirs.since(before).context("etcd was restarted meanwhile")?;
        Ok(Some(Wal::new(&theirs, ours)))
    }
}

fn wal_fsyncs(etcd: &Etcd) -> Result<Histogram> {
    histogram(&etcd.metrics()?, WAL_FSYNC)
        .with_context(|| format!("etcd's metrics hold no `{WAL_FSYNC}`"))
}
