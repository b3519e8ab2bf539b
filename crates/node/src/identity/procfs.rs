//! Parses the files in `/proc/<tgid>`.
//!
//! Bytes in, fields out, for any bytes: a process chooses its own comm and command
//! line, and the creator of a container chooses cgroup names.

use std::borrow::Cow;

use crate::tree::number;

/// The bit of a task's flags for a kernel thread (`PF_KTHREAD`).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// The fields of `/proc/<tgid>/stat` that are used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stat<'a> {
    pub comm: Cow<'a, [u8]>,
    /// When it was started, in clock ticks since boot: with the tgid it names
    /// one process forever.
    pub start_ticks: u64,
    pub kernel_thread: bool,
}

/// Parses `1 (comm) S 0 …`; the comm may itself hold `) (` and newlines, what
/// follows it holds no parenthesis.
pub fn parse_stat(stat: &[u8]) -> Option<Stat<'_>> {
    let open = stat.iter().position(|&b| b == b'(')?;
    let close = stat.iter().rposition(|&b| b == b')').filter(|&close| close > open)?;
    let mut fields = stat[close + 1..].split(u8::is_ascii_whitespace).filter(|f| !f.is_empty());
    // Fields 9 and 22 of proc_pid_stat(5); the first one here is the third.
    let flags: u64 = number(fields.nth(6)?)?;
    let start_ticks = number(fields.nth(12)?)?;
    Some(Stat {
        comm: unescape(&stat[open + 1..close]),
        start_ticks,
        kernel_thread: flags & KERNEL_THREAD != 0,
    })
}

/// The kernel writes newline and backslash in a comm as `\n` and `\\`.
fn unescape(comm: &[u8]) -> Cow<'_, [u8]> {
    if !comm.contains(&b'\\') {
        return Cow::Borrowed(comm);
    }
    let mut out = Vec::with_capacity(comm.len());
    let mut bytes = comm.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        out.push(match (byte, bytes.peek()) {
            (b'\\', Some(b'n')) => bytes.next().map_or(byte, |_| b'\n'),
            (b'\\', Some(b'\\')) => bytes.next().unwrap_or(byte),
            _ => byte,
        });
    }
    Cow::Owned(out)
}

/// The most informative cgroup in `/proc/<tgid>/cgroup`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Membership<'a> {
    /// Begins with a slash.
    pub path: &'a [u8],
    /// Whether it is the path in cgroup v2.
    pub unified: bool,
}

/// The controllers by whose hierarchy of version 1 processes go that are in the root of
/// version 2, the first that there is: each pod and container has a cgroup of its own
/// there.
const V1_CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// The first of these controllers that has a hierarchy of version 1, by any process's
/// `/proc/<tgid>/cgroup`.
pub fn find_v1_controller(cgroup: &[u8]) -> Option<&'static str> {
    let mut controllers = V1_CONTROLLERS.into_iter();
    controllers.find(|controller| find_v1_path(cgroup, controller.as_bytes()).is_some())
}

/// The path in a controller's hierarchy of version 1.
pub fn find_v1_path<'a>(cgroup: &'a [u8], controller: &[u8]) -> Option<&'a [u8]> {
    cgroup.split(|&b| b == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |&b| b == b':');
        let (id, controllers) = (fields.next()?, fields.next()?);
        let path = fields.next().filter(|path| path.starts_with(b"/"))?;
        let is_it = id != b"0" && controllers.split(|&b| b == b',').any(|one| one == controller);
        is_it.then(|| outermost(path.strip_suffix(b" (deleted)").unwrap_or(path)).0)
    })
}

/// Parses lines of `0::/v2/path` and `4:cpu,cpuacct:/v1/path`.
///
/// v2 is taken, unless it says no more than `/` and a v1 hierarchy does
/// (hybrid hosts): then systemd's own, else the longest.
pub fn parse_cgroup(cgroup: &[u8]) -> Option<Membership<'_>> {
    let lines = cgroup.split(|&b| b == b'\n').filter_map(|line| {
        let mut fields = line.splitn(3, |&b| b == b':');
        let (id, controllers) = (fields.next()?, fields.next()?);
        let path = fields.next().filter(|path| path.starts_with(b"/"))?;
        // The mark of a cgroup that was removed.
        let (path, _) = outermost(path.strip_suffix(b" (deleted)").unwrap_or(path));
        let unified = id == b"0" && controllers.is_empty();
        let rank = if unified { 2 } else { u8::from(controllers == b"name=systemd") };
        Some((path.len() > 1, rank, path.len(), Membership { path, unified }))
    });
    lines.max_by_key(|&(says_much, rank, len, _)| (says_much, rank, len)).map(|line| line.3)
}

