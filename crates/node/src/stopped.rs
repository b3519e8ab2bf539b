//! Whether a process is stopped: by a signal, by the freezer of its cgroup, by another process that
//! traces it (ptrace), or by the limit on its cgroup's memory.
//!
//! None of the files that are read here waits for a disk or for the process itself. The system
//! call of a thread and the function that it sleeps in are shown to those with CAP_SYS_PTRACE; without
//! it only a process of which no thread can run is seen to be stopped by the one who traces it.

mod memory;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use memory::{Limits, Reached};
use tracer_engine::stop::How;

use crate::{
    helpers::{parse_unified, state},
    surroundings::{
        Hierarchy,
        hierarchies::{Controller, Hierarchies, LimitedCgroup},
        levels,
    },
    tree::{Tree, number, text},
};

/// Threads of a process that are looked at.
const THREADS: usize = 512;

/// More than the lines of `/proc/PID/status` before the ones that are read here.
const STATUS_BYTES: usize = 1024;
const STAT_BYTES: usize = 512;
const CGROUP_BYTES: usize = 4096;

/// A path in the hierarchy of cgroups that is shown is no longer.
const PATH_BYTES: usize = 512;

/// The mounts of cgroups are read again this often; they hardly ever change.
const MOUNTS_EVERY: Duration = Duration::from_secs(60);

/// The system calls that sync, as this program's own architecture numbers them.
const SYNCS: [i64; 6] = [
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_msync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_sync,
];

/// The system calls that write to a file; some write to other things, too.
const WRITES: [i64; 7] = [
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
];

/// The functions in which threads sleep because their cgroup has more memory than `memory.high`, by
/// kernel.
const OVER_HIGH: [&[u8]; 2] = [b"mem_cgroup_handle_over_high", b"__mem_cgroup_handle_over_high"];

/// The functions in which threads sleep while they reclaim memory, by kernel.
const RECLAIM: [&[u8]; 3] = [b"reclaim_throttle", b"congestion_wait", b"wait_iff_congested"];

/// At a limit on memory, of a process with more threads only those are looked at that synced last.
const MANY_THREADS: usize = 64;

/// How a process is stopped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stopped {
    pub how: How,
    /// The process that traces it, or 0.
    pub tracer: u32,
    /// The file that freezes its cgroup or limits its memory, and that cgroup.
    pub setting: String,
    /// Whether none of its threads can run.
    pub is_halted: bool,
    /// The number of threads that are stopped at a sync while others can run.
    pub at_syncs: u32,
    /// The limit on memory, how much of it is used, and for how long all tasks of its cgroup that had
    /// something to do waited for memory since the look before.
    pub limit_bytes: u64,
    pub used_bytes: u64,
    pub stalled_ns: u64,
}

impl Stopped {
    fn new(how: How, setting: String) -> Self {
        Self {
            how,
            tracer: 0,
            setting,
            is_halted: false,
            at_syncs: 0,
            limit_bytes: 0,
            used_bytes: 0,
            stalled_ns: 0,
        }
    }
}

/// Looks at processes.
#[derive(Debug)]
pub struct Stops {
    tree: Tree,
    hierarchies: Hierarchies,
    found: Option<Instant>,
    limits: Limits,
}

