//! Flush debt: what others wrote into a disk's write cache, and a victim's flush drains.
//!
//! The writes have ended when the flush comes, so that nobody is in flight beside it. In
//! the victim's good seconds it is learnt how long its syncs wait beyond their baseline for each
//! byte that others write: next to nothing on a quick disk, and the time to write out a byte on
//! one with a cache that fills and drains. In other seconds as much is owed for each byte that is
//! written then, and no more. Pure; knows no clock.

use tracer_ebpf::record::op;

use super::{blame::Division, demand::Slot, save::saved, suspect::Suspect, victim::Victim};

/// A victim's disks' debts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Debt {
    /// Per second, while the victim was well: the wait beyond its baseline, and the bytes
    /// that others wrote.
    ns: f32,
    bytes: f32,
    seconds: u32,
    /// Bytes that others wrote in the second before.
    before: f32,
}

/// Good seconds in memory.
const MEMORY: u32 = 300;

saved!(Debt { ns, bytes, seconds, before } if |it| it.seconds <= MEMORY);

impl Debt {
    /// The victim was well in a second.
    pub fn learn(&mut self, excess_ns: f64, written: f64) {
        self.seconds = (self.seconds + 1).min(MEMORY);
        let weight = 1.0 / self.seconds as f32;
        self.ns += (excess_ns as f32 - self.ns) * weight;
        self.bytes += (written as f32 - self.bytes) * weight;
    }

    /// The bytes that others wrote in this second or the one before it, as a multiple of what they wrote while
    /// the victim was well; 1 if they wrote nothing then.
    pub fn times(&self, written: f64) -> f64 {
        let written = written.max(self.before.into());
        if self.bytes > 0.0 { written / f64::from(self.bytes) } else { 1.0 }
    }

    /// The wait that is owed for what others wrote in this second or the one before it.
    pub fn pass(&mut self, written: f64) -> f64 {
        let before = std::mem::replace(&mut self.before, written as f32);
        if self.bytes <= 0.0 {
            return 0.0;
        }
        f64::from(self.ns / self.bytes) * written.max(f64::from(before))
    }
}

impl Victim {
    /// Gives those who wrote more what is owed to that, beyond the `kept_ns` that were blamed on
    /// them, out of what is the device's or nobody's; says how much. A device that is not
    /// well is slow by itself, and the `stalled_ns` that stalls added are longer than what was
    /// written explains.
    pub(super) fn owe(
        &mut self,
        slot: &Slot,
        kept_ns: f64,
        parts: &mut Division,
        is_well: bool,
        stalled_ns: f64,
    ) -> f64 {
        let own = self.actor();
        let debt_ns = self.debt.pass(slot.written_by_others(&own));
        let wrote = |suspect: &Suspect| {
            let writes = slot.of(&suspect.actor).is_some_and(|asked| asked.writes);
            let is_other = suspect.actor != own && (writes || suspect.has_written());
            if is_other { suspect.lived.more() } else { 0.0 }
        };
        let each: Vec<_> = self.suspects.iter().map(wrote).collect();
        let all: f64 = each.iter().sum();
        let stalled_ns = stalled_ns.min(parts.device_ns);
        let left_ns = parts.device_ns - stalled_ns + parts.unexplained_ns;
        if !is_well || all <= 0.0 || left_ns <= 0.0 {
            return 0.0;
        }
        let owed_ns = (debt_ns - kept_ns).clamp(0.0, left_ns);
        let keep = 1.0 - owed_ns / left_ns;
        parts.device_ns = stalled_ns + (parts.device_ns - stalled_ns) * keep;
        parts.unexplained_ns *= keep;
        for (suspect, wrote) in self.suspects.iter_mut().zip(each) {
            suspect.charge(op::WRITE as usize, owed_ns * wrote / all);
        }
        owed_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: f64 = 1e6;
    const MS: f64 = 1e6;

    #[test]
    fn a_debt_is_in_proportion_to_what_is_written() {
        let mut debt = Debt::default();
        (0..60).for_each(|_| debt.learn(200.0 * MS, 5.0 * MB));
        let ms = |ns: f64| (ns / MS).round();
        assert_eq!(ms(debt.pass(10.0 * MB)), 400.0);
        // A flush may drain what was written in the second before.
        assert_eq!(ms(debt.pass(0.0)), 400.0);
        assert_eq!(ms(debt.pass(0.0)), 0.0);
    }

    #[test]
    fn what_is_written_is_compared_with_the_good_seconds() {
        let mut debt = Debt::default();
        assert_eq!(debt.times(5.0 * MB), 1.0);
        (0..60).for_each(|_| debt.learn(200.0 * MS, 4.0 * MB));
        assert_eq!((debt.times(10.0 * MB), debt.times(0.0)), (2.5, 0.0));
        debt.pass(6.0 * MB);
        assert_eq!((debt.times(10.0 * MB), debt.times(0.0)), (2.5, 1.5));
    }

    #[test]
    fn without_waits_or_writes_in_good_seconds_there_is_none() {
        let mut debt = Debt::default();
        assert_eq!(debt.pass(10.0 * MB), 0.0);
        (0..60).for_each(|_| debt.learn(0.0, 5.0 * MB));
        assert_eq!(debt.pass(10.0 * MB), 0.0);
        debt = Debt::default();
        (0..60).for_each(|_| debt.learn(200.0 * MS, 0.0));
        assert_eq!(debt.pass(10.0 * MB), 0.0);
    }
}
