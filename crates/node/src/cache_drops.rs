//! Finds who has the kernel drop its caches: what was in them is then read back from the disks,
//! by whoever needs it.
//!
//! The kernel counts each write to `/proc/sys/vm/drop_caches` in `/proc/vmstat`, and says in its
//! log who made it, unless it was asked not to
//! (<https://docs.kernel.org/admin-guide/sysctl/vm.html#drop-caches>). Both are read once a
//! second. Pages are dropped and counted first, then slabs, and the line is logged at the end. If
//! the slabs take some seconds, a drop is counted in one reading and named in a later one.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use crate::tree::{Tree, number};

/// The kernel gives a record only to a buffer that it fits into; none is larger.
const RECORD_BYTES: usize = 8192;

/// At most this number of records is read at a time.
const RECORDS: usize = 1024;

/// At most this number of drops without a name is returned at a time.
const UNNAMED: u64 = 16;

const VMSTAT_BYTES: usize = 64 << 10;

/// The facility of the kernel's own records; other processes may write to the log as well.
const KERNEL: u32 = 0;

/// Somebody had the caches dropped.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CacheDrop {
    /// The name and the number of the thread, by the kernel's own numbers; empty and 0 where
    /// the log does not say who it was, or not yet.
    pub comm: Vec<u8>,
    pub tid: u32,
    /// This is the name of a drop that was returned without one before.
    pub is_late: bool,
}

/// A line of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Line {
    comm: Vec<u8>,
    tid: u32,
    /// The value that was written: 1 for pages, 2 for slabs, 3 for both.
    value: u32,
}

impl Line {
    /// Whether it drops pages, and whether slabs.
    fn kinds(&self) -> [u64; 2] {
        [self.value & 1, self.value >> 1 & 1].map(u64::from)
    }
}

/// The positions in the log and in the counters up to which they were read.
#[derive(Debug)]
pub struct CacheDrops {
    tree: Tree,
    /// The kernel's log from when this was made; `None` where it may not be read.
    log: Option<File>,
    counted: Option<[u64; 2]>,
    /// Drops of pages and of slabs that were counted and have no line in the log.
    unnamed: [u64; 2],
    /// Drops that were returned without a name and have none yet.
    returned: u64,
}

impl CacheDrops {
    /// On the node whose `/proc` and `/dev` lie below `root`.
    pub fn new(root: &Path) -> Self {
        let tree = Tree::new(root);
        let log = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(tree.at("dev/kmsg"))
            .and_then(|mut log| log.seek(SeekFrom::End(0)).map(|_| log));
        Self { tree, log: log.ok(), counted: None, unnamed: [0; 2], returned: 0 }
    }

    /// Returns the drops since the last call, and the names that were missing then.
    pub fn look(&mut self) -> Vec<CacheDrop> {
        // The kernel counts first, so whatever is in the log is counted below.
        let lines = self.log.as_mut().map(read_log).unwrap_or_default();
        let vmstat = self.tree.read_up_to("proc/vmstat", VMSTAT_BYTES).unwrap_or_default();
        let Some(now) = parse_counts(&vmstat).or(self.counted) else {
            return self.assign(lines, [0; 2]);
        };
        let before = self.counted.replace(now).unwrap_or(now);
        let more = [0, 1].map(|at| now[at].saturating_sub(before[at]));
        self.assign(lines, more)
    }

    /// Assigns the lines of the log to the drops that were counted.
    fn assign(&mut self, lines: Vec<Line>, more: [u64; 2]) -> Vec<CacheDrop> {
        for (at, (unnamed, more)) in self.unnamed.iter_mut().zip(more).enumerate() {
            let named: u64 = lines.iter().map(|line| line.kinds()[at]).sum();
            *unnamed = unnamed.saturating_add(more).saturating_sub(named);
        }
        // One write may drop both kinds.
        let unnamed = self.unnamed[0].max(self.unnamed[1]);
        // If fewer are left than were returned without a name, the others have theirs now.
        let late = self.returned.saturating_sub(unnamed);
        let lines = (0..).zip(lines);
        let named =
            lines.map(|(at, Line { comm, tid, .. })| CacheDrop { comm, tid, is_late: at < late });
        let new = unnamed.saturating_sub(self.returned).min(UNNAMED);
        let new = (0..new).map(|_| CacheDrop::default());
        self.returned = unnamed;
        named.chain(new).collect()
    }
}