impl Stops {
    /// On the node whose `/proc` and `/sys` lie below `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            tree: Tree::new(root),
            hierarchies: Hierarchies::default(),
            found: None,
            limits: Limits::default(),
        }
    }

    /// How a process is stopped, whether another traces it, or whether its cgroup is at the limit on
    /// its memory; `None` if none of these, or if it is gone. `syncing` are its threads that synced
    /// last.
    pub fn look(&mut self, tgid: u32, syncing: &[u32]) -> Option<Stopped> {
        self.look_at(Instant::now(), tgid, syncing)
    }

    fn look_at(&mut self, now: Instant, tgid: u32, syncing: &[u32]) -> Option<Stopped> {
        if self.found.is_none_or(|found| now.saturating_duration_since(found) >= MOUNTS_EVERY) {
            self.hierarchies = Hierarchies::find(&self.tree);
            self.found = Some(now);
        }
        let mut status = [0; STATUS_BYTES];
        let status = self.tree.read(format_args!("proc/{tgid}/status"), &mut status).ok()?;
        let state = field(status, b"State:")?.first().copied()?;
        let tracer = field(status, b"TracerPid:").and_then(number::<u32>).unwrap_or(0);
        let halted = |how, setting| Stopped { is_halted: true, ..Stopped::new(how, setting) };
        if state == b'T' {
            return Some(halted(How::Signal, String::new()));
        }
        // Neither has a thread that runs.
        if state != b'R'
            && let Some(setting) = self.frozen_by(tgid)
        {
            return Some(halted(How::Freezer, setting));
        }
        if tracer == 0 {
            return self.at_limit(now, tgid, syncing);
        }
        let tracer = self.leader(tracer);
        let (is_halted, at_syncs) = self.threads(tgid);
        let stopped = Stopped::new(How::Traced, String::new());
        Some(Stopped { tracer, is_halted, at_syncs, ..stopped })
    }

    /// The limit on the memory of a process, if that was reached in the last seconds, and how many of
    /// its threads wait because of it, and keep a sync waiting.
    fn at_limit(&mut self, now: Instant, tgid: u32, syncing: &[u32]) -> Option<Stopped> {
        let Self { tree, hierarchies, limits, .. } = self;
        let cgroups = || cgroups(tree, hierarchies, Controller::Memory, tgid);
        let Reached { setting, limit_bytes, used_bytes, stalled_ns, is_idle } =
            limits.look(tgid, now, cgroups)?;
        let most = if is_idle { 0 } else { MANY_THREADS + 1 };
        let all: Vec<_> = self.tids(tgid).take(most).collect();
        let tids = if all.len() > MANY_THREADS { syncing } else { &all[..] };
        let waits = |tid: &&u32| self.waits_for_memory(tgid, **tid, syncing.contains(tid));
        let at_syncs = tids.iter().filter(waits).count() as u32;
        let stopped = Stopped::new(How::Memory, setting);
        Some(Stopped { at_syncs, limit_bytes, used_bytes, stalled_ns, ..stopped })
    }

    /// Whether a thread waits for memory before a sync or after it.
    fn waits_for_memory(&self, tgid: u32, tid: u32, syncs: bool) -> bool {
        let mut place = [0; 64];
        let place = self.tree.read(format_args!("proc/{tgid}/task/{tid}/wchan"), &mut place);
        let place = place.unwrap_or_default().trim_ascii_end();
        let is_over_high = OVER_HIGH.contains(&place);
        if !is_over_high && !RECLAIM.contains(&place) {
            return false;
        }
        match self.call(tgid, tid) {
            // Reclaim within a sync is a part of that sync.
            Some((call, _)) if SYNCS.contains(&call) => is_over_high,
            Some((call, fd)) if WRITES.contains(&call) => syncs || self.is_of_file(tgid, fd),
            _ => syncs,
        }
    }

    /// Whether a descriptor is that of a file, and not of a socket or a pipe.
    fn is_of_file(&self, tgid: u32, fd: u64) -> bool {
        let link = fs::read_link(self.tree.at(format!("proc/{tgid}/fd/{fd}")));
        link.is_ok_and(|link| link.is_absolute())
    }

    fn tids(&self, tgid: u32) -> impl Iterator<Item = u32> {
        let tasks = fs::read_dir(self.tree.at(format!("proc/{tgid}/task"))).into_iter().flatten();
        tasks.flatten().filter_map(|entry| number(entry.file_name().as_encoded_bytes()))
    }

    /// The process of a thread.
    fn leader(&self, tid: u32) -> u32 {
        let mut status = [0; STATUS_BYTES];
        let status = self.tree.read(format_args!("proc/{tid}/status"), &mut status);
        status.ok().and_then(|status| number(field(status, b"Tgid:")?)).unwrap_or(tid)
    }

    /// Whether all threads of a traced process are stopped, and, if not, how many are at a sync.
    fn threads(&self, tgid: u32) -> (bool, u32) {
        let (mut stopped, mut others, mut at_syncs) = (0, 0, 0);
        for tid in self.tids(tgid).take(THREADS) {
            match self.state(tgid, tid) {
                Some(b't' | b'T') => {
                    stopped += 1;
                    at_syncs += u32::from(self.is_at_sync(tgid, tid));
                }
                // It has ended.
                Some(b'Z' | b'X') | None => {}
                Some(_) => others += 1,
            }
        }
        let is_halted = stopped > 0 && others == 0;
        (is_halted, if is_halted { 0 } else { at_syncs })
    }

    fn state(&self, tgid: u32, tid: u32) -> Option<u8> {
        let mut stat = [0; STAT_BYTES];
        let path = format_args!("proc/{tgid}/task/{tid}/stat");
        self.tree.read(path, &mut stat).ok().and_then(state)
    }

    fn is_at_sync(&self, tgid: u32, tid: u32) -> bool {
        self.call(tgid, tid).is_some_and(|(call, _)| SYNCS.contains(&call))
    }

    /// The system call of a thread that does not run, and its first argument. A thread that is stopped
    /// on its way out of one is still in it, by this file.
    fn call(&self, tgid: u32, tid: u32) -> Option<(i64, u64)> {
        let mut call = [0; STAT_BYTES];
        let path = format_args!("proc/{tgid}/task/{tid}/syscall");
        let call = self.tree.read(path, &mut call).ok()?;
        let mut fields = call.split(u8::is_ascii_whitespace);
        let call = number(fields.next()?)?;
        let argument = fields.next().and_then(|field| str::from_utf8(field).ok());
        let argument = argument.and_then(|field| field.strip_prefix("0x"));
        Some((call, argument.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)))
    }

    /// The setting that keeps a process's cgroup frozen.
    fn frozen_by(&self, tgid: u32) -> Option<String> {
        let cgroups = cgroups(&self.tree, &self.hierarchies, Controller::Freezer, tgid);
        cgroups.iter().find_map(frozen_by)
    }
}

