//! Processes by tgid, and their identities after they have ended.
//!
//! An entry is checked against /proc if its last check was a while ago, or if a record
//! contradicts it: the start time distinguishes a process from the next one with its
//! number, the comm shows whether it has executed something else. Between
//! checks a look-up is one access to a table; neither it nor a check that finds
//! nothing new allocates.
//!
//! Arguments are read only for programs that may work for others, and as an
//! errand: a process that is stuck in a page fault blocks every reader of them, for as
//! long as the disk does not answer.

use std::{num::NonZeroUsize, os::unix::ffi::OsStringExt as _};

use lru::LruCache;
use tracer_ebpf::cgroup;

use super::{
    arguments::{Program, find_program, may_serve_others},
    procfs::{Membership, Stat, find_v1_path, parse_cgroup, parse_stat},
    unit::unit,
};
use crate::{
    errand::{Answer, Errand, Errands},
    tree::{Tree, text},
};

/// How long an entry is believed.
const CHECK_NS: u64 = 5_000_000_000;

/// Processes remembered, at about 700 bytes each.
const MAX_PROCESSES: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Longer than any of the kernel's own; those of workqueues reach 64.
const COMM_BYTES: usize = 64;

/// Arguments that are looked through for whom a program works.
const ARGUMENTS_BYTES: usize = 4096;

pub(super) const CGROUP_BYTES: usize = 1024;

pub(super) const CGROUP_FILE_BYTES: usize = 4096;

/// More than any `/proc/PID/stat` holds.
pub(super) const STAT_FILE_BYTES: usize = 1024;

/// A process as it was when it was last seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Process {
    pub tgid: u32,
    /// In clock ticks since boot.
    pub start_ticks: u64,
    pub comm: String,
    /// The program and its workload, if its arguments name one.
    pub program: Option<Program>,
    /// Path of its cgroup, `/` for the root; empty where unknown.
    pub cgroup: String,
    /// Whether `cgroup` is its path in cgroup v2.
    pub unified: bool,
    /// Its path in the hierarchy of version 1 by which processes go that are in the root
    /// of v2; empty where there is none.
    pub v1_cgroup: String,
    pub unit: Option<String>,
    pub kernel_thread: bool,
}

#[derive(Debug)]
pub struct Processes {
    v1_controller: Option<&'static str>,
    entries: LruCache<u32, Entry>,
    errands: Errands,
    unresolved: u64,
    evicted: u64,
}

#[derive(Debug)]
struct Entry {
    /// `None` where it was gone before the first look.
    process: Option<Process>,
    alive: bool,
    arguments: Arguments,
    checked_ns: u64,
}

/// How far the reading of a process's arguments is.
#[derive(Debug, Default)]
enum Arguments {
    /// They were read, or are not needed.
    #[default]
    Known,
    Wanted,
    /// They are being read by an errand.
    Late(Errand<Option<Program>>),
}

impl Processes {
    pub fn new(v1_controller: Option<&'static str>) -> Self {
        let entries = LruCache::new(MAX_PROCESSES);
        let errands = Errands::default();
        Self { v1_controller, entries, errands, unresolved: 0, evicted: 0 }
    }

    pub fn find(&mut self, tree: &Tree, tgid: u32, now_ns: u64) -> Option<&Process> {
        // No user process and no thread of the kernel has it: "unknown".
        if tgid == 0 {
            return None;
        }
        match self.entries.get_mut(&tgid) {
            None => {
                self.make_room();
                let mut entry = Entry {
                    process: None,
                    alive: false,
                    arguments: Arguments::Known,
                    checked_ns: now_ns,
                };
                entry.check(tree, &mut self.errands, tgid, self.v1_controller);
                self.unresolved += u64::from(entry.process.is_none());
                self.entries.push(tgid, entry);
            }
            Some(entry) if now_ns.saturating_sub(entry.checked_ns) >= CHECK_NS => {
                entry.checked_ns = now_ns;
                entry.check(tree, &mut self.errands, tgid, self.v1_controller);
            }
            Some(_) => {}
        }
        self.entries.peek(&tgid)?.process.as_ref()
    }

    /// Looks at it now, however long ago the last look was.
    pub fn check(&mut self, tree: &Tree, tgid: u32, now_ns: u64) {
        if let Some(entry) = self.entries.get_mut(&tgid) {
            entry.checked_ns = now_ns;
            entry.check(tree, &mut self.errands, tgid, self.v1_controller);
        }
    }

    /// The process as it was found last, without another look.
    pub fn known(&self, tgid: u32) -> Option<&Process> {
        self.entries.peek(&tgid)?.process.as_ref()
    }

    /// How many others of the same name and cgroup work for somebody else: to
    /// the kernel they all are one owner.
    pub fn count_others(&self, process: &Process) -> usize {
        let all = self.entries.iter().filter_map(|(_, entry)| match &entry.process {
            Some(other) if entry.alive => Some(other),
            _ => None,
        });
        let mut others: Vec<_> = all
            .filter(|other| other.comm == process.comm && other.cgroup == process.cgroup)
            .filter_map(|other| other.program.as_ref())
            .filter(|program| Some(*program) != process.program.as_ref())
            .collect();
        others.sort();
        others.dedup();
        others.len()
    }

    /// Arguments that could not be read in time.
    pub fn late(&self) -> u64 {
        self.errands.late()
    }

