//! This process may be held back by more than its capabilities: namespaces, seccomp, security
//! modules, limits, settings of the kernel.
//!
//! A value, read once the kernel has refused something; [`refusal`](crate::refusal)
//! makes a sentence of it. Files that are not there say nothing. What they hold may be
//! anything.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use crate::bpf;

/// The inode of the first user namespace, the same on every kernel:
/// <https://github.com/torvalds/linux/blob/v6.1/include/linux/proc_ns.h#L45>.
const INITIAL_USER: u64 = 0xeffffffd;

/// All ids, each as itself, as the first namespace maps them.
const IDENTITY: [&str; 3] = ["0", "0", "4294967295"];

/// The limit of version 1 that is none: the last page of what a signed number counts,
/// on machines with pages of any size.
const V1_UNLIMITED: u64 = i64::MAX as u64 - (1 << 20);

/// The things that may be behind a refusal.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Confinement {
    /// Whether a seccomp filter looks at each system call.
    pub has_seccomp: bool,
    /// The kernel's answer to a command of bpf() that does not exist: `EINVAL` where
    /// nothing stands before it.
    pub bpf_errno: Option<i32>,
    /// Whether SELinux enforces its policy; `None` where nothing says.
    pub selinux_enforces: Option<bool>,
    /// The process's label, as the security module in charge has it.
    pub label: Option<Label>,
    pub memory_limit: Option<MemoryLimit>,
    /// The limit on locked memory, where there is one.
    pub locked_bytes: Option<u64>,
    /// `net.core.bpf_jit_harden`.
    pub jit_harden: Option<u32>,
}

/// The content of `/proc/self/attr/current`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Label {
    /// The type in the context.
    Selinux(String),
    /// A profile that is enforced.
    AppArmor(String),
}

/// The smallest limit on memory that holds for this process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemoryLimit {
    pub bytes: u64,
    pub file: PathBuf,
}

impl Confinement {
    /// This process's own, by the `/proc` and `/sys` that it sees.
    pub fn read() -> Self {
        let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap_or((RLIM_INFINITY, 0));
        Self {
            bpf_errno: bpf::ask_nothing(),
            locked_bytes: (soft != RLIM_INFINITY).then_some(soft),
            ..Self::below(Path::new("/"))
        }
    }

    /// The part of it that files below a root show.
    fn below(root: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        let trimmed = |path: &str| read(path).map(|text| text.trim().to_owned());
        Self {
            has_seccomp: read("proc/self/status").is_some_and(|status| has_filter(&status)),
            bpf_errno: None,
            selinux_enforces: trimmed("sys/fs/selinux/enforce").map(|text| text == "1"),
            label: read("proc/self/attr/current").and_then(|text| parse_label(&text)),
            memory_limit: find_memory_limit(root),
            locked_bytes: None,
            jit_harden: trimmed("proc/sys/net/core/bpf_jit_harden")
                .and_then(|text| text.parse().ok()),
        }
    }
}

/// The smallest limit on memory that holds for this process, in bytes.
pub fn memory_limit() -> Option<u64> {
    find_memory_limit(Path::new("/")).map(|limit| limit.bytes)
}

/// Whether this process is in a user namespace of its own, in which no capability
/// reaches the kernel as a whole.
pub fn in_user_namespace() -> bool {
    let inode = fs::metadata("/proc/self/ns/user").ok().map(|file| file.ino());
    let map = fs::read_to_string("/proc/self/uid_map").ok();
    is_nested(inode, map.as_deref())
}

/// The namespace's number decides. Where it cannot be read, ids that are not each
/// themselves are those of another.
fn is_nested(inode: Option<u64>, map: Option<&str>) -> bool {
    match (inode, map) {
        (Some(inode), _) => inode != INITIAL_USER,
        (None, Some(map)) => map.split_whitespace().ne(IDENTITY),
        (None, None) => false,
    }
}

/// Reads `/proc/self/status`; 1 is the strict mode, in which nobody gets so far.
fn has_filter(status: &str) -> bool {
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

/// `system_u:system_r:container_t:s0:c1,c2` is SELinux's, `docker-default (enforce)`
/// AppArmor's. What is not confined, or only watched, is none.
fn parse_label(text: &str) -> Option<Label> {
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    if let Some(start) = text.strip_suffix(')') {
        let (profile, mode) = start.rsplit_once(" (")?;
        let refuses = matches!(mode, "enforce" | "kill");
        return refuses.then(|| Label::AppArmor(bounded(profile)));
    }
    let parts: Vec<_> = text.splitn(4, ':').collect();
    let [_user, _role, kind, ..] = parts.as_slice() else { return None };
    (!kind.is_empty()).then(|| Label::Selinux(bounded(kind)))
}

/// Names in sentences have an end.
fn bounded(name: &str) -> String {
    name.chars().take(64).collect()
}

/// A hierarchy of cgroups that limits memory: its mount point, and the file with the
/// limit.
struct Hierarchy {
    point: &'static str,
    file: &'static str,
}

const V2: [Hierarchy; 2] = [
    Hierarchy { point: "sys/fs/cgroup", file: "memory.max" },
    Hierarchy { point: "sys/fs/cgroup/unified", file: "memory.max" },
];
const V1: [Hierarchy; 1] =
    [Hierarchy { point: "sys/fs/cgroup/memory", file: "memory.limit_in_bytes" }];

/// The limits of the process's cgroup and of those above it, as far as they are shown.
fn find_memory_limit(root: &Path) -> Option<MemoryLimit> {
    let cgroup = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mut limits = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let hierarchies: &[Hierarchy] = if id == "0" && controllers.is_empty() {
            &V2
        } else if controllers.split(',').any(|controller| controller == "memory") {
            &V1
        } else {
            continue;
        };
        for Hierarchy { point, file } in hierarchies {
            limits.extend(limits_above(&root.join(point), path, file));
        }
    }
    limits.into_iter().min_by_key(|limit| limit.bytes)
}

