//! A replay of a time that occurs twice in its recording, because the wall's clock was set back.

use super::{Played, Replay, marks::Marks};
use crate::segments::set_back::SetBack;

/// The time between two looks at where the clock was set.
const LOOK_NS: u64 = 1_000_000_000;

impl Replay {
    /// Plays until the wall's clock was set back at this place; false if it never was. Marks
    /// and breaks from before it are forgotten, since times of day do not distinguish them
    /// from those after it.
    pub fn play_past(&mut self, place: SetBack) -> bool {
        let mut seen = 0;
        loop {
            let soon_ns = self.now_ns.saturating_add(LOOK_NS);
            let played = self.play(soon_ns, None, &mut Vec::new());
            let breaks = self.breaks.kept();
            if let Some(one) = breaks.iter().skip(seen).find(|one| place.is(one)) {
                let at_ns = one.at_ns;
                self.breaks.forget_before(at_ns);
                self.marks.kept.retain(|mark| mark.at_ns >= at_ns);
                return true;
            }
            if played == Played::Whole {
                return false;
            }
            seen = breaks.len();
            self.marks = Marks::default();
        }
    }
}
