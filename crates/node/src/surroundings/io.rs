//! Limits on a cgroup's IO, of either version, and how much of them is used.
//!
//! The kernel reports no waits for these limits, so a limit counts as reached if
//! nearly all of it was used.

use std::path::Path;

use super::{Hierarchy, machine::words, read};
use crate::{devices, tree::number};

/// The kinds of limits, by their place in [`Usage`].
pub const KINDS: [&str; 4] = ["rbps", "wbps", "riops", "wiops"];

/// The files of [`KINDS`] in cgroup v1.
const V1_LIMITS: [&str; 4] = [
    "blkio.throttle.read_bps_device",
    "blkio.throttle.write_bps_device",
    "blkio.throttle.read_iops_device",
    "blkio.throttle.write_iops_device",
];

/// Bytes read and written, requests read and written.
pub type Usage = [u64; 4];

/// A limit is reached if this percentage of it was used: the kernel grants it in slices.
const NEARLY_ALL: u64 = 85;

/// The limits of one cgroup on one disk, each with its setting's text.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Limits([Option<(u64, String)>; 4]);

impl Limits {
    /// A limit that this usage reached in that time, of all or of those on reads.
    pub fn reached(&self, used: &Usage, elapsed_ns: u64, only_reads: bool) -> Option<Reached<'_>> {
        let limits = self.0.iter().zip(used).zip(KINDS);
        limits.into_iter().find_map(|((limit, used), kind)| {
            let of_reads = kind.starts_with('r');
            let (allowed, setting) = limit.as_ref().filter(|_| of_reads || !only_reads)?;
            let allowed = u128::from(*allowed) * u128::from(elapsed_ns) / 1_000_000_000;
            let used = u128::from(*used) * 100;
            let is_reached = used > 0 && used >= allowed * u128::from(NEARLY_ALL);
            is_reached.then_some(Reached { setting, of_reads })
        })
    }
}

/// A limit that was reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reached<'a> {
    pub setting: &'a str,
    pub of_reads: bool,
}

/// `None` where nothing limits it on this disk: then no usage needs to be read.
pub fn read_limits(folder: &Path, hierarchy: Hierarchy, device: u32) -> Option<Limits> {
    let limits = match hierarchy {
        Hierarchy::Unified => parse_max(&read(folder, "io.max")?, device),
        Hierarchy::V1 => {
            let mut limits = Limits::default();
            for (limit, file) in limits.0.iter_mut().zip(V1_LIMITS) {
                let Some(bytes) = read(folder, file) else { continue };
                let line = lines_of(&bytes, device).next();
                *limit = line.and_then(|line| {
                    let allowed = number(words(line).next()?)?;
                    Some((allowed, format!("{file} {} {allowed}", device_number(device))))
                });
            }
            limits
        }
    };
    limits.0.iter().any(Option::is_some).then_some(limits)
}

/// Reads the usage so far.
pub fn read_usage(folder: &Path, hierarchy: Hierarchy, device: u32) -> Option<Usage> {
    match hierarchy {
        Hierarchy::Unified => Some(parse_stat(&read(folder, "io.stat")?, device)),
        Hierarchy::V1 => {
            let bytes = parse_v1(&read(folder, "blkio.throttle.io_service_bytes")?, device);
            let requests = parse_v1(&read(folder, "blkio.throttle.io_serviced")?, device);
            Some([bytes[0], bytes[1], requests[0], requests[1]])
        }
    }
}

/// `7:0 rbps=max wbps=1048576 riops=max wiops=max`
fn parse_max(max: &[u8], device: u32) -> Limits {
    let mut limits = Limits::default();
    for word in lines_of(max, device).flat_map(words) {
        for (limit, kind) in limits.0.iter_mut().zip(KINDS) {
            if let Some(allowed) = value(word, kind) {
                *limit =
                    Some((allowed, format!("io.max {} {kind}={allowed}", device_number(device))));
            }
        }
    }
    limits
}

