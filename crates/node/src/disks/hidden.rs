//! Disks whose number is in no file.
//!
//! The paths of a multipath NVMe namespace (`nvme0c0n1`) are hidden: they have no
//! `dev`, and before Linux 6.1 diskstats has `0 0` as their number (diskstats_show,
//! <https://elixir.bootlin.com/linux/v6.1/source/block/genhd.c>). Yet they carry the
//! requests. So the kernel programs send the name of an unknown disk with its number,
//! as the kernel has it; it is only compared with the names in `/sys/block`.

use std::{collections::BTreeMap, fs, path::Path};

use super::replaced::Identity;
use crate::tree::Tree;

/// A node has fewer paths.
const MAX_HIDDEN: usize = 4096;

/// Numbers of hidden disks, as far as the kernel programs have met them.
#[derive(Clone, Debug, Default)]
pub struct Hidden(BTreeMap<String, (u32, Identity)>);

impl Hidden {
    /// Notes that the disk of this name has this number, if there is a hidden one of
    /// that name.
    pub fn note(&mut self, root: &Path, name: &[u8], device: u32) {
        let tree = Tree::new(root);
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let Some(name) = find_hidden(&tree).find(|hidden| hidden.as_bytes() == name) else {
            return;
        };
        let Some(identity) = Identity::read(&tree, &name) else { return };
        // Two disks have two numbers: who had this one is gone.
        self.0.retain(|_, (known, _)| *known != device);
        if self.0.len() < MAX_HIDDEN {
            self.0.insert(name, (device, identity));
        }
    }

    /// The number of a hidden disk; `None` if it was not met, or is another now.
    pub(super) fn device(&self, name: &str, identity: Option<&Identity>) -> Option<u32> {
        let (device, known) = self.0.get(name)?;
        (Some(known) == identity).then_some(*device)
    }
}

/// Whether there are disks whose number no file says.
pub fn has_hidden(root: &Path) -> bool {
    find_hidden(&Tree::new(root)).next().is_some()
}

fn find_hidden(tree: &Tree) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(tree.at("sys/block")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| !tree.at(format!("sys/block/{name}/dev")).exists())
}