/// In a container the mount may begin at its own cgroup, and then no part of the path
/// lies below it but the mount itself.
fn limits_above(point: &Path, path: &str, file: &str) -> Vec<MemoryLimit> {
    let is_plain = |part: &Component<'_>| matches!(part, Component::Normal(_));
    let below: PathBuf = Path::new(path).components().filter(is_plain).collect();
    let cgroups = below.ancestors().map(|cgroup| point.join(cgroup).join(file));
    cgroups
        .filter_map(|file| {
            let bytes = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
            (bytes < V1_UNLIMITED).then_some(MemoryLimit { bytes, file })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_namespace_is_recognised_by_its_number_or_else_by_its_ids() {
        let whole = "         0          0 4294967295\n";
        for (inode, map, expected) in [
            (Some(INITIAL_USER), Some(whole), false),
            // One of its own may map all ids as they are.
            (Some(4_026_532_000), Some(whole), true),
            (Some(4_026_532_000), Some("0 1000 1\n"), true),
            (None, Some(whole), false),
            (None, Some("0 100000 65536\n"), true),
            (None, Some("0 0 65536\n"), true),
            (None, Some(""), true),
            (None, None, false),
        ] {
            assert_eq!(is_nested(inode, map), expected, "{inode:?} {map:?}");
        }
    }

    #[test]
    fn a_filter_is_mode_two() {
        let status = |mode: u32| format!("Name:\tx\nSeccomp:\t{mode}\nSeccomp_filters:\t{mode}\n");
        assert_eq!([0, 1, 2].map(|mode| has_filter(&status(mode))), [false, false, true]);
        assert!(!has_filter("Name:\tSeccomp:\t2\n"));
    }

    #[test]
    fn labels_are_selinuxs_types_or_apparmors_profiles() {
        let selinux = |kind: &str| Some(Label::Selinux(kind.to_owned()));
        let apparmor = |profile: &str| Some(Label::AppArmor(profile.to_owned()));
        for (text, expected) in [
            ("system_u:system_r:container_t:s0:c1,c2\0", selinux("container_t")),
            ("unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023", selinux("unconfined_t")),
            ("system_u:system_r:spc_t\n", selinux("spc_t")),
            ("docker-default (enforce)\n", apparmor("docker-default")),
            ("cri-containerd.apparmor.d (enforce)", apparmor("cri-containerd.apparmor.d")),
            (":root//lxd-x:unconfined (enforce)", apparmor(":root//lxd-x:unconfined")),
            ("strict (kill)", apparmor("strict")),
            ("watched (complain)", None),
            ("free (unconfined)", None),
            ("unconfined\n", None),
            ("kernel\0", None),
            ("u:r::s0", None),
            (")", None),
            ("", None),
        ] {
            assert_eq!(parse_label(text), expected, "{text:?}");
        }
        let long = parse_label(&format!("u:r:{}", "x".repeat(5000)));
        assert_eq!(long, selinux(&"x".repeat(64)));
    }

    const MIB: u64 = 1 << 20;

    fn check_limit(cgroup: &str, files: &[(&str, &str)], expected: Option<(u64, &str)>) {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/self/cgroup", cgroup);
        for (path, text) in files {
            write(&format!("sys/fs/cgroup/{path}"), text);
        }
        let found = find_memory_limit(root.path());
        let expected = expected.map(|(bytes, file)| MemoryLimit {
            bytes,
            file: root.path().join("sys/fs/cgroup").join(file),
        });
        assert_eq!(found, expected, "{cgroup} {files:?}");
    }

    #[test]
    fn the_smallest_limit_above_a_process_holds() {
        let own = ("a/b/memory.max", "134217728\n");
        check_limit("0::/a/b\n", &[own], Some((128 * MIB, "a/b/memory.max")));
        check_limit(
            "0::/a/b\n",
            &[("a/memory.max", "67108864"), own],
            Some((64 * MIB, "a/memory.max")),
        );
        check_limit("0::/a/b\n", &[("a/b/memory.max", "max\n")], None);
        check_limit("0::/other\n", &[own], None);
        // In a cgroup namespace the own one is the root.
        check_limit("0::/\n", &[("memory.max", "134217728")], Some((128 * MIB, "memory.max")));
        check_limit(
            "0::/../../x\n",
            &[("memory.max", "134217728")],
            Some((128 * MIB, "memory.max")),
        );
    }

    #[test]
    fn limits_of_version_1_and_of_hybrid_hosts() {
        let v1 = "9:name=systemd:/s\n4:memory:/docker/1\n0::/\n";
        let own = ("memory/docker/1/memory.limit_in_bytes", "134217728\n");
        let none = ("memory/memory.limit_in_bytes", "9223372036854771712\n");
        check_limit(v1, &[own, none], Some((128 * MIB, own.0)));
        check_limit(v1, &[none], None);
        check_limit(
            v1,
            &[("memory/memory.limit_in_bytes", "134217728")],
            Some((128 * MIB, "memory/memory.limit_in_bytes")),
        );
        let pages_of_64k = i64::MAX as u64 - 65535;
        check_limit(v1, &[("memory/memory.limit_in_bytes", &pages_of_64k.to_string())], None);
        check_limit(
            "0::/u\n",
            &[("unified/u/memory.max", "4096")],
            Some((4096, "unified/u/memory.max")),
        );
        check_limit("nonsense\n::\n4:memory\n", &[own], None);
    }

    #[test]
    fn what_is_not_there_says_nothing() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(Confinement::below(empty.path()), Confinement::default());
    }
}
