//! The attributes of a disk's queue in sysfs, which may not answer.
//!
//! The kernel reads most of them under the queue's lock. Whoever changes the scheduler of
//! a disk that hangs holds that lock until the disk answers, and all who read an attribute
//! wait with him. So each is read by an errand, which is waited for a moment. A disk that
//! does not answer is not asked again until it has.

use std::{cell::RefCell, fs, io, path::Path, time::Duration};

use crate::{
    errand::Errands,
    tree::{Tree, number},
};

/// How long a disk's answer is waited for, once for each time that the disk hangs. An
/// answer takes some 10 µs, and longer while all CPUs are busy.
const PATIENCE: Duration = Duration::from_millis(500);

/// The hardware queues of a disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Hardware {
    pub queues: u32,
    /// Tags of one of them; `None` where sysfs does not say.
    pub tags: Option<u32>,
}

/// Reads the queues of one node's disks.
#[derive(Debug)]
pub struct Queues {
    tree: Tree,
    errands: RefCell<Errands>,
}

impl Queues {
    /// The queues of the node whose `/sys` lies below `root`.
    pub fn new(root: &Path) -> Self {
        Self { tree: Tree::new(root), errands: RefCell::new(Errands::waiting_for(PATIENCE)) }
    }

    /// Answers that did not come in time so far.
    pub fn late(&self) -> u64 {
        self.errands.borrow().late()
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Has something read of a disk; `None` where it does not answer.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        disk: &str,
        read: impl FnOnce(&Tree, &str) -> T + Send + 'static,
    ) -> Option<T> {
        let (tree, name) = (self.tree.clone(), disk.to_owned());
        self.errands.borrow_mut().run_for(disk, move || read(&tree, &name))
    }

    /// The first lines of attributes of a disk's queue; `None` where the disk does not answer.
    pub(super) fn lines<const N: usize>(
        &self,
        disk: &str,
        attributes: [&'static str; N],
    ) -> Option<[Option<String>; N]> {
        self.ask(disk, move |tree, disk| {
            let path = |attribute| format!("sys/block/{disk}/queue/{attribute}");
            attributes.map(|attribute| tree.read_line(path(attribute)))
        })
    }

    /// Reads the hardware queues of a disk; none where it has no requests of its own.
    pub(super) fn hardware(&self, disk: &str) -> io::Result<Hardware> {
        let queues: Vec<_> = match fs::read_dir(self.tree.at(format!("sys/block/{disk}/mq"))) {
            Ok(queues) => {
                queues.flatten().filter(|q| q.path().is_dir()).map(|q| q.path()).collect()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let count = u32::try_from(queues.len()).unwrap_or(u32::MAX);
        if queues.is_empty() {
            return Ok(Hardware::default());
        }
        let tags = |queue: &Path| -> Option<u32> {
            number(fs::read(queue.join("nr_tags")).ok()?.trim_ascii())
        };
        let tags = self.ask(disk, move |_, _| queues.iter().filter_map(|q| tags(q)).max());
        Ok(Hardware { queues: count, tags: tags.flatten() })
    }
}
