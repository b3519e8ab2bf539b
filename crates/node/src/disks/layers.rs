//! A look, once a second, at what each disk lies on directly.
//!
//! A stack changes under a disk that stays: a table of device mapper is loaded
//! again, a volume moves to another disk, an array gives a member's role to its
//! spare. Neither the disk's number nor its place in the kernel's sequence
//! changes with it. The kernel keeps a link for each disk that another holds, so
//! a few folders of links show it, and nothing of a disk is asked for: a sick
//! one holds nobody up.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{MAX_MEMBERS, stacks::whole_disk};
use crate::tree::Tree;

/// All disks by name, with the links to what each lies on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Layers(BTreeMap<String, Vec<PathBuf>>);

impl Layers {
    pub fn read(root: &Path) -> Self {
        let tree = Tree::new(root);
        let entries = fs::read_dir(tree.at("sys/block")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let layer = |name: String| {
            let links =
                if lies_on_hardware(&tree, &name) { Vec::new() } else { links(&tree, &name) };
            (name, links)
        };
        Self(names.map(layer).collect())
    }
}

impl Layers {
    /// A disk and all that lie below it, the upper ones first.
    pub(super) fn from(&self, disk: &str) -> Vec<String> {
        let mut names = vec![disk.to_owned()];
        let mut at = 0;
        while at < names.len() {
            let links = self.0.get(&names[at]).into_iter().flatten();
            for member in links.filter_map(|link| whole_disk(link)) {
                if !names.contains(&member) && names.len() < MAX_MEMBERS {
                    names.push(member);
                }
            }
            at += 1;
        }
        names
    }
}

/// Whether a disk lies on no other by a link: loop devices, of which there are
/// hundreds, have a file instead.
fn lies_on_hardware(tree: &Tree, name: &str) -> bool {
    name.starts_with("loop") || tree.at(format!("sys/block/{name}/device")).exists()
}

/// The links in sysfs to what a disk lies on directly. The members of an array that
/// have a role come first: its spares, and members that failed, are linked as well.
pub(super) fn links(tree: &Tree, name: &str) -> Vec<PathBuf> {
    let disk = tree.at(format!("sys/block/{name}"));
    let mut slaves: Vec<_> = list(&disk.join("slaves")).take(MAX_MEMBERS).collect();
    slaves.sort();
    let mut links = members(&disk.join("md"));
    links.extend(slaves);
    links
}

/// The members of an array in the order of their roles: `rd0` is a link to
/// `dev-sda1`.
fn members(array: &Path) -> Vec<PathBuf> {
    let role = |link: &Path| -> Option<u32> {
        link.file_name()?.to_str()?.strip_prefix("rd")?.parse().ok()
    };
    let member = |link: PathBuf| {
        let member = array.join(fs::read_link(&link).ok()?).join("block");
        Some((role(&link)?, member))
    };
    let is_role = |link: &PathBuf| role(link).is_some();
    let mut members: Vec<_> =
        list(array).filter(is_role).filter_map(member).take(MAX_MEMBERS).collect();
    members.sort();
    members.into_iter().map(|(_, member)| member).collect()
}

fn list(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}
