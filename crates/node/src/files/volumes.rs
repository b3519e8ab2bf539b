//! Volumes of pods, by the disk whose filesystem is theirs.
//!
//! For a volume of a CSI driver (a cloud's, Longhorn's, Ceph's) the kubelet mounts the
//! disk's filesystem at a path that has the volume's name in it, mostly that of the
//! PersistentVolume: `pvc-89c15dec-…`. The node's mount table says so, and no disk is asked.
//!
//! Source: Kubernetes v1.31, `pkg/volume/csi/csi_mounter.go` (`GetPath`:
//! `pods/<uid>/volumes/kubernetes.io~csi/<volume>/mount`).

use std::collections::HashMap;

use crate::{
    mounts,
    tree::{Tree, text},
};

/// Longer names are cut.
const NAME_BYTES: usize = 128;

/// Volumes that are known at most: a node has some hundreds.
const MAX_VOLUMES: usize = 4096;

/// A node that starts many pods changes its mounts all the time.
const EVERY_NS: u64 = 10_000_000_000;

#[derive(Debug, Default)]
pub struct Volumes {
    names: HashMap<u32, String>,
    /// The changes of mounts that there had been when they were read.
    changes: Option<u64>,
    due_ns: u64,
}

impl Volumes {
    /// Reads the node's mounts if there are more changes than before; returns whether a
    /// name has changed.
    pub fn look(&mut self, tree: &Tree, changes: u64, now_ns: u64) -> bool {
        if self.changes == Some(changes) || now_ns < self.due_ns {
            return false;
        }
        (self.changes, self.due_ns) = (Some(changes), now_ns.saturating_add(EVERY_NS));
        let bytes = mounts::read(tree, "1").or_else(|_| mounts::read(tree, "self"));
        let Ok(bytes) = bytes else { return false };
        let mut names = HashMap::new();
        for mount in mounts::parse(&bytes) {
            // A directory of a disk that pods share is no disk of one volume.
            let is_whole = mount.root == b"/";
            if let Some(name) =
                volume_at(mount.point).filter(|_| is_whole && names.len() < MAX_VOLUMES)
            {
                names.entry(mount.device).or_insert_with(|| text(name, NAME_BYTES));
            }
        }
        let before = std::mem::replace(&mut self.names, names);
        before != self.names
    }

    /// The volume whose filesystem is on the device with this number.
    pub fn find(&self, device: u32) -> Option<&str> {
        self.names.get(&device).map(String::as_str)
    }
}

/// `pvc-1` of `/var/lib/kubelet/pods/<uid>/volumes/kubernetes.io~csi/pvc-1/mount`.
fn volume_at(point: &[u8]) -> Option<&[u8]> {
    let mut parts = point.rsplit(|&b| b == b'/');
    let is_mount = parts.next() == Some(b"mount");
    let volume = parts.next().filter(|name| !name.is_empty());
    let is_csi = parts.next() == Some(b"kubernetes.io~csi") && parts.next() == Some(b"volumes");
    volume.filter(|_| is_mount && is_csi)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::devices::join;

    /// A volume of EBS, one of Longhorn in two pods, a directory of the root disk that a
    /// driver gives out as a volume, and other mounts of the kubelet.
    const MOUNTS: &str = "\
29 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
811 29 259:3 / /var/lib/kubelet/plugins/kubernetes.io/csi/ebs.csi.aws.com/5d0f/globalmount rw - ext4 /dev/nvme1n1 rw
812 29 259:3 / /var/lib/kubelet/pods/3f6b1c2d-0000-4000-8000-000000000001/volumes/kubernetes.io~csi/pvc-89c15dec-1111-4222-8333-444455556666/mount rw - ext4 /dev/nvme1n1 rw
813 29 8:32 / /var/lib/kubelet/pods/3f6b1c2d-0000-4000-8000-000000000002/volumes/kubernetes.io~csi/pvc-0a/mount rw - ext4 /dev/longhorn/pvc-0a rw
814 29 8:32 / /var/lib/kubelet/pods/3f6b1c2d-0000-4000-8000-000000000003/volumes/kubernetes.io~csi/pvc-0a/mount rw - ext4 /dev/longhorn/pvc-0a rw
815 29 259:2 /srv/pv/7 /var/lib/kubelet/pods/3f6b1c2d-0000-4000-8000-000000000004/volumes/kubernetes.io~csi/pvc-7/mount rw - ext4 /dev/nvme0n1p2 rw
816 29 0:90 / /var/lib/kubelet/pods/3f6b1c2d-0000-4000-8000-000000000004/volumes/kubernetes.io~projected/token rw - tmpfs tmpfs rw
";

    #[test]
    fn a_disk_is_the_volume_that_is_mounted_for_a_pod() {
        let node = tempfile::tempdir().unwrap();
        let tree = Tree::new(node.path());
        let mounts = node.path().join("proc/1/mountinfo");
        fs::create_dir_all(mounts.parent().unwrap()).unwrap();
        fs::write(&mounts, MOUNTS).unwrap();
        let mut volumes = Volumes::default();
        assert!(volumes.look(&tree, 0, 1));
        assert_eq!(volumes.find(join(259, 3)), Some("pvc-89c15dec-1111-4222-8333-444455556666"));
        assert_eq!(volumes.find(join(8, 32)), Some("pvc-0a"));
        assert_eq!(volumes.find(join(259, 2)), None, "a directory of the root disk");
        assert_eq!(volumes.find(join(0, 90)), None);
        // Nothing has changed, and then it has, but a moment ago.
        assert!(!volumes.look(&tree, 0, EVERY_NS * 2));
        fs::write(&mounts, "").unwrap();
        let mut busy = Volumes { due_ns: 9, ..Volumes::default() };
        assert!(!busy.look(&tree, 1, 8));
        assert!(volumes.look(&tree, 1, EVERY_NS * 2));
        assert_eq!(volumes.find(join(8, 32)), None);
    }

    #[test]
    fn other_paths_name_no_volume() {
        for other in [
            "",
            "/",
            "mount",
            "/mount",
            "//mount",
            "/volumes/kubernetes.io~csi//mount",
            "/volumes/kubernetes.io~csi/a",
            "/x/kubernetes.io~csi/a/mount",
            "/volumes/kubernetes.io~csi/a/mount/b",
        ] {
            assert_eq!(volume_at(other.as_bytes()), None, "{other}");
        }
        assert_eq!(volume_at(b"/volumes/kubernetes.io~csi/a/mount"), Some(&b"a"[..]));
    }
}
