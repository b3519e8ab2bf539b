//! The engine's knowledge of its victims as a value, from which another run can go on.
//!
//! A flight recorder writes it at the start of each segment, so that a replay of that segment
//! alone knows what was usual before. It is what [`Engine::begin_period`] keeps: baselines,
//! usual waits, the disks' levels, the suspects with their evidence, the last seconds. The
//! sums of the window and of the period are not in it, nor are the syncs that have not ended.

use super::{
    Engine, FADE_EVERY, VICTIMS,
    save::{Digest, Save, Source},
    victim::{Victim, VictimKey},
};

/// Raised when a number in it means something else than before, though it is called the same.
const MEANING: u64 = 1;

/// No victim takes more, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// The knowledge of one victim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    pub key: VictimKey,
    /// Halves of the window since evidence was last halved.
    pub rotations: u64,
    /// It is read only by a build that would write the same fields.
    pub shape: u64,
    /// A checksum of `state`.
    pub check: u64,
    /// The fields of the victim.
    pub state: Vec<u8>,
}

/// Why a checkpoint is not used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// Another version of the tracer wrote it.
    Foreign,
    /// It is not what was written.
    Damaged,
    /// The victim is known already, or there are too many.
    Superfluous,
}

impl Engine {
    /// Gives what was learnt of the victims, in at most `bytes` of state: those that synced last
    /// come first. Also says how many victims had no room.
    pub fn checkpoints(&self, bytes: usize) -> (Vec<Checkpoint>, usize) {
        let mut latest: Vec<_> = self.victims.iter().enumerate().collect();
        latest.sort_by_key(|(_, victim)| std::cmp::Reverse(victim.last_ns));
        let (mut kept, mut left) = (Vec::new(), bytes);
        for (at, victim) in &latest {
            let checkpoint = self.checkpoint(victim);
            let length = checkpoint.state.len();
            if length <= left.min(MAX_BYTES) {
                left -= length;
                kept.push((*at, checkpoint));
            }
        }
        // In the order in which the engine met them.
        kept.sort_by_key(|(at, _)| *at);
        let left_out = latest.len() - kept.len();
        (kept.into_iter().map(|(_, checkpoint)| checkpoint).collect(), left_out)
    }

    fn checkpoint(&self, victim: &Victim) -> Checkpoint {
        let mut state = Vec::new();
        victim.put(&mut state);
        let (shape, check) = (shape(), check(&state));
        Checkpoint { key: victim.key, rotations: self.rotations % FADE_EVERY, shape, check, state }
    }

    /// Goes on with a victim from what was learnt of it before `now_ns`.
    ///
    /// # Errors
    ///
    /// When it cannot be used: then the engine is as it was.
    pub fn resume(&mut self, checkpoint: &Checkpoint, now_ns: u64) -> Result<(), Refused> {
        let Checkpoint { key, rotations, shape: written, check: expected, state } = checkpoint;
        if *written != shape() {
            return Err(Refused::Foreign);
        }
        if self.by_key.contains_key(key) || self.victims.len() >= VICTIMS {
            return Err(Refused::Superfluous);
        }
        let (mut source, mut victim) = (Source(state), Victim::new(self.next_id, *key));
        let is_whole = state.len() <= MAX_BYTES
            && check(state) == *expected
            && *rotations < FADE_EVERY
            && victim.read(&mut source).is_some()
            && source.0.is_empty()
            && victim.last_ns <= now_ns;
        if !is_whole {
            return Err(Refused::Damaged);
        }
        self.rotations = *rotations;
        self.now_ns = self.now_ns.max(victim.last_ns);
        self.next_id += 1;
        self.by_key.insert(*key, self.victims.len());
        self.victims.push(Box::new(victim));
        Ok(())
    }
}

/// The shape of what is written.
fn shape() -> u64 {
    let mut shape = Digest::NONE;
    shape.add(&MEANING.to_le_bytes());
    Victim::shape(&mut shape);
    shape.0
}

/// The checksum of a state.
pub fn check(state: &[u8]) -> u64 {
    let mut hash = Digest::NONE;
    hash.add(state);
    hash.0
}