/// Reads what the kernel has logged since the last reading.
fn read_log(log: &mut File) -> Vec<Line> {
    let mut record = [0; RECORD_BYTES];
    let mut lines = Vec::new();
    for _ in 0..RECORDS {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => lines.extend(parse_record(&record[..length])),
            // Records were overwritten before they were read; the next read goes on after them.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    lines
}

/// Parses a record such as `6,1234,98765,-;sh (24439): drop_caches: 3`.
fn parse_record(record: &[u8]) -> Option<Line> {
    let line = record.split(|&b| b == b'\n').next()?;
    let (head, text) = split_at(line, b";")?;
    let (priority, _) = split_at(head, b",")?;
    // The priority is the facility, times eight, and the level.
    if number::<u32>(priority)? >> 3 != KERNEL {
        return None;
    }
    // A process may have any name, so this is read from its end.
    let (who, value) = split_at_last(text, b"): drop_caches: ")?;
    let (comm, tid) = split_at_last(who, b" (")?;
    let line = Line { comm: comm.to_vec(), tid: number(tid)?, value: number(value)? };
    // A 4 asks the kernel to log nothing from then on, and drops nothing.
    (line.kinds() != [0, 0]).then_some(line)
}

/// The counts of `drop_pagecache` and `drop_slab`.
fn parse_counts(vmstat: &[u8]) -> Option<[u64; 2]> {
    let count = |name: &[u8]| {
        let line = vmstat.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(name))?;
        number(line)
    };
    Some([count(b"drop_pagecache ")?, count(b"drop_slab ")?])
}

fn split_at<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(mark.len()).position(|window| window == mark)?;
    Some((&bytes[..at], &bytes[at + mark.len()..]))
}

