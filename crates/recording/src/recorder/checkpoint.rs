//! The engine's state at the start of a segment.

use tracer_scene::Scene;
use tracer_snapshot::labels::{FileId, FileNames};

use super::Recorder;
use crate::checkpoint::{Checkpoint, MAX_BYTES};

impl Recorder {
    /// Writes what the engine has learnt of the victims until now, between two seconds, and
    /// names their files. A replay that begins with this part goes on from there.
    pub fn checkpoint(&mut self, scene: &Scene, files: &mut dyn FileNames) {
        if self.failure.is_some() {
            return;
        }
        let (checkpoints, left_out) = scene.engine.checkpoints(MAX_BYTES);
        for one in &checkpoints {
            self.name_file(FileId(one.key.file), one.key.device, files);
            self.put("checkpoint", &Checkpoint::of(one));
        }
        if left_out > 0 {
            self.put("checkpoints_left_out", &left_out);
        }
        if !self.lines.is_empty() {
            self.flush();
        }
    }
}