/// `7:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`
fn parse_stat(stat: &[u8], device: u32) -> Usage {
    let mut usage = Usage::default();
    for word in lines_of(stat, device).flat_map(words) {
        for (used, kind) in usage.iter_mut().zip(["rbytes", "wbytes", "rios", "wios"]) {
            *used = value(word, kind).unwrap_or(*used);
        }
    }
    usage
}

/// `7:0 Read 12`, `7:0 Write 34`, and more that is not limited.
fn parse_v1(stat: &[u8], device: u32) -> [u64; 2] {
    let mut used = [0; 2];
    for line in lines_of(stat, device) {
        let mut words = words(line);
        let (kind, count) = (words.next(), words.next().and_then(number));
        match kind {
            Some(b"Read") => used[0] = count.unwrap_or(0),
            Some(b"Write") => used[1] = count.unwrap_or(0),
            _ => {}
        }
    }
    used
}

/// The rest of the lines that begin with the disk's number.
fn lines_of(bytes: &[u8], device: u32) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&b| b == b'\n').filter_map(move |line| {
        let space = line.iter().position(|&b| b == b' ')?;
        (devices::parse(&line[..space]) == Some(device)).then(|| &line[space..])
    })
}

/// The number in `kind=number`; `None` also for `max`.
fn value(word: &[u8], kind: &str) -> Option<u64> {
    number(word.strip_prefix(kind.as_bytes())?.strip_prefix(b"=")?)
}

fn device_number(device: u32) -> String {
    format!("{}:{}", devices::major(device), devices::minor(device))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOOP0: u32 = devices::join(7, 0);
    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn a_limit_is_reached_where_nearly_all_of_it_is_used() {
        let max = b"8:0 rbps=1 wbps=max riops=max wiops=max\n\
            7:0 rbps=max wbps=1000 riops=max wiops=50\n";
        let limits = parse_max(max, LOOP0);
        let reached = |used, ns| limits.reached(&used, ns, false).map(|reached| reached.setting);
        assert_eq!(reached([9999, 849, 9999, 42], SECOND_NS), None);
        assert_eq!(reached([0, 850, 0, 0], SECOND_NS), Some("io.max 7:0 wbps=1000"));
        assert_eq!(reached([0, 850, 0, 0], 2 * SECOND_NS), None);
        assert_eq!(reached([0, 0, 0, 43], SECOND_NS), Some("io.max 7:0 wiops=50"));
        assert_eq!(reached([0; 4], 0), None);
        assert_eq!(parse_max(max, devices::join(7, 1)), Limits::default());
    }

    #[test]
    fn usage_is_that_of_the_disk() {
        let stat = b"7:1 rbytes=9 wbytes=9 rios=9 wios=9\n\
            7:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n";
        assert_eq!(parse_stat(stat, LOOP0), [1, 2, 3, 4]);
        let v1 = b"7:0 Read 12\n7:0 Write 34\n7:0 Sync 46\n7:0 Total 46\nTotal 46\n";
        assert_eq!(parse_v1(v1, LOOP0), [12, 34]);
        assert_eq!(parse_v1(v1, devices::join(8, 0)), [0, 0]);
    }

    #[test]
    fn limits_of_the_first_version_are_files_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(read_limits(folder.path(), Hierarchy::V1, LOOP0), None);
        write(V1_LIMITS[1], "8:0 5\n7:0 1048576\n");
        write("blkio.throttle.io_service_bytes", "7:0 Write 1048576\n");
        write("blkio.throttle.io_serviced", "7:0 Write 4\n");
        let limits = read_limits(folder.path(), Hierarchy::V1, LOOP0).unwrap();
        let used = read_usage(folder.path(), Hierarchy::V1, LOOP0).unwrap();
        assert_eq!(used, [0, 1 << 20, 0, 4]);
        let setting = "blkio.throttle.write_bps_device 7:0 1048576";
        assert_eq!(
            limits.reached(&used, SECOND_NS, false),
            Some(Reached { setting, of_reads: false })
        );
        assert_eq!(limits.reached(&used, SECOND_NS, true), None, "it is no limit on reads");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in any::<Vec<u8>>()) {
            parse_max(&bytes, LOOP0);
            parse_stat(&bytes, LOOP0);
            parse_v1(&bytes, LOOP0);
        }
    }
}
