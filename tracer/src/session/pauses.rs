//! Writers near the limit on dirty pages, on the filesystems of victims.

use std::collections::BTreeSet;

use tracer_engine::tick::Pause;
use tracer_kernel::maps::pauses::Written;
use tracer_node::{dirty, tree::Tree};

use super::Session;

/// A limit below this part of the machine's is that of a cgroup.
const MACHINES: f64 = 0.9;

impl Session {
    /// Reads who wrote since the last tick, once for each filesystem on that backing device on
    /// which somebody syncs.
    pub(super) fn read_pauses(&mut self) -> Vec<Pause> {
        let mut written = self.pauses.read(&mut self.accounts);
        if written.iter().any(|one| one.threshold > 0)
            && let Some(machines) = dirty::threshold(&Tree::new(&self.root))
        {
            written.iter_mut().for_each(|one| find_own_limit(one, machines));
        }
        let victims = self.scene.engine.victims().iter();
        let known = victims.filter(|victim| victim.backing() > 0);
        let places: BTreeSet<_> =
            known.map(|victim| (victim.backing(), victim.key.device)).collect();
        let of = |one: &Written| {
            let pause = one.pause;
            let on_it = (one.backing, 0)..=(one.backing, u32::MAX);
            let devices = places.range(on_it).map(|(_, device)| *device);
            devices.map(move |device| Pause { device, ..pause }).collect::<Vec<_>>()
        };
        written.iter().flat_map(of).collect()
    }
}

/// Older kernels say which limit a writer met, and not whose limit that is.
fn find_own_limit(one: &mut Written, machines: u64) {
    if one.threshold > 0 && f64::from(one.threshold) < MACHINES * machines as f64 {
        one.pause.limit_ns = one.pause.ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_lower_than_the_machines_is_that_of_a_cgroup() {
        let at = |threshold| {
            let pause = Pause { ns: 70, ..Pause::default() };
            let mut one = Written { backing: 3, threshold, pause };
            find_own_limit(&mut one, 1000);
            one.pause.limit_ns
        };
        // The machine's own limit moves with the memory that is free.
        assert_eq!((at(0), at(899), at(900), at(1003)), (0, 70, 0, 0));
    }
}
