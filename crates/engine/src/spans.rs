//! Sums of what happened to a victim outside its syncs, by the spans that verdicts are made of.

use super::victim::Span;

/// Lengths in ns: in the younger half of the window, in the older one, and in the period before
/// them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    now_ns: f64,
    before_ns: f64,
    past_ns: f64,
}

impl Sums {
    pub(super) fn add(&mut self, ns: f64) {
        self.now_ns += ns;
    }

    pub(super) fn of(&self, span: Span) -> f64 {
        let past_ns = if span == Span::Period { self.past_ns } else { 0.0 };
        self.now_ns + self.before_ns + past_ns
    }

    /// Forgets the older half of the window.
    pub(super) fn rotate(&mut self) {
        self.past_ns += self.before_ns;
        self.before_ns = std::mem::take(&mut self.now_ns);
    }
}
