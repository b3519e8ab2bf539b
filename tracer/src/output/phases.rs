//! Where sync time went, as text and as a bar.
//!
//! Each phase has a letter of its own, so that a bar can be read without
//! colour.

use super::units::{percent, share};
use tracer_snapshot::{PHASES, Phases};

/// How one phase is shown.
pub struct Look {
    /// Its name where room is short.
    pub short: &'static str,
    /// Its letter in a bar.
    pub letter: char,
}

/// The looks of the phases, in the order of [`Phases::named`].
pub const LOOKS: [Look; PHASES] = [
    Look { short: "cpu", letter: 'c' },
    Look { short: "runq", letter: 'r' },
    Look { short: "queue", letter: 'q' },
    Look { short: "device", letter: 'D' },
    Look { short: "throttle", letter: 'T' },
    // For memory: `r` is taken, and a bar must be read without colour.
    Look { short: "reclaim", letter: 'M' },
    Look { short: "journal", letter: 'J' },
    Look { short: "other", letter: 'o' },
];

/// All that took any time: `cpu 3% runq 1% device 61% journal 20% other 15%`.
pub fn all(phases: &Phases) -> String {
    listed(phases, f64::MIN_POSITIVE)
}

/// Those that took at least one per cent.
pub fn major(phases: &Phases) -> String {
    listed(phases, 0.01)
}

fn listed(phases: &Phases, least: f64) -> String {
    let total = phases.total();
    let shares = phases.named().map(|(_, seconds)| share(seconds, total));
    let parts = LOOKS.iter().zip(shares).filter(|(_, share)| *share >= least);
    let parts: Vec<_> =
        parts.map(|(look, share)| format!("{} {}", look.short, percent(share))).collect();
    parts.join(" ")
}

/// How many cells of a bar each phase gets: all of them together, if any time
/// was spent at all. Ones too small for a cell get none.
pub fn cells(phases: &Phases, columns: usize) -> [usize; PHASES] {
    let total = phases.total();
    let exact = phases.named().map(|(_, seconds)| share(seconds, total) * columns as f64);
    let mut cells = exact.map(|cells| cells as usize);
    // What rounding down left over goes to those it took the most from.
    let mut order: [usize; PHASES] = std::array::from_fn(|phase| phase);
    order.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    let left = columns.saturating_sub(cells.iter().sum());
    for phase in order.into_iter().filter(|&phase| exact[phase] > 0.0).take(left) {
        cells[phase] += 1;
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TYPICAL: Phases = Phases {
        cpu: 0.3,
        runqueue: 0.04,
        queue: 0.5,
        device: 6.1,
        throttle: 0.0,
        reclaim: 0.0,
        journal: 2.0,
        other: 1.06,
    };

    #[test]
    fn phases_are_listed_in_their_order() {
        assert_eq!(all(&TYPICAL), "cpu 3% runq <1% queue 5% device 61% journal 20% other 11%");
        assert_eq!(major(&TYPICAL), "cpu 3% queue 5% device 61% journal 20% other 11%");
        assert_eq!(major(&Phases::default()), "");
    }

    #[test]
    fn a_bar_is_full_and_tiny_phases_have_no_cell() {
        assert_eq!(cells(&TYPICAL, 10), [0, 0, 1, 6, 0, 0, 2, 1]);
        assert_eq!(cells(&Phases::default(), 10), [0; PHASES]);
    }

    #[test]
    fn letters_differ() {
        let letters: std::collections::BTreeSet<_> = LOOKS.iter().map(|l| l.letter).collect();
        assert_eq!(letters.len(), LOOKS.len());
    }

    proptest! {
        #[test]
        fn a_bar_is_exactly_as_wide_as_asked(
            seconds in prop::array::uniform8(0.0f64..10.0), columns in 0usize..50,
        ) {
            let [cpu, runqueue, queue, device, throttle, reclaim, journal, other] = seconds;
            let phases =
                Phases { cpu, runqueue, queue, device, throttle, reclaim, journal, other };
            prop_assert_eq!(cells(&phases, columns).iter().sum::<usize>(), columns);
        }
    }
}
