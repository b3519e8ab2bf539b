//! Finds the cgroups that can limit a process.
//!
//! Version 2 has one tree for all controllers, version 1 one for each; on hybrid
//! hosts there are both. Only `/proc/<tgid>/cgroup` shows a process's place in the
//! trees of version 1.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::Hierarchy;
use crate::{mounts, tree::Tree};

/// Longer than any process's.
const CGROUP_BYTES: usize = 16 << 10;

/// Controllers that can hold somebody back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Controller {
    Cpu,
    Io,
    Freezer,
    Memory,
}

impl Controller {
    const fn v1_name(self) -> &'static [u8] {
        match self {
            Self::Cpu => b"cpu",
            Self::Io => b"blkio",
            Self::Freezer => b"freezer",
            Self::Memory => b"memory",
        }
    }
}

/// A cgroup that may have a limit, and the mount point that it lies below.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LimitedCgroup {
    pub hierarchy: Hierarchy,
    pub top: PathBuf,
    pub folder: PathBuf,
}

/// One mount of cgroups.
#[derive(Debug)]
struct CgroupMount {
    point: PathBuf,
    /// The path of the cgroup that is mounted there.
    root: PathBuf,
    /// The controllers of version 1, separated by commas among other options.
    controllers: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
pub struct Hierarchies {
    mounts: Vec<CgroupMount>,
}

impl Hierarchies {
    /// As the mount table has them now.
    pub fn find(tree: &Tree) -> Self {
        let mountinfo = mounts::read(tree, "self").unwrap_or_default();
        let mounts = mounts::parse(&mountinfo).filter_map(|mount| {
            let controllers = match mount.fstype {
                b"cgroup2" => None,
                b"cgroup" => Some(mount.options.to_vec()),
                _ => return None,
            };
            let root = mounts::unescape(mount.root);
            Some(CgroupMount {
                point: mounts::locate(tree, mount.point),
                root: PathBuf::from(OsStr::from_bytes(&root)),
                controllers,
            })
        });
        Self { mounts: mounts.collect() }
    }

    /// The cgroups of a process in version 2, whose path the caller knows, and in the
    /// controller's tree of version 1.
    pub fn cgroups(
        &self,
        tree: &Tree,
        controller: Controller,
        unified: Option<&str>,
        tgid: u32,
    ) -> Vec<LimitedCgroup> {
        let mut found = Vec::new();
        let v2 = self.mounts.iter().find(|mount| mount.controllers.is_none());
        // The root of version 2 has no limits.
        if let (Some(mount), Some(path)) = (v2, unified.filter(|path| *path != "/")) {
            found.extend(mount.cgroup(Hierarchy::Unified, Path::new(path)));
        }
        let has = |list: &[u8]| list.split(|&b| b == b',').any(|name| name == controller.v1_name());
        let v1 = self.mounts.iter().find(|mount| mount.controllers.as_deref().is_some_and(has));
        if let Some(mount) = v1 {
            let cgroup = tree.read_up_to(format!("proc/{tgid}/cgroup"), CGROUP_BYTES);
            let cgroup = cgroup.unwrap_or_default();
            let path = parse_v1_path(&cgroup, has);
            found.extend(
                path.and_then(|path| {
                    mount.cgroup(Hierarchy::V1, Path::new(OsStr::from_bytes(path)))
                }),
            );
        }
        found
    }
}

impl CgroupMount {
    fn cgroup(&self, hierarchy: Hierarchy, path: &Path) -> Option<LimitedCgroup> {
        // In a container the mount may begin further down.
        let below = path.strip_prefix(&self.root).or_else(|_| path.strip_prefix("/")).ok()?;
        // No path leads out of the tree.
        if below.components().any(|part| part == std::path::Component::ParentDir) {
            return None;
        }
        Some(LimitedCgroup { hierarchy, top: self.point.clone(), folder: self.point.join(below) })
    }
}

/// The path in the tree with these controllers, from lines `4:cpu,cpuacct:/path`.
fn parse_v1_path(cgroup: &[u8], has: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
    cgroup.split(|&b| b == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |&b| b == b':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        has(controllers).then_some(path)
    })
}
