//! Sync time by phase, as text and as a bar.

use super::units::{percent, share};
use tracer_snapshot::{Phase, Phases};

/// The phases that took any time: `cpu 3% runq 1% device 61% journal 20% other 15%`.
pub fn all(phases: &Phases) -> String {
    listed(phases, f64::MIN_POSITIVE)
}

/// The phases that took at least one per cent of the time.
pub fn major(phases: &Phases) -> String {
    listed(phases, 0.01)
}

fn listed(phases: &Phases, least: f64) -> String {
    let total = phases.total();
    let shares = phases.named().map(|(phase, seconds)| (phase, share(seconds, total)));
    let parts = shares.into_iter().filter(|(_, share)| *share >= least);
    let parts: Vec<_> =
        parts.map(|(phase, share)| format!("{} {}", phase.short(), percent(share))).collect();
    parts.join(" ")
}

/// How many cells of a bar each phase gets: all of them together, if any time
/// was spent at all. Ones too small for a cell get none.
pub fn cells(phases: &Phases, columns: usize) -> [usize; Phase::COUNT] {
    let total = phases.total();
    let exact = phases.named().map(|(_, seconds)| share(seconds, total) * columns as f64);
    let mut cells = exact.map(|cells| cells as usize);
    // The cells that rounding down left over go to the phases that it took the most from.
    let mut order: [usize; Phase::COUNT] = std::array::from_fn(|phase| phase);
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
    use tracer_snapshot::ByPhase;

    fn typical() -> Phases {
        Phases::from([
            (Phase::Cpu, 0.3),
            (Phase::Runqueue, 0.04),
            (Phase::Queue, 0.5),
            (Phase::Device, 6.1),
            (Phase::Journal, 2.0),
            (Phase::Other, 1.06),
        ])
    }

    #[test]
    fn phases_are_listed_in_their_order() {
        assert_eq!(all(&typical()), "cpu 3% runq <1% queue 5% device 61% journal 20% other 11%");
        assert_eq!(major(&typical()), "cpu 3% queue 5% device 61% journal 20% other 11%");
        assert_eq!(major(&Phases::default()), "");
    }

    #[test]
    fn a_bar_is_full_and_tiny_phases_have_no_cell() {
        let typical = cells(&typical(), 10);
        let of = |phase| typical[phase as usize];
        assert_eq!(
            (of(Phase::Queue), of(Phase::Device), of(Phase::Journal), of(Phase::Other)),
            (1, 6, 2, 1)
        );
        assert_eq!((of(Phase::Cpu), of(Phase::Runqueue)), (0, 0));
        assert_eq!(cells(&Phases::default(), 10), [0; Phase::COUNT]);
    }

    proptest! {
        #[test]
        fn a_bar_is_exactly_as_wide_as_asked(
            seconds in prop::collection::vec(0.0f64..10.0, Phase::COUNT), columns in 0usize..50,
        ) {
            let phases = ByPhase(seconds.try_into().unwrap());
            prop_assert_eq!(cells(&phases, columns).iter().sum::<usize>(), columns);
        }
    }
}
