//! Marks that people, or the tracer, set while it was recorded.

use super::{Replay, shifted};
use crate::{
    checks::{check_texts, check_time},
    line::Mark,
};

/// Marks that are kept; of more there is only the number.
const MAX_MARKS: usize = 1024;

/// A mark, by the wall's clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Marked {
    /// In the replay's own time, which never goes back.
    pub at_ns: u64,
    /// Unix seconds.
    pub at: f64,
    pub text: String,
    /// The id of the user who set it.
    pub uid: u32,
    /// Whether the tracer noticed it by itself.
    pub seen: bool,
}

/// The marks up to now.
#[derive(Debug, Default)]
pub struct Marks {
    pub kept: Vec<Marked>,
    pub left_out: u64,
}

impl Replay {
    /// The marks up to now.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    pub(super) fn mark(&mut self, Mark { at_ns, text, uid, seen }: Mark) -> Result<(), String> {
        let at_ns = shifted(at_ns, self.shift_ns)?;
        check_time(at_ns)?;
        check_texts(&[&text])?;
        // A replay up to a mark has what came before it, and nothing else.
        self.now_ns = self.now_ns.max(at_ns);
        if self.marks.kept.len() >= MAX_MARKS {
            self.marks.left_out += 1;
            return Ok(());
        }
        let at = self.scene.clock().unix_seconds(at_ns);
        self.marks.kept.push(Marked { at_ns, at, text, uid, seen });
        Ok(())
    }
}
