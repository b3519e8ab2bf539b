//! The lines that are written in the middle of a second, so that a tracer that is killed loses
//! little more than half of one.

use super::Recorder;
use crate::thinning::Thinning;

impl Recorder {
    /// Writes the lines of the second so far, for the case that nothing follows. The tick
    /// writes them again in the same place, so a recording does not become longer by it.
    /// `now_ns` is how far they reach, in the kernel's monotonic time. Nothing is done if the
    /// sink takes no halves.
    pub fn half(&mut self, now_ns: u64) {
        if self.failure.is_some() || !self.sink.takes_halves() {
            return;
        }
        let whole = self.lines.len();
        let sums = self.thinning.as_ref().map(Thinning::sums_so_far).unwrap_or_default();
        sums.iter().for_each(|sum| self.put("syncs", sum));
        self.put("reached_ns", &now_ns);
        self.sink.put_half(&self.lines);
        self.lines.truncate(whole);
    }
}
