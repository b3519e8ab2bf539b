//! Labels of files: shown in outputs, and used as keys of victims.
//!
//! Equal labels share one id, so that a log's segments, of which new ones
//! appear all the time, are one thing. An id is never used for another label. If there
//! are more labels than fit, the one used longest ago is evicted.

use std::{collections::HashMap, num::NonZeroUsize};

use lru::LruCache;

use crate::{Actor, FileClass};

/// Labels remembered, at about 300 bytes each. Programs that sync new files
/// all the time (package managers, image pulls) use them up.
const MAX_LABELS: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Finds the actor behind a process, as far as the node knows it.
pub trait Identify {
    /// `comm` and `cgroup_id` are the kernel's, `tgid` is the process that acted
    /// last, or 0 where none is known.
    fn actor(
        &mut self,
        comm: &str,
        tgid: u32,
        cgroup_id: u64,
        kernel_thread: bool,
        now_ns: u64,
    ) -> Actor;
}

/// How files and devices are called.
pub trait FileNames {
    fn label(&self, file: FileId) -> &FileLabel;
    fn device_name(&mut self, device: u32) -> &str;
}

/// A file, or all files of one class in one place.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FileId(pub u32);

/// The label of a file.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct FileLabel {
    pub class: FileClass,
    /// The file, the directory of a class of files, or a mount point; empty
    /// where unknown.
    pub path: String,
    /// The layout that determined its class: `etcd wal`, or just `file`.
    pub pattern: &'static str,
    /// The filesystem's device as the kernel numbers it.
    pub device: u32,
}

#[derive(Debug)]
pub struct Labels {
    by_id: LruCache<FileId, FileLabel>,
    ids: HashMap<FileLabel, FileId>,
    /// Stands for labels that were forgotten.
    unknown: FileLabel,
    last: u32,
    evicted: u64,
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            by_id: LruCache::new(MAX_LABELS),
            ids: HashMap::new(),
            unknown: FileLabel::unknown(0),
            last: 0,
            evicted: 0,
        }
    }
}

impl Labels {
    pub fn get(&self, id: FileId) -> &FileLabel {
        self.by_id.peek(&id).unwrap_or(&self.unknown)
    }

    /// Marks a label as used; false if it is forgotten.
    pub fn touch(&mut self, id: FileId) -> bool {
        self.by_id.get(&id).is_some()
    }

    /// The id of a label, a new one if there is none yet.
    pub fn intern(&mut self, label: FileLabel) -> FileId {
        if let Some(&id) = self.ids.get(&label) {
            self.touch(id);
            return id;
        }
        if self.by_id.len() == MAX_LABELS.get()
            && let Some((_, forgotten)) = self.by_id.pop_lru()
        {
            self.ids.remove(&forgotten);
            self.evicted += 1;
        }
        // 0 is left to the default id; 2^32 new files take a thousand years.
        self.last = self.last.wrapping_add(1);
        let id = FileId(self.last);
        self.ids.insert(label.clone(), id);
        self.by_id.push(id, label);
        id
    }

    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

impl FileLabel {
    pub fn unknown(device: u32) -> Self {
        Self { class: FileClass::Unknown, path: String::new(), pattern: "unknown", device }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(n: u32) -> FileLabel {
        FileLabel { path: format!("/f{n}"), ..FileLabel::unknown(1) }
    }

    #[test]
    fn the_label_used_longest_ago_is_forgotten_and_its_id_with_it() {
        let mut labels = Labels::default();
        let (first, second) = (labels.intern(label(0)), labels.intern(label(1)));
        assert_ne!(first, FileId::default());
        for n in 2..4096 {
            labels.intern(label(n));
        }
        assert!(labels.touch(first));
        labels.intern(label(4096));
        assert_eq!(labels.evicted(), 1);
        assert_eq!(labels.get(first), &label(0));
        assert_eq!(labels.get(second).class, FileClass::Unknown);
        assert_ne!(labels.intern(label(1)), second);
    }
}
