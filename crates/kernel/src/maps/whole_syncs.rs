//! Whole filesystems that somebody has written: the kernel programs' table, once a second.

use anyhow::Result;
use tracer_ebpf::record::{WHOLE_SYNCS, WholeSync, step};

use super::tables::Mapped;
use crate::load::Programs;

const PLACES: usize = WHOLE_SYNCS as usize;
const WORDS: usize = size_of::<WholeSync>() / 8;

/// The table, and what of it was read.
pub struct WholeSyncs {
    table: Mapped,
    seen: [Seen; PLACES],
}

/// The last sync that was read at a place, and when it ended or was seen to last.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    since_ns: u64,
    until_ns: u64,
    is_over: bool,
}

impl WholeSyncs {
    /// Takes the programs' table over.
    ///
    /// # Errors
    ///
    /// When it was taken before or cannot be mapped.
    pub fn new(programs: &mut Programs) -> Result<Self> {
        let table = Mapped::new(programs.take_map("WHOLE_SYNCS")?, PLACES * WORDS)?;
        Ok(Self { table, seen: [Seen::default(); PLACES] })
    }

    /// Reads those that last, and once those that ended since the last reading, each with its end
    /// so far. `waits` says whether a thread waits in the kernel; it is asked only where the
    /// kernel programs have not seen the end.
    pub fn read(&mut self, now: u64, waits: impl Fn(u32) -> bool) -> Vec<(WholeSync, u64)> {
        let Self { table, seen } = self;
        let read = |at| std::array::from_fn(|word| table.read(at * WORDS + word));
        let new = (0..PLACES).filter_map(|at| find_new(|| read(at), &mut seen[at], now, &waits));
        new.collect()
    }
}

/// The sync of one place with its end so far, if that is not known yet.
fn find_new(
    read: impl Fn() -> [u64; WORDS],
    seen: &mut Seen,
    now: u64,
    waits: impl Fn(u32) -> bool,
) -> Option<(WholeSync, u64)> {
    let words = read();
    let sync: WholeSync = zerocopy::transmute!(words);
    // One that begins just now is read a second later.
    if sync.since_ns == 0 || words != read() {
        return None;
    }
    if sync.since_ns != seen.since_ns {
        *seen = Seen { since_ns: sync.since_ns, ..Seen::default() };
    }
    if seen.is_over {
        return None;
    }
    let is_over = sync.steps & step::OVER != 0;
    seen.is_over = is_over || !waits(sync.shown_tid);
    seen.until_ns = match (is_over, seen.is_over) {
        (true, _) => sync.seen_ns,
        (false, true) => seen.until_ns.max(sync.seen_ns),
        (false, false) => now,
    };
    Some((sync, seen.until_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of a sync at `since` whose last step was seen at `seen`, if it is new at `now`.
    fn look(place: &mut Seen, since: u64, seen: u64, steps: u32, waits: bool) -> Option<u64> {
        let sync = WholeSync { since_ns: since, seen_ns: seen, steps, ..WholeSync::default() };
        find_new(|| zerocopy::transmute!(sync), place, seen + 400, |_| waits).map(|found| found.1)
    }

    #[test]
    fn one_is_read_while_it_lasts_and_once_when_it_is_over() {
        let mut place = Seen::default();
        assert_eq!(look(&mut place, 0, 0, 0, true), None);
        assert_eq!(look(&mut place, 100, 100, 0, true), Some(500));
        assert_eq!(look(&mut place, 100, 700, step::SYNCED, true), Some(1100));
        let over = step::SYNCED | step::OVER;
        assert_eq!(look(&mut place, 100, 900, over, true), Some(900));
        assert_eq!(look(&mut place, 100, 900, over, true), None);
        assert_eq!(look(&mut place, 2000, 2300, over, false), Some(2300), "a whole one in between");
    }

    /// A filesystem without a hook on the last step: its thread was seen to wait at 1,100.
    #[test]
    fn one_without_a_last_step_ends_when_its_thread_was_last_seen_to_wait() {
        let mut place = Seen::default();
        assert_eq!(look(&mut place, 100, 300, 0, true), Some(700));
        assert_eq!(look(&mut place, 100, 700, step::WAITS, true), Some(1100));
        assert_eq!(look(&mut place, 100, 700, step::WAITS, false), Some(1100));
        assert_eq!(look(&mut place, 100, 700, step::WAITS, true), None, "it waits for another one");
    }
}
