//! A replay that begins with a segment goes on from what was learnt before it.

use tracer_engine::checkpoint::Refused;

use super::Replay;
use crate::checkpoint::Checkpoint;

/// The checkpoints of a replay.
#[derive(Debug, Default)]
pub struct Checkpoints {
    /// Something else came before: from then on the engine knows better.
    is_over: bool,
    /// Victims that could not be gone on with, because another version wrote them, because
    /// they are damaged, and because the recorder had no room for them.
    foreign: usize,
    damaged: usize,
    left_out: usize,
}

impl Checkpoints {
    /// The replay takes in what happened.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    pub fn leave_out(&mut self, count: usize) {
        if !self.is_over {
            self.left_out = count;
        }
    }

    /// A sentence, if what is usual for some victim is not known from before.
    pub fn sentence(&self) -> Option<String> {
        let Self { foreign, damaged, left_out, .. } = *self;
        let why = match (foreign, damaged, left_out) {
            (0, 0, 0) => return None,
            (0, 0, _) => "the recorder had no room for it",
            (0, ..) => "it is damaged",
            _ => "another version of the tracer wrote it",
        };
        let count = foreign.saturating_add(damaged).saturating_add(left_out);
        let victims = if count == 1 { "one victim" } else { &format!("{count} victims") };
        Some(format!(
            "what was learnt of {victims} before the recording begins is not used, because {why}: \
             it is learnt again"
        ))
    }
}

impl Replay {
    pub(super) fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        if self.checkpoints.is_over {
            return;
        }
        let file = self.names.file(checkpoint.file);
        let resumed = match checkpoint.to_engine(file.0) {
            Some(one) => self.scene.engine.resume(&one, self.now_ns),
            None => Err(Refused::Damaged),
        };
        match resumed {
            Ok(()) => {}
            Err(Refused::Foreign) => self.checkpoints.foreign += 1,
            Err(Refused::Damaged | Refused::Superfluous) => self.checkpoints.damaged += 1,
        }
    }

    /// A sentence, if what the recorder had learnt before the replay begins was not used.
    pub fn forgotten(&self) -> Option<String> {
        self.checkpoints.sentence()
    }
}