/// A path without the `/..` that a reader in a cgroup namespace sees, and how
/// many there were.
pub(super) fn outermost(path: &[u8]) -> (&[u8], usize) {
    let (mut path, mut above) = (path, 0);
    while let Some(rest) = path.strip_prefix(b"/..")
        && rest.first().is_none_or(|&b| b == b'/')
    {
        (path, above) = (rest, above + 1);
    }
    (if path.is_empty() { b"/" } else { path }, above)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAIL: &str = " S 1 2 3 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 4321 1000 2 99\n";

    #[test]
    fn a_comm_may_hold_anything() {
        let table: &[(&[u8], &[u8])] = &[
            (b"etcd", b"etcd"),
            (b") (", b") ("),
            (b"a) R 1 2 (b", b"a) R 1 2 (b"),
            (b"", b""),
            (b"new\nline", b"new\nline"),
            (b"new\\nline\\\\", b"new\nline\\"),
            (b"end\\", b"end\\"),
            (b"\xff\x00\x1b", b"\xff\x00\x1b"),
        ];
        for (written, comm) in table {
            let stat = [b"77 (", *written, b")", TAIL.as_bytes()].concat();
            let stat = parse_stat(&stat).unwrap();
            assert_eq!(stat.comm, *comm);
            assert_eq!((stat.start_ticks, stat.kernel_thread), (4321, false));
        }
        assert!(
            parse_stat(b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 5 0")
                .unwrap()
                .kernel_thread
        );
    }

    #[test]
    fn a_stat_cut_short_is_none() {
        for stat in ["", "1 (x", "1 x) (", "1 (x) S 1 2", "1 (x) S 1 2 3 0 -1 x 1 1 1 1 1 1 1"] {
            assert_eq!(parse_stat(stat.as_bytes()), None, "{stat}");
        }
    }

    #[test]
    fn cgroups_of_v1_v2_and_hybrid_hosts() {
        let v1 = "5:blkio:/a/longer/one\n4:cpu,cpuacct:/b\n1:name=systemd:/s\n";
        let table: &[(&str, Option<(&str, bool)>)] = &[
            ("0::/system.slice/etcd.service\n", Some(("/system.slice/etcd.service", true))),
            ("0::/\n", Some(("/", true))),
            (v1, Some(("/s", false))),
            (&format!("{v1}0::/\n"), Some(("/s", false))),
            (&format!("{v1}0::/u\n"), Some(("/u", true))),
            ("9:name=systemd:/\n4:memory:/api/1\n1:cpu:/\n0::/\n", Some(("/api/1", false))),
            ("0::/a:b:c\n", Some(("/a:b:c", true))),
            ("0::/../../system.slice/x.service\n", Some(("/system.slice/x.service", true))),
            ("0::/..\n", Some(("/", true))),
            ("0::/..x\n", Some(("/..x", true))),
            ("0::/gone (deleted)\n", Some(("/gone", true))),
            ("0::relative\nnonsense\n\n:\n", None),
            ("", None),
        ];
        for (file, expected) in table {
            let got = parse_cgroup(file.as_bytes());
            let expected =
                expected.map(|(path, unified)| Membership { path: path.as_bytes(), unified });
            assert_eq!(got, expected, "{file}");
        }
    }

    #[test]
    fn a_process_goes_by_memory_then_pids_then_cpu_of_version_1() {
        let check = |file: &str, controller: Option<&str>, path: &str| {
            let found = find_v1_controller(file.as_bytes());
            assert_eq!(found, controller, "{file}");
            let in_it = found.and_then(|one| find_v1_path(file.as_bytes(), one.as_bytes()));
            assert_eq!(in_it.unwrap_or_default(), path.as_bytes(), "{file}");
        };
        check(
            "9:cpu,cpuacct:/c\n8:pids:/p\n4:memory:/kubepods/pod1\n0::/\n",
            Some("memory"),
            "/kubepods/pod1",
        );
        check("9:cpu,cpuacct:/c\n8:pids:/p\n0::/\n", Some("pids"), "/p");
        check("9:cpuacct,cpu:/c\n3:cpuset:/s\n", Some("cpu"), "/c");
        check("4:memory:/\n", Some("memory"), "/");
        check("4:memory:/a:b (deleted)\n", Some("memory"), "/a:b");
        check("4:memory:/../x\n", Some("memory"), "/x");
        // Version 2 with one hierarchy of version 1 that has no controller.
        check("1:name=systemd:/s\n0::/s\n", None, "");
        check("0::/memory\n", None, "");
        check("4:memory:relative\n", None, "");
        check("4:memoryless,x:/m\n", None, "");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in any::<Vec<u8>>(),
            text in "[0-9a-z:/.() \n\\\\]{0,80}",
        ) {
            for bytes in [&bytes[..], text.as_bytes()] {
                parse_stat(bytes);
                parse_cgroup(bytes);
                find_v1_controller(bytes);
            }
        }

        #[test]
        fn any_comm_is_found_between_its_parentheses(
            comm in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            prop_assume!(!comm.contains(&b'\\'));
            let stat = [b"1 (", &comm[..], b")", TAIL.as_bytes()].concat();
            let stat = parse_stat(&stat).unwrap();
            prop_assert_eq!(&stat.comm[..], &comm[..]);
            prop_assert_eq!(stat.start_ticks, 4321);
        }
    }
}
