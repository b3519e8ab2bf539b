//! Filesystems that are frozen, or were: the kernel programs' table of freezes, once a second.

use anyhow::Result;
use tracer_ebpf::record::{FROZEN, Frozen};
use tracer_engine::tick::Freeze;

use super::{accounts::Accounts, tables::Mapped};
use crate::load::Programs;

const PLACES: usize = FROZEN as usize;
const WORDS: usize = size_of::<Frozen>() / 8;

/// The table, and the ends of freezes that were read.
pub struct Freezes {
    table: Mapped,
    ended: [u64; PLACES],
}

impl Freezes {
    /// Takes the programs' table over.
    ///
    /// # Errors
    ///
    /// When it was taken before or cannot be mapped.
    pub fn new(programs: &mut Programs) -> Result<Self> {
        let table = Mapped::new(programs.take_map("FROZEN")?, PLACES * WORDS)?;
        Ok(Self { table, ended: [0; PLACES] })
    }

    /// Reads the freezes that last, and once those that ended since the last reading. Who waits is
    /// left empty.
    pub fn read(&mut self, accounts: &mut Accounts) -> Vec<Freeze> {
        let Self { table, ended } = self;
        let read = |at| std::array::from_fn(|word| table.read(at * WORDS + word));
        let new = (0..PLACES).filter_map(|at| find_new(|| read(at), &mut ended[at]));
        let freezes = new.map(|frozen| Freeze {
            device: frozen.device,
            owner: accounts.intern(frozen.key),
            since_ns: frozen.since_ns,
            until_ns: frozen.until_ns,
            waiting: Vec::new(),
        });
        freezes.collect()
    }
}

/// The freeze of one place, if it lasts or its end is new.
fn find_new(read: impl Fn() -> [u64; WORDS], ended_ns: &mut u64) -> Option<Frozen> {
    let words = read();
    let frozen: Frozen = zerocopy::transmute!(words);
    // A freeze that begins just now is read a second later.
    if frozen.since_ns == 0 || words != read() {
        return None;
    }
    let is_new = frozen.until_ns == 0 || frozen.until_ns != *ended_ns;
    *ended_ns = frozen.until_ns;
    is_new.then_some(frozen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freeze_is_read_while_it_lasts_and_once_when_it_is_over() {
        let mut ended_ns = 0;
        let mut look = |since_ns, until_ns| {
            let frozen = Frozen { since_ns, until_ns, device: 7 << 20, ..Frozen::default() };
            let found = find_new(|| zerocopy::transmute!(frozen), &mut ended_ns);
            found.map(|found| (found.device, found.since_ns, found.until_ns))
        };
        assert_eq!(look(0, 0), None);
        assert_eq!(look(100, 0), Some((7 << 20, 100, 0)));
        assert_eq!(look(100, 0), Some((7 << 20, 100, 0)));
        assert_eq!(look(100, 130), Some((7 << 20, 100, 130)));
        assert_eq!(look(100, 130), None);
        assert_eq!(look(140, 150), Some((7 << 20, 140, 150)));
        assert_eq!(look(160, 0), Some((7 << 20, 160, 0)));
    }
}
