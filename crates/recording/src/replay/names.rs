//! The files and devices that a recording has named.

use std::num::NonZeroUsize;

use lru::LruCache;
use tracer_snapshot::labels::{FileId, FileLabel, FileNames, Labels};

/// Names of files and devices remembered: more than the writer trusts in.
const FILES: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// How the recording calls files and devices.
pub struct Names {
    labels: Labels,
    /// Ours by the recording's.
    pub files: LruCache<u32, FileId>,
    pub devices: LruCache<u32, String>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            labels: Labels::default(),
            files: LruCache::new(FILES),
            devices: LruCache::new(FILES),
        }
    }
}

impl Names {
    pub fn learn_file(
        &mut self,
        id: u32,
        class: tracer_snapshot::FileClass,
        path: String,
        device: u32,
    ) {
        let label = FileLabel { class, path, pattern: "recorded", device };
        self.files.put(id, self.labels.intern(label));
    }

    /// The file of an id; one that was forgotten, or was never named, is unknown.
    pub fn file(&mut self, id: u32) -> FileId {
        let file = self.files.get(&id).copied().unwrap_or_default();
        self.labels.touch(file);
        file
    }
}

impl FileNames for Names {
    fn label(&self, file: FileId) -> &FileLabel {
        self.labels.get(file)
    }

    fn device_name(&mut self, device: u32) -> &str {
        self.devices.get(&device).map_or("?", String::as_str)
    }
}