    pub fn unresolved(&self) -> u64 {
        self.unresolved
    }

    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The dead one that was asked for longest ago goes first, then the living:
    /// those can be read again.
    fn make_room(&mut self) {
        if self.entries.len() < MAX_PROCESSES.get() {
            return;
        }
        self.evicted += 1;
        let dead = self.entries.iter().rev().find(|(_, entry)| !entry.alive);
        match dead.map(|(&tgid, _)| tgid) {
            Some(tgid) => drop(self.entries.pop(&tgid)),
            None => drop(self.entries.pop_lru()),
        }
    }
}

impl Entry {
    /// Brings the entry up to date; what a process that is gone was stays.
    fn check(
        &mut self,
        tree: &Tree,
        errands: &mut Errands,
        tgid: u32,
        v1_controller: Option<&str>,
    ) {
        let mut stat = [0; STAT_FILE_BYTES];
        let stat = tree.read(format_args!("proc/{tgid}/stat"), &mut stat).ok();
        let stat = stat.and_then(parse_stat);
        self.alive = stat.is_some();
        let Some(stat) = stat else { return };

        let mut cgroup = [0; CGROUP_FILE_BYTES];
        let cgroup = tree.read(format_args!("proc/{tgid}/cgroup"), &mut cgroup).ok();
        let v1 = v1_controller
            .zip(cgroup)
            .and_then(|(controller, cgroup)| find_v1_path(cgroup, controller.as_bytes()));
        let cgroup = cgroup.and_then(parse_cgroup);
        let same = self.process.as_mut().filter(|p| p.start_ticks == stat.start_ticks);
        let has_executed = match same {
            Some(process) => process.update(&stat, cgroup),
            None => {
                self.process = Some(Process::new(tgid, &stat, cgroup));
                true
            }
        };
        if let (Some(process), Some(v1)) = (&mut self.process, v1)
            && process.v1_cgroup.as_bytes() != v1
        {
            process.v1_cgroup = text(v1, CGROUP_BYTES);
        }
        if has_executed {
            self.arguments = Arguments::Wanted;
        }
        self.read_arguments(tree, errands, tgid);
    }

    fn read_arguments(&mut self, tree: &Tree, errands: &mut Errands, tgid: u32) {
        let Some(process) = &mut self.process else { return };
        let answer = match std::mem::take(&mut self.arguments) {
            Arguments::Known => return,
            Arguments::Late(errand) => errand.look(),
            // Neither the name nor the link takes what a page fault holds.
            Arguments::Wanted if !may_serve_others(process.comm.as_bytes(), || exe(tree, tgid)) => {
                process.program = None;
                return;
            }
            Arguments::Wanted => {
                let tree = tree.clone();
                errands.run(move || read_program(&tree, tgid))
            }
        };
        match answer {
            // A process that has ended and waits for its parent has none.
            Answer::Done(program) => process.program = program.or(process.program.take()),
            Answer::Late(errand) => self.arguments = Arguments::Late(errand),
            Answer::None => self.arguments = Arguments::Wanted,
        }
    }
}

/// The path of the program that a process runs.
fn exe(tree: &Tree, tgid: u32) -> Vec<u8> {
    let link = std::fs::read_link(tree.at(format!("proc/{tgid}/exe")));
    link.map(|exe| exe.into_os_string().into_vec()).unwrap_or_default()
}

impl Process {
    fn new(tgid: u32, stat: &Stat<'_>, cgroup: Option<Membership<'_>>) -> Self {
        let mut process = Self {
            tgid,
            start_ticks: stat.start_ticks,
            comm: text(&stat.comm, COMM_BYTES),
            program: None,
            cgroup: String::new(),
            unified: false,
            v1_cgroup: String::new(),
            unit: None,
            kernel_thread: stat.kernel_thread,
        };
        process.set_cgroup(cgroup);
        process
    }

    /// Takes over what the same process has changed; says whether it may have
    /// executed another program.
    fn update(&mut self, stat: &Stat<'_>, cgroup: Option<Membership<'_>>) -> bool {
        let has_executed = self.comm.as_bytes() != &*stat.comm;
        if has_executed {
            self.comm = text(&stat.comm, COMM_BYTES);
        }
        self.set_cgroup(cgroup);
        has_executed
    }

    /// The process's path in the hierarchy to which a cgroup's number belongs.
    pub fn path_for(&self, cgroup_id: u64) -> Option<&str> {
        if cgroup::is_v1(cgroup_id) {
            Some(&*self.v1_cgroup).filter(|path| !path.is_empty())
        } else {
            self.unified.then_some(&self.cgroup)
        }
    }

    fn set_cgroup(&mut self, cgroup: Option<Membership<'_>>) {
        let Some(Membership { path, unified }) = cgroup else { return };
        if self.cgroup.as_bytes() != path {
            self.cgroup = text(path, CGROUP_BYTES);
            self.unit = unit(&self.cgroup);
        }
        self.unified = unified;
    }
}

fn read_program(tree: &Tree, tgid: u32) -> Option<Program> {
    let mut cmdline = [0; ARGUMENTS_BYTES];
    let cmdline = tree.read(format_args!("proc/{tgid}/cmdline"), &mut cmdline).ok()?;
    let end = cmdline.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    find_program(&cmdline[..end])
}
