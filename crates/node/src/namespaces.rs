//! Namespaces of processes: the node's, or a container's.
//!
//! A process has ids in its own PID namespace and in those around it. Each `/proc` is
//! of one namespace, and shows its ids alone.

use std::{fs, os::unix::fs::MetadataExt as _};

use crate::{
    devices,
    tree::{Tree, number},
};

/// The inode of the first namespace of each kind, the same on every kernel:
/// <https://github.com/torvalds/linux/blob/v6.1/include/linux/proc_ns.h#L41-L49>.
pub const INITIAL_PID: u32 = 0xeffffffc;
pub const INITIAL_CGROUP: u32 = 0xeffffffb;

const STATUS_BYTES: usize = 8192;

/// A namespace, by its file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Namespace {
    pub inode: u32,
    /// The device of the file, as the kernel numbers it.
    pub device: u32,
}

/// The namespace of a kind (`pid`, `user`, `cgroup`) that a process is in; `process`
/// is a tgid or `self`.
pub fn find(tree: &Tree, process: &str, kind: &str) -> Option<Namespace> {
    let file = fs::metadata(tree.at(format!("proc/{process}/ns/{kind}"))).ok()?;
    let inode = u32::try_from(file.ino()).ok()?;
    Some(Namespace { inode, device: devices::from_stat(file.dev()) })
}

/// The PID namespace whose ids `/proc` shows; `None` for the first, and where nothing
/// says.
///
/// Its first process is in it. Where that one may not be looked at, `/proc` is that of
/// our own namespace if it knows one id of ours, and of one around it if it knows more.
/// Then it is taken for the first: a container has seldom a `/proc` of anybody else.
pub fn find_shown(tree: &Tree) -> Option<Namespace> {
    let own = find(tree, "self", "pid");
    if own.is_some_and(|own| own.inode == INITIAL_PID) {
        return None;
    }
    let shown = find(tree, "1", "pid").or_else(|| {
        let status = tree.read_up_to("proc/self/status", STATUS_BYTES).ok()?;
        own.filter(|_| parse_ids(&status).len() == 1)
    });
    shown.filter(|shown| shown.inode != INITIAL_PID)
}

/// A process's ids that a `/proc/<tgid>/status` shows: that in its own namespace last.
fn parse_ids(status: &[u8]) -> Vec<u32> {
    let mut lines = status.split(|&b| b == b'\n');
    let ids = lines.find_map(|line| line.strip_prefix(b"NSpid:")).unwrap_or_default();
    let words = ids.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.map_while(number).collect()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, path::Path};

    use super::*;

    /// The inode of a file of our own stands for that of a namespace.
    fn proc_of(first: Option<&Path>, own: Option<&Path>, ids: &str) -> (tempfile::TempDir, Tree) {
        let root = tempfile::tempdir().unwrap();
        for (process, namespace) in [("1", first), ("self", own)] {
            let folder = root.path().join("proc").join(process).join("ns");
            fs::create_dir_all(&folder).unwrap();
            if let Some(namespace) = namespace {
                symlink(namespace, folder.join("pid")).unwrap();
            }
        }
        fs::write(root.path().join("proc/self/status"), format!("Name:\tx\nNSpid:\t{ids}\nx:\n"))
            .unwrap();
        let tree = Tree::new(root.path());
        (root, tree)
    }

    fn inode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().ino() as u32
    }

    #[test]
    fn the_first_process_of_a_proc_says_whose_ids_it_shows() {
        let files = tempfile::tempdir().unwrap();
        let [outer, inner] = ["outer", "inner"].map(|name| files.path().join(name));
        for path in [&outer, &inner] {
            fs::write(path, "").unwrap();
        }
        let check = |first: Option<&Path>, own: Option<&Path>, ids, expected: Option<&Path>| {
            let (_root, tree) = proc_of(first, own, ids);
            let shown = find_shown(&tree).map(|namespace| namespace.inode);
            assert_eq!(shown, expected.map(inode), "{ids}");
        };
        check(Some(&inner), Some(&inner), "7", Some(&inner));
        check(Some(&outer), Some(&inner), "812\t7", Some(&outer));
        check(None, Some(&inner), "7", Some(&inner));
        check(None, Some(&inner), "812\t7", None);
        check(None, None, "", None);
    }

    #[test]
    fn ids_are_read_from_the_outermost_namespace_to_the_own() {
        assert_eq!(parse_ids(b"Name:\ta\nNSpid:\t812\t33\t1\nNSpgid:\t9\n"), [812, 33, 1]);
        for nothing in ["", "NSpid:", "NSpid:\t", "NSpid:\tx 1", "NSpid:\t99999999999"] {
            assert_eq!(parse_ids(nothing.as_bytes()), [0; 0], "{nothing}");
        }
    }
}
