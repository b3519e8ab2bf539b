//! The processes that hold up the journals of victims: their limits are looked at.

use tracer_kernel::maps::accounts::Holder;

/// One that held up commits for a smaller part of a second is not worth a look.
const LONG_NS: u64 = 50_000_000;

/// At most this number is looked at, those who were seen last.
const MOST: usize = 8;

/// A holder is looked at for this long, because a limit shows only by comparing two looks.
const KEPT_NS: u64 = 10_000_000_000;

/// Those who held up commits lately, each with the time at which that was seen.
#[derive(Debug, Default)]
pub struct Holders(Vec<(Holder, u64)>);

impl Holders {
    /// Takes in those of the last second.
    pub fn note(&mut self, holders: impl IntoIterator<Item = Holder>, now_ns: u64) {
        self.0.retain(|(_, seen_ns)| now_ns.saturating_sub(*seen_ns) < KEPT_NS);
        for holder in holders.into_iter().filter(|holder| holder.held_ns >= LONG_NS) {
            let key = |one: &Holder| (one.device, one.cgroup, one.tgid);
            self.0.retain(|(known, _)| key(known) != key(&holder));
            if self.0.len() >= MOST {
                self.0.remove(0);
            }
            self.0.push((holder, now_ns));
        }
    }

    /// Those who held up the journal of a filesystem.
    pub fn on(&self, device: u32) -> impl Iterator<Item = &Holder> {
        let known = self.0.iter().map(|(holder, _)| holder);
        known.filter(move |holder| holder.device == device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn holder(tgid: u32, held_ns: u64) -> Holder {
        Holder { device: 7, cgroup: 5, tgid, held_ns }
    }

    fn known(holders: &Holders) -> Vec<u32> {
        holders.on(7).map(|holder| holder.tgid).collect()
    }

    #[test]
    fn only_those_are_looked_at_who_held_up_commits_for_long_and_lately() {
        let mut holders = Holders::default();
        holders.note([holder(1, SECOND_NS / 10), holder(2, SECOND_NS / 100)], SECOND_NS);
        assert_eq!(known(&holders), [1]);
        assert_eq!(holders.on(8).count(), 0);
        holders.note([holder(3, SECOND_NS)], 10 * SECOND_NS);
        assert_eq!(known(&holders), [1, 3]);
        holders.note([], 11 * SECOND_NS);
        assert_eq!(known(&holders), [3]);
    }

    #[test]
    fn the_first_make_room() {
        let mut holders = Holders::default();
        holders.note((1..=8).map(|tgid| holder(tgid, SECOND_NS)), SECOND_NS);
        holders.note([holder(1, SECOND_NS), holder(9, SECOND_NS)], 2 * SECOND_NS);
        assert_eq!(known(&holders), [3, 4, 5, 6, 7, 8, 1, 9]);
    }
}
