//! The second culprit: a neighbour that writes as much as the disk takes.
//!
//! It is `fio`, with random direct writes to a file that was laid out before, so that
//! only data is written while it is measured. If fio is not installed, eight `dd`
//! replace it, which load the disk less; `program` says which one it is.

use std::{
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    cgroup::Cgroup,
    disk::{self, LoopDisk},
    pace::Pace,
    process::{Ended, Process},
    tool::{self, DD, FIO},
};

const NAME: &str = "tenant";
const FILE_MIB: u64 = 512;
const DDS: u64 = 8;
/// Laying the file out may take this long on a slow disk.
const LAID_OUT: Duration = Duration::from_secs(120);
/// A process that is asked to end has this time to do so before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// A writer that starts on request.
#[derive(Debug)]
pub struct Tenant {
    mountpoint: PathBuf,
    device: String,
    cgroup: Cgroup,
    writing: Option<Writing>,
}

/// The bytes that were written to the disk by all processes between start and stop.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TenantWork {
    pub written_bytes: u64,
    pub took: Duration,
}

#[derive(Debug)]
struct Writing {
    writers: Writers,
    start: Instant,
    written_before: u64,
}

#[derive(Debug)]
enum Writers {
    Fio(Process),
    Dds(Pace),
}

impl Tenant {
    /// Lays the file out, which writes half a GiB.
    pub fn prepare(disk: &LoopDisk, cgroup: &Cgroup) -> Result<Tenant> {
        let tenant = Tenant {
            mountpoint: disk.mountpoint().to_owned(),
            device: disk.name().to_owned(),
            cgroup: cgroup.clone(),
            writing: None,
        };
        let mut command = tenant.command(DD)?;
        command.args(["if=/dev/zero", "bs=1M", "conv=fsync", "status=none"]);
        command.args([format!("of={NAME}"), format!("count={FILE_MIB}")]);
        match Process::spawn(command, cgroup)?.wait(LAID_OUT) {
            Some(ended) => check("dd", &ended)?,
            None => bail!("the tenant's file took longer than {LAID_OUT:?} to lay out"),
        }
        Ok(tenant)
    }

    /// The program that writes: `fio`, or `dd` if there is no fio.
    pub fn program(&self) -> &'static str {
        if FIO.find().is_some() { FIO.name } else { DD.name }
    }

    /// Starts writing for at most `at_most`, if it is not running.
    pub fn start(&mut self, at_most: Duration) -> Result<()> {
        if self.writing.is_none() {
            let (start, written_before) = (Instant::now(), self.written()?);
            let writers = if self.program() == FIO.name {
                Writers::Fio(Process::spawn(self.fio(at_most)?, &self.cgroup)?)
            } else {
                Writers::Dds(self.dds(start + at_most)?)
            };
            self.writing = Some(Writing { writers, start, written_before });
        }
        Ok(())
    }

    /// Ends the writers. It is an error if they had failed by themselves.
    pub fn stop(&mut self) -> Result<TenantWork> {
        let Some(writing) = self.writing.take() else { return Ok(TenantWork::default()) };
        match writing.writers {
            Writers::Fio(mut process) => match process.ended() {
                Some(ended) => check("fio", &ended)?,
                None => drop(process.stop(GRACE)?),
            },
            Writers::Dds(pace) => {
                if let Some(error) = pace.stop().last_error {
                    bail!("{error}");
                }
            }
        }
        let written_bytes = self.written()?.saturating_sub(writing.written_before);
        Ok(TenantWork { written_bytes, took: writing.start.elapsed() })
    }

    fn written(&self) -> Result<u64> {
        Ok(disk::read_stat(&self.device)?.write_sectors * 512)
    }

    fn fio(&self, at_most: Duration) -> Result<Command> {
        let mut command = self.command(FIO)?;
        // Jobs are threads, because the process of a job would not be killed with us.
        command.args(["--name=tenant", "--thread", "--rw=randwrite", "--direct=1"]);
        command.args(["--ioengine=libaio", "--iodepth=32", "--bsrange=128k-512k"]);
        command.args(["--overwrite=1", "--fallocate=none", "--norandommap", "--time_based"]);
        command.args([format!("--filename={NAME}"), format!("--size={FILE_MIB}m")]);
        command.arg(format!("--runtime={}", at_most.as_secs().max(1)));
        command.arg("--output=/dev/null");
        Ok(command)
    }

    /// Each `dd` writes its own part of the file, over and over.
    fn dds(&self, until: Instant) -> Result<Pace> {
        let blocks = FILE_MIB * 2 / DDS;
        let mut steps = Vec::new();
        for number in 0..DDS {
            // Commands run once: one is made for each round, and one now, so
            // that the caller learns of a missing `dd`.
            self.command(DD)?;
            let (mountpoint, cgroup) = (self.mountpoint.clone(), self.cgroup.clone());
            let args = [
                "if=/dev/zero".to_owned(),
                format!("of={NAME}"),
                "bs=512k".to_owned(),
                format!("seek={}", number * blocks),
                format!("count={blocks}"),
                "oflag=direct".to_owned(),
                "conv=notrunc".to_owned(),
                "status=none".to_owned(),
            ];
            steps.push(move || {
                if Instant::now() > until {
                    thread::sleep(Duration::from_millis(50));
                    return Ok(());
                }
                let mut command = DD.command()?;
                command.args(&args).current_dir(&mountpoint);
                match Process::spawn(command, &cgroup)?.wait(LAID_OUT) {
                    Some(ended) => check("dd", &ended),
                    None => bail!("`dd` took longer than {LAID_OUT:?}"),
                }
            });
        }
        Pace::start("lab-tenant", 1000, steps)
    }

    /// It runs in the disk's directory, so that no path needs escaping for fio.
    fn command(&self, tool: tool::Tool) -> Result<Command> {
        let mut command = tool.command()?;
        command.current_dir(&self.mountpoint);
        Ok(command)
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("lab: {error:#}");
        }
    }
}

fn check(program: &str, ended: &Ended) -> Result<()> {
    if !ended.status.success() {
        bail!("`{program}` failed ({}): {}", ended.status, tool::last_line(&ended.stderr));
    }
    Ok(())
}
