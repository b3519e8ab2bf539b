//! The actors that a victim remembers, and the worst of them.

use tracer_ebpf::record::op;

use super::Victim;
use crate::{
    blame::{ActorId, OwnerId},
    suspect::{ENOUGH, Suspect},
};

/// Actors that one victim remembers; beyond that, the one that matters least is removed.
/// Until the victim has synced often enough to compare any, fewer are kept.
pub(super) const SUSPECTS: usize = 48;
const FIRST_SUSPECTS: usize = 16;

impl Victim {
    /// Blames an actor for what the ticks show and no single sync does.
    pub fn blame_around(
        &mut self,
        actor: ActorId,
        owner: OwnerId,
        charge: u32,
        amount: f64,
        until_ns: u64,
    ) {
        let suspect = self.suspect(actor, owner);
        suspect.charge(charge as usize, amount);
        suspect.seconds |= 1;
        suspect.around_until_ns = until_ns;
    }

    pub(crate) fn suspect(&mut self, actor: ActorId, owner: OwnerId) -> &mut Suspect {
        let room = if self.syncs_total < ENOUGH { FIRST_SUSPECTS } else { SUSPECTS };
        let at = match self.suspects.iter().position(|s| s.actor == actor) {
            Some(at) => at,
            None if self.suspects.len() < room => {
                self.suspects.push(Suspect::new(actor, owner));
                self.suspects.len() - 1
            }
            None => {
                let least = self.least_suspect();
                self.suspects[least] = Suspect::new(actor, owner);
                if self.worst == Some(least as u32) {
                    self.worst = None;
                }
                least
            }
        };
        let suspect = &mut self.suspects[at];
        suspect.owner = owner;
        suspect
    }

    /// Removes the suspect for an actor.
    pub(crate) fn take_suspect(&mut self, actor: &ActorId) -> Option<Suspect> {
        let at = self.suspects.iter().position(|suspect| suspect.actor == *actor)?;
        let last = self.suspects.len() - 1;
        self.worst = match self.worst {
            Some(worst) if worst as usize == at => None,
            Some(worst) if worst as usize == last => Some(at as u32),
            worst => worst,
        };
        Some(self.suspects.swap_remove(at))
    }

    pub(super) fn worst(&self) -> Option<&Suspect> {
        self.suspects.get(self.worst? as usize)
    }

    /// Chooses the suspect with the most blame; if it is another one, the strata begin again.
    pub(super) fn choose_worst(&mut self) {
        let weight = |suspect: &Suspect| {
            let known = suspect.now[..op::COUNT].iter().chain(&suspect.before[..op::COUNT]);
            known.chain(&suspect.fresh).sum::<f32>()
        };
        let weights = self.suspects.iter().map(weight).enumerate();
        let Some((at, worst)) = weights.max_by(|(_, a), (_, b)| a.total_cmp(b)) else { return };
        let current = self.worst().map_or(0.0, weight);
        if self.worst == Some(at as u32) || worst <= 1.5 * current {
            return;
        }
        self.worst = Some(at as u32);
        let [all, disturbed] = &mut self.syncs;
        all.add(disturbed);
        disturbed.clear();
        self.suspects.iter_mut().for_each(Suspect::merge_strata);
    }
}