fn split_at_last<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(mark.len()).rposition(|window| window == mark)?;
    Some((&bytes[..at], &bytes[at + mark.len()..]))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn line(comm: &[u8], tid: u32, value: u32) -> Line {
        Line { comm: comm.to_vec(), tid, value }
    }

    fn by(comm: &[u8], tid: u32) -> CacheDrop {
        CacheDrop { comm: comm.to_vec(), tid, is_late: false }
    }

    fn late(comm: &[u8], tid: u32) -> CacheDrop {
        CacheDrop { is_late: true, ..by(comm, tid) }
    }

    /// A drop of nobody's who is known.
    fn unnamed() -> CacheDrop {
        CacheDrop::default()
    }

    const PAGES: [u64; 2] = [1, 0];
    const SLABS: [u64; 2] = [0, 1];
    const BOTH: [u64; 2] = [1, 1];
    const NONE: [u64; 2] = [0, 0];

    /// The drops that are returned at each reading of lines and counts.
    fn play(readings: &[(&[Line], [u64; 2])]) -> Vec<Vec<CacheDrop>> {
        let root = tempfile::tempdir().unwrap();
        let mut drops = CacheDrops::new(root.path());
        readings.iter().map(|(lines, more)| drops.assign(lines.to_vec(), *more)).collect()
    }

    #[test]
    fn the_kernel_says_who_dropped_its_caches() {
        let record = b"6,1234,28697607970,-;sh (24439): drop_caches: 3\n SUBSYSTEM=none\n";
        assert_eq!(parse_record(record), Some(line(b"sh", 24439, 3)));
        let with_caller = b"6,1,2,-,caller=T7;tee (7): drop_caches: 1\n";
        assert_eq!(parse_record(with_caller), Some(line(b"tee", 7, 1)));
    }

    #[test]
    fn a_process_may_have_any_name() {
        let record = b"6,1,2,-;a (1): drop_caches: 3 (24439): drop_caches: 2\n";
        assert_eq!(parse_record(record), Some(line(b"a (1): drop_caches: 3", 24439, 2)));
        assert_eq!(parse_record(b"6,1,2,-; (5): drop_caches: 1"), Some(line(b"", 5, 1)));
    }

    #[test]
    fn what_other_processes_write_to_the_log_does_not_count() {
        // A process writes as facility 1 (user) or higher.
        assert_eq!(parse_record(b"14,1,2,-;sh (24439): drop_caches: 3\n"), None);
        assert_eq!(parse_record(b"6,1,2,-;sh (x): drop_caches: 3\n"), None);
        assert_eq!(parse_record(b"6,1,2,-;sh (5): drop_caches: 4\n"), None);
        assert_eq!(parse_record(b"6,1,2,-;loop0: detected capacity change\n"), None);
    }

    #[test]
    fn one_that_the_log_never_names_is_returned_once_without_a_name() {
        let root = tempfile::tempdir().unwrap();
        let vmstat = |pages: u64, slab: u64| {
            fs::create_dir_all(root.path().join("proc")).unwrap();
            let text = format!("nr_free_pages 7\ndrop_pagecache {pages}\ndrop_slab {slab}\n");
            fs::write(root.path().join("proc/vmstat"), text).unwrap();
        };
        vmstat(8, 2);
        let mut drops = CacheDrops::new(root.path());
        assert_eq!(drops.look(), []);
        vmstat(9, 2);
        assert_eq!(drops.look(), [unnamed()]);
        assert_eq!(drops.look(), []);
        // The slabs of the same drop.
        vmstat(9, 3);
        assert_eq!(drops.look(), []);
        vmstat(10, 4);
        assert_eq!(drops.look(), [unnamed()]);
    }

    #[test]
    fn a_name_in_the_same_second_is_returned_once() {
        for value in 1..=3 {
            let named = [line(b"sh", 5, value)];
            let seen = play(&[(&named, named[0].kinds()), (&[], NONE), (&[], NONE)]);
            let expected = [vec![by(b"sh", 5)], vec![], vec![]];
            assert_eq!(seen, expected, "{value}");
        }
    }

    #[test]
    fn a_name_that_comes_seconds_later_is_that_of_the_same_drop() {
        for seconds in 1..=9 {
            let named = [line(b"sh", 5, 3)];
            let mut readings: Vec<(&[Line], _)> = vec![(&[], PAGES)];
            readings.extend((1..seconds).map(|_| (&[] as &[Line], NONE)));
            readings.push((&named, SLABS));
            readings.push((&[], NONE));
            let seen = play(&readings);
            let returned: Vec<_> = seen.iter().flatten().cloned().collect();
            assert_eq!(returned, [unnamed(), late(b"sh", 5)], "{seconds}");
            assert_eq!(seen[seconds], [late(b"sh", 5)]);
        }
    }

    #[test]
    fn one_of_two_drops_is_named() {
        let named = [line(b"sh", 5, 3)];
        let seen = play(&[(&named, [2, 1]), (&[], NONE)]);
        assert_eq!(seen, [vec![by(b"sh", 5), unnamed()], vec![]]);
    }

    #[test]
    fn a_quick_drop_beside_one_that_goes_on_is_another() {
        let (quick, slow) = ([line(b"quick", 7, 1)], [line(b"slow", 5, 3)]);
        let seen = play(&[(&[], PAGES), (&quick, PAGES), (&slow, SLABS), (&[], NONE)]);
        assert_eq!(seen, [vec![unnamed()], vec![by(b"quick", 7)], vec![late(b"slow", 5)], vec![]]);
    }

    #[test]
    fn the_names_of_an_older_drop_and_of_a_new_one_may_come_together() {
        let both = [line(b"old", 5, 3), line(b"new", 7, 3)];
        let seen = play(&[(&[], PAGES), (&both, [1, 2]), (&[], NONE)]);
        assert_eq!(seen, [vec![unnamed()], vec![late(b"old", 5), by(b"new", 7)], vec![]]);
    }

    #[test]
    fn a_line_that_was_lost_gives_its_drop_to_nobody_else() {
        let named = [line(b"sh", 5, 3)];
        let seen = play(&[(&[], BOTH), (&[], NONE), (&named, BOTH), (&[], NONE)]);
        assert_eq!(seen, [vec![unnamed()], vec![], vec![by(b"sh", 5)], vec![]]);
    }

    #[test]
    fn the_end_of_a_drop_that_began_before_the_first_reading_is_one_drop() {
        let seen = play(&[(&[line(b"sh", 5, 3)], SLABS), (&[], PAGES)]);
        assert_eq!(seen, [vec![by(b"sh", 5)], vec![unnamed()]]);
    }

    #[test]
    fn a_million_drops_in_a_second_are_some() {
        let seen = play(&[(&[], [1_000_000, 1_000_000]), (&[], NONE)]);
        assert_eq!(seen.concat().len(), 16);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in any::<Vec<u8>>()) {
            parse_record(&bytes);
            parse_counts(&bytes);
        }
    }
}