/// The cgroups of a process.
fn cgroups(
    tree: &Tree,
    hierarchies: &Hierarchies,
    controller: Controller,
    tgid: u32,
) -> Vec<LimitedCgroup> {
    let of = tree.read_up_to(format!("proc/{tgid}/cgroup"), CGROUP_BYTES).unwrap_or_default();
    hierarchies.cgroups(tree, controller, parse_unified(&of).as_deref(), tgid)
}

/// The setting that keeps a cgroup frozen: its own, or that of one above it.
fn frozen_by(cgroup: &LimitedCgroup) -> Option<String> {
    let read = |folder: &Path, file| fs::read(folder.join(file)).unwrap_or_default();
    let (is_frozen, file, own): (_, _, &[u8]) = match cgroup.hierarchy {
        Hierarchy::Unified => {
            let events = read(&cgroup.folder, "cgroup.events");
            (field(&events, b"frozen ") == Some(b"1"), "cgroup.freeze", b"1")
        }
        Hierarchy::V1 => {
            let state = read(&cgroup.folder, "freezer.state");
            (state.trim_ascii() == b"FROZEN", "freezer.self_freezing", b"1")
        }
    };
    if !is_frozen {
        return None;
    }
    let has_it = |folder: &&Path| read(folder, file).trim_ascii() == own;
    let folder = levels(cgroup).find(has_it).unwrap_or(&cgroup.folder);
    let path = folder.strip_prefix(&cgroup.top).unwrap_or(folder);
    let file = if file == "cgroup.freeze" { file } else { "freezer.state" };
    Some(format!("{file} of /{}", text(path.as_os_str().as_encoded_bytes(), PATH_BYTES)))
}

