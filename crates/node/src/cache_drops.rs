//! Finds who has the kernel drop its caches: what was in them is then read back from the disks,
//! by whoever needs it.
//!
//! The kernel counts each write to `/proc/sys/vm/drop_caches` in `/proc/vmstat`, and says in its
//! log who made it, unless it was asked not to
//! (<https://docs.kernel.org/admin-guide/sysctl/vm.html#drop-caches>). Both are read once a
//! second.

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

const VMSTAT_BYTES: usize = 64 << 10;

/// The facility of the kernel's own records; other processes may write to the log as well.
const KERNEL: u32 = 0;

/// Somebody had the caches dropped.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CacheDrop {
    /// The name and the number of the thread, by the kernel's own numbers; empty and 0 where
    /// the log does not say who it was.
    pub comm: Vec<u8>,
    pub tid: u32,
}

/// The positions in the log and in the counters up to which they were read.
#[derive(Debug)]
pub struct CacheDrops {
    tree: Tree,
    /// The kernel's log from when this was made; `None` where it may not be read.
    log: Option<File>,
    counted: Option<[u64; 2]>,
    /// The number of drops that were counted at the last reading and are not in the log yet: the
    /// kernel counts first.
    unnamed: u64,
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
        Self { tree, log: log.ok(), counted: None, unnamed: 0 }
    }

    /// Returns the drops since the last call.
    pub fn look(&mut self) -> Vec<CacheDrop> {
        let drops = self.log.as_mut().map(read_log).unwrap_or_default();
        let vmstat = self.tree.read_up_to("proc/vmstat", VMSTAT_BYTES).unwrap_or_default();
        let Some(counted) = parse_counts(&vmstat) else { return drops };
        let before = self.counted.replace(counted).unwrap_or(counted);
        // One write may drop both kinds.
        let more = (0..2).map(|at| counted[at].saturating_sub(before[at])).max().unwrap_or(0);
        self.add_unnamed(drops, more)
    }

    /// Adds the drops that were counted a second ago and are still not in the log.
    fn add_unnamed(&mut self, mut drops: Vec<CacheDrop>, more: u64) -> Vec<CacheDrop> {
        let named = drops.len() as u64;
        let late = self.unnamed.saturating_sub(named);
        self.unnamed = more.saturating_sub(named.saturating_sub(self.unnamed));
        if late > 0 {
            drops.push(CacheDrop::default());
        }
        drops
    }
}

/// Reads what the kernel has logged since the last reading.
fn read_log(log: &mut File) -> Vec<CacheDrop> {
    let mut record = [0; RECORD_BYTES];
    let mut drops = Vec::new();
    for _ in 0..RECORDS {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => drops.extend(parse_record(&record[..length])),
            // Records were overwritten before they were read; the next read goes on after them.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    drops
}

/// Parses a record such as `6,1234,98765,-;sh (24439): drop_caches: 3`.
fn parse_record(record: &[u8]) -> Option<CacheDrop> {
    let line = record.split(|&b| b == b'\n').next()?;
    let (head, text) = split_at(line, b";")?;
    let (priority, _) = split_at(head, b",")?;
    // The priority is the facility, times eight, and the level.
    if number::<u32>(priority)? >> 3 != KERNEL {
        return None;
    }
    // A process may have any name, so this is read from its end.
    let (who, value) = split_at_last(text, b"): drop_caches: ")?;
    number::<u32>(value)?;
    let (comm, tid) = split_at_last(who, b" (")?;
    Some(CacheDrop { comm: comm.to_vec(), tid: number(tid)? })
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

    fn by(comm: &[u8], tid: u32) -> CacheDrop {
        CacheDrop { comm: comm.to_vec(), tid }
    }

    #[test]
    fn the_kernel_says_who_dropped_its_caches() {
        let record = b"6,1234,28697607970,-;sh (24439): drop_caches: 3\n SUBSYSTEM=none\n";
        assert_eq!(parse_record(record), Some(by(b"sh", 24439)));
        let with_caller = b"6,1,2,-,caller=T7;tee (7): drop_caches: 1\n";
        assert_eq!(parse_record(with_caller), Some(by(b"tee", 7)));
    }

    #[test]
    fn a_process_may_have_any_name() {
        let record = b"6,1,2,-;a (1): drop_caches: 3 (24439): drop_caches: 2\n";
        assert_eq!(parse_record(record), Some(by(b"a (1): drop_caches: 3", 24439)));
        assert_eq!(parse_record(b"6,1,2,-; (5): drop_caches: 1"), Some(by(b"", 5)));
    }

    #[test]
    fn what_other_processes_write_to_the_log_does_not_count() {
        // A process writes as facility 1 (user) or higher.
        assert_eq!(parse_record(b"14,1,2,-;sh (24439): drop_caches: 3\n"), None);
        assert_eq!(parse_record(b"6,1,2,-;sh (x): drop_caches: 3\n"), None);
        assert_eq!(parse_record(b"6,1,2,-;loop0: detected capacity change\n"), None);
    }

    #[test]
    fn one_that_the_log_never_names_is_somebodys_a_second_later() {
        let root = tempfile::tempdir().unwrap();
        let vmstat = |pages: u64, slab: u64| {
            fs::create_dir_all(root.path().join("proc")).unwrap();
            let text = format!("nr_free_pages 7\ndrop_pagecache {pages}\ndrop_slab {slab}\n");
            fs::write(root.path().join("proc/vmstat"), text).unwrap();
        };
        vmstat(8, 2);
        let mut drops = CacheDrops::new(root.path());
        assert_eq!(drops.look(), []);
        vmstat(9, 3);
        assert_eq!(drops.look(), []);
        assert_eq!(drops.look(), [CacheDrop::default()]);
        assert_eq!(drops.look(), []);
    }

    #[test]
    fn one_that_is_named_in_the_same_second_or_the_next_is_no_other() {
        let root = tempfile::tempdir().unwrap();
        let mut drops = CacheDrops::new(root.path());
        let named = || vec![by(b"sh", 5)];
        assert_eq!(drops.add_unnamed(named(), 1), named());
        assert_eq!(drops.add_unnamed(Vec::new(), 1), []);
        assert_eq!(drops.add_unnamed(named(), 0), named());
        assert_eq!(drops.add_unnamed(Vec::new(), 0), []);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in any::<Vec<u8>>()) {
            parse_record(&bytes);
            parse_counts(&bytes);
        }
    }
}
