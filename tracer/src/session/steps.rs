//! How far a start came, and whether another one may come further.

use std::{fs, path::Path};

use super::{Capabilities, Options};

/// The needs of a start, one after the other. The one that it ended at is why a node
/// cannot be traced, in one word.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StartStep {
    /// The rights of this process.
    #[default]
    Privileges,
    /// The kernel's types, and what they say of it.
    Kernel,
    /// Something to trace.
    Disks,
    /// The tables in the kernel.
    Tables,
    /// The hooks that there is no tracing without.
    Hooks,
}

impl StartStep {
    pub const ALL: [Self; 5] =
        [Self::Privileges, Self::Kernel, Self::Disks, Self::Tables, Self::Hooks];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Privileges => "privileges",
            Self::Kernel => "kernel",
            Self::Disks => "disks",
            Self::Tables => "tables",
            Self::Hooks => "hooks",
        }
    }
}

/// All that a start depends on and can be looked at cheaply: if it is another than
/// before, another start may come further.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conditions {
    rights: String,
    /// The kernel's types, its modules' and the disks.
    names: Vec<Vec<String>>,
}

impl Conditions {
    pub fn look(options: &Options) -> Self {
        let modules = options.btf.parent().unwrap_or(Path::new("/")).to_owned();
        let folders = [modules, options.root.join("sys/block")];
        Self {
            rights: Capabilities::read().to_string(),
            names: folders.iter().map(|folder| list(folder)).collect(),
        }
    }
}

/// Names in a folder of the kernel's.
fn list(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.take(MAX_NAMES).collect();
    names.sort();
    names
}

const MAX_NAMES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_or_types_that_come_are_worth_another_start() {
        let node = tempfile::tempdir().unwrap();
        let root = node.path().to_owned();
        let options =
            Options { btf: root.join("btf/vmlinux"), root: root.clone(), ..Options::default() };
        let mut last = Conditions::look(&options);
        assert_eq!(Conditions::look(&options), last);
        for folder in ["sys/block", "sys/block/sda", "btf", "btf/vmlinux", "btf/xfs"] {
            let has_names = !matches!(folder, "sys/block" | "btf");
            fs::create_dir_all(root.join(folder)).unwrap();
            let now = Conditions::look(&options);
            assert_eq!(now != last, has_names, "{folder}");
            last = now;
        }
    }

    #[test]
    fn a_step_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = StartStep::ALL.map(StartStep::name).into();
        assert_eq!(names.len(), StartStep::ALL.len());
    }
}
