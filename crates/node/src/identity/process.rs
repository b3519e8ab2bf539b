//! Processes by tgid, and who they were once they are gone.
//!
//! An entry is checked against /proc when it was last checked a while ago, or when
//! a record says something else of it: the start time tells a process from the next
//! one with its number, the comm whether it has executed something else. Between
//! checks a look-up is one access to a table; neither it nor a check that finds
//! nothing new allocates.

use std::num::NonZeroUsize;

use lru::LruCache;

use super::{
    arguments::{Program, find_program},
    procfs::{Membership, Stat, parse_cgroup, parse_stat},
    unit::unit,
};
use crate::tree::{Tree, text};

/// How long an entry is believed.
const CHECK_NS: u64 = 5_000_000_000;

/// Processes remembered, at about 700 bytes each.
const MAX_PROCESSES: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Longer than any of the kernel's own; those of workqueues reach 64.
const COMM_BYTES: usize = 64;

const CMDLINE_BYTES: usize = 256;

/// Arguments that are looked through for whom a program works.
const ARGUMENTS_BYTES: usize = 4096;

pub(super) const CGROUP_BYTES: usize = 1024;

/// A process as it was when it was last seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Process {
    pub tgid: u32,
    /// In clock ticks since boot.
    pub start_ticks: u64,
    pub comm: String,
    /// Arguments separated by spaces, the first 256 bytes.
    pub cmdline: String,
    /// Whom it works for, where its arguments say so.
    pub program: Option<Program>,
    /// Path of its cgroup, `/` for the root; empty where unknown.
    pub cgroup: String,
    /// Whether `cgroup` is its path in cgroup v2.
    pub unified: bool,
    pub unit: Option<String>,
    pub kernel_thread: bool,
}

#[derive(Debug)]
pub struct Processes {
    entries: LruCache<u32, Entry>,
    unresolved: u64,
    evicted: u64,
}

#[derive(Debug)]
struct Entry {
    /// `None` where it was gone before the first look.
    process: Option<Process>,
    alive: bool,
    checked_ns: u64,
}

impl Default for Processes {
    fn default() -> Self {
        Self { entries: LruCache::new(MAX_PROCESSES), unresolved: 0, evicted: 0 }
    }
}

impl Processes {
    pub fn find(&mut self, tree: &Tree, tgid: u32, now_ns: u64) -> Option<&Process> {
        // No user process and no thread of the kernel has it: "unknown".
        if tgid == 0 {
            return None;
        }
        match self.entries.get_mut(&tgid) {
            None => {
                self.make_room();
                let mut entry = Entry { process: None, alive: false, checked_ns: now_ns };
                entry.check(tree, tgid);
                self.unresolved += u64::from(entry.process.is_none());
                self.entries.push(tgid, entry);
            }
            Some(entry) if now_ns.saturating_sub(entry.checked_ns) >= CHECK_NS => {
                entry.checked_ns = now_ns;
                entry.check(tree, tgid);
            }
            Some(_) => {}
        }
        self.entries.peek(&tgid)?.process.as_ref()
    }

    /// Looks at it now, however long ago the last look was.
    pub fn check(&mut self, tree: &Tree, tgid: u32, now_ns: u64) {
        if let Some(entry) = self.entries.get_mut(&tgid) {
            entry.checked_ns = now_ns;
            entry.check(tree, tgid);
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
    fn check(&mut self, tree: &Tree, tgid: u32) {
        let mut stat = [0; 1024];
        let stat = tree.read(format_args!("proc/{tgid}/stat"), &mut stat).ok();
        let stat = stat.and_then(parse_stat);
        self.alive = stat.is_some();
        let Some(stat) = stat else { return };

        let mut cgroup = [0; 4096];
        let cgroup = tree.read(format_args!("proc/{tgid}/cgroup"), &mut cgroup).ok();
        let cgroup = cgroup.and_then(parse_cgroup);
        match self.process.as_mut().filter(|process| process.start_ticks == stat.start_ticks) {
            Some(process) => process.update(tree, &stat, cgroup),
            None => self.process = Some(Process::new(tree, tgid, &stat, cgroup)),
        }
    }
}

impl Process {
    fn new(tree: &Tree, tgid: u32, stat: &Stat<'_>, cgroup: Option<Membership<'_>>) -> Self {
        let (cmdline, program) = read_cmdline(tree, tgid);
        let mut process = Self {
            tgid,
            start_ticks: stat.start_ticks,
            comm: text(&stat.comm, COMM_BYTES),
            cmdline,
            program,
            cgroup: String::new(),
            unified: false,
            unit: None,
            kernel_thread: stat.kernel_thread,
        };
        process.set_cgroup(cgroup);
        process
    }

    /// Takes over what the same process has changed.
    fn update(&mut self, tree: &Tree, stat: &Stat<'_>, cgroup: Option<Membership<'_>>) {
        if self.comm.as_bytes() != &*stat.comm {
            self.comm = text(&stat.comm, COMM_BYTES);
            // A process that has ended and waits for its parent has none.
            let (cmdline, program) = read_cmdline(tree, self.tgid);
            if !cmdline.is_empty() {
                (self.cmdline, self.program) = (cmdline, program);
            }
        }
        self.set_cgroup(cgroup);
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

fn read_cmdline(tree: &Tree, tgid: u32) -> (String, Option<Program>) {
    let mut cmdline = [0; ARGUMENTS_BYTES];
    let Ok(cmdline) = tree.read(format_args!("proc/{tgid}/cmdline"), &mut cmdline) else {
        return (String::new(), None);
    };
    let end = cmdline.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    let shown = text(&cmdline[..end], CMDLINE_BYTES).replace('\0', " ");
    (shown, find_program(&cmdline[..end]))
}