/// The rest of the line that begins with `name`, without the space around it.
fn field<'a>(lines: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = lines.split(|&b| b == b'\n');
    lines.find_map(|line| Some(line.strip_prefix(name)?.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with a process 7 of these threads, each with its state and system call.
    fn process(status: &str, threads: &[(u32, char, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc/7");
        fs::create_dir_all(proc.join("task")).unwrap();
        fs::write(proc.join("status"), format!("Name:\tetcd\n{status}")).unwrap();
        for (tid, state, call) in threads {
            let task = proc.join(format!("task/{tid}"));
            fs::create_dir(&task).unwrap();
            fs::write(task.join("stat"), format!("{tid} (a) S b) {state} 1 7 7")).unwrap();
            fs::write(task.join("syscall"), call).unwrap();
        }
        root
    }

    fn look(root: &tempfile::TempDir) -> Option<Stopped> {
        Stops::new(root.path()).look(7, &[])
    }

    fn sync() -> String {
        format!("{} 0x7 0x0 0x0 0x0 0x0 0x0 0x7ffc 0x7f25", libc::SYS_fdatasync)
    }

    #[test]
    fn a_process_that_runs_or_is_gone_is_not_stopped() {
        let runs = process("State:\tS (sleeping)\nTracerPid:\t0\n", &[(7, 'S', "0 0x7")]);
        assert_eq!(look(&runs), None);
        assert_eq!(Stops::new(runs.path()).look(8, &[]), None);
    }

    #[test]
    fn a_signal_stops_all_threads() {
        let stopped = process("State:\tT (stopped)\nTracerPid:\t0\n", &[]);
        let stopped = look(&stopped).unwrap();
        assert_eq!((stopped.how, stopped.is_halted), (How::Signal, true));
    }

    #[test]
    fn a_thread_that_is_stopped_elsewhere_keeps_no_sync_waiting() {
        let traced = "State:\tS (sleeping)\nTracerPid:\t9\n";
        let check = |threads: &[(u32, char, &str)], is_halted, at_syncs| {
            let root = process(traced, threads);
            fs::create_dir_all(root.path().join("proc/9")).unwrap();
            fs::write(root.path().join("proc/9/status"), "Tgid:\t5\n").unwrap();
            let stopped = look(&root).unwrap();
            assert_eq!((stopped.how, stopped.tracer), (How::Traced, 5));
            assert_eq!((stopped.is_halted, stopped.at_syncs), (is_halted, at_syncs), "{threads:?}");
        };
        let sync = sync();
        check(&[(7, 'S', "0 0x7"), (8, 'R', "running")], false, 0);
        check(&[(7, 'S', "0 0x7"), (8, 't', "35 0x7"), (9, 't', "-1 0x7 0x8")], false, 0);
        check(&[(7, 'S', "0 0x7"), (8, 't', &sync), (9, 't', &sync)], false, 2);
        // A debugger has stopped all of them.
        check(&[(7, 't', "0 0x7"), (8, 't', &sync), (9, 'Z', "")], true, 0);
        check(&[], false, 0);
    }

    /// The cgroup above that of the process is frozen.
    #[test]
    fn the_setting_that_freezes_a_process_is_found() {
        let check =
            |mount: &str, membership: &str, files: &[(&str, &str)], setting: Option<&str>| {
                let root = process("State:\tS (sleeping)\nTracerPid:\t0\n", &[]);
                let write = |path: &str, text: &str| {
                    let path = root.path().join(path);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, text).unwrap();
                };
                write("proc/self/mountinfo", mount);
                write("proc/7/cgroup", membership);
                files.iter().for_each(|(path, text)| write(path, text));
                let stopped = look(&root);
                assert!(stopped.iter().all(|one| one.how == How::Freezer && one.is_halted));
                assert_eq!(stopped.map(|stopped| stopped.setting).as_deref(), setting);
            };
        let v2 = "30 24 0:26 / /cg rw shared:4 - cgroup2 cgroup2 rw\n";
        let frozen = ("cg/pod/db/cgroup.events", "populated 1\nfrozen 1\n");
        let above = [frozen, ("cg/pod/db/cgroup.freeze", "0\n"), ("cg/pod/cgroup.freeze", "1\n")];
        check(v2, "0::/pod/db\n", &above, Some("cgroup.freeze of /pod"));
        let thawed = [("cg/pod/db/cgroup.events", "populated 1\nfrozen 0\n")];
        check(v2, "0::/pod/db\n", &thawed, None);
        let v1 = "31 24 0:27 / /cg rw shared:5 - cgroup cgroup rw,freezer\n";
        let frozen = [("cg/db/freezer.state", "FROZEN\n"), ("cg/db/freezer.self_freezing", "1\n")];
        check(v1, "4:freezer:/db\n0::/\n", &frozen, Some("freezer.state of /db"));
        check(v1, "4:freezer:/db\n", &[("cg/db/freezer.state", "THAWED\n")], None);
    }
}
