//! Limits on a cgroup's CPU time (cfs bandwidth), of either version.
//!
//! The limit is asked for first: most cgroups have none, and then nothing else
//! is read.

use std::path::Path;

use super::{Hierarchy, machine::words, read};
use crate::tree::number;

/// How a cgroup has been held back so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Throttled {
    /// Added up over the CPUs.
    pub ns: u64,
    /// The number of periods in which its quota was used up; 0 where that is not said.
    pub times: u64,
}

/// How a cgroup has been held back so far, and by which setting; `None` where nothing limits
/// it.
pub fn read_throttled(folder: &Path, hierarchy: Hierarchy) -> Option<(Throttled, String)> {
    let setting = match hierarchy {
        Hierarchy::Unified => {
            let max = read(folder, "cpu.max")?;
            let limit = words(&max).next()?;
            (limit != b"max").then(|| format!("cpu.max {}", line(&max)))?
        }
        Hierarchy::V1 => {
            let quota = read(folder, "cpu.cfs_quota_us")?;
            (!quota.starts_with(b"-")).then(|| format!("cpu.cfs_quota_us {}", line(&quota)))?
        }
    };
    Some((parse_throttled(&read(folder, "cpu.stat")?)?, setting))
}

/// `throttled_usec` (v2) or `throttled_time` (v1, in ns), and `nr_throttled`.
fn parse_throttled(stat: &[u8]) -> Option<Throttled> {
    let find = |name: &[u8]| {
        stat.split(|&b| b == b'\n').find_map(|line| {
            let mut words = words(line);
            (words.next()? == name).then(|| words.next().and_then(number::<u64>))?
        })
    };
    let ns = match find(b"throttled_usec") {
        Some(us) => us.checked_mul(1000)?,
        None => find(b"throttled_time")?,
    };
    Some(Throttled { ns, times: find(b"nr_throttled").unwrap_or(0) })
}

/// A file of one line, as text.
fn line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.trim_ascii()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_in_ns_in_either_version() {
        let v2 = b"usage_usec 100\nnr_periods 3\nnr_throttled 2\nthrottled_usec 34\n";
        assert_eq!(parse_throttled(v2), Some(Throttled { ns: 34_000, times: 2 }));
        let v1 = b"nr_periods 4\nnr_throttled 3\nthrottled_time 34567\n";
        assert_eq!(parse_throttled(v1), Some(Throttled { ns: 34_567, times: 3 }));
        assert_eq!(parse_throttled(b"usage_usec 100\n"), None);
        assert_eq!(parse_throttled(b"throttled_usec 18446744073709551615\n"), None);
    }

    #[test]
    fn who_has_no_limit_is_not_looked_at_further() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name, text| std::fs::write(folder.path().join(name), text).unwrap();
        write("cpu.max", "max 100000\n");
        write("cpu.stat", "throttled_usec 5\n");
        assert_eq!(read_throttled(folder.path(), Hierarchy::Unified), None);
        write("cpu.max", "20000 100000\n");
        let setting = "cpu.max 20000 100000".to_owned();
        let throttled = Throttled { ns: 5000, times: 0 };
        assert_eq!(read_throttled(folder.path(), Hierarchy::Unified), Some((throttled, setting)));
        write("cpu.cfs_quota_us", "-1\n");
        assert_eq!(read_throttled(folder.path(), Hierarchy::V1), None);
    }
}
