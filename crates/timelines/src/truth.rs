//! The truth about a play, and whether a verdict agrees with it.
//!
//! The truth is the Shapley value of both changes over the victim's mean sync: each of
//! the four combinations is played by the same generators, from the same good minute on. No
//! verdict is asked.

use std::mem;

use serde::{Deserialize, Serialize};
use tracer_disk_model::Model;

use crate::{
    cell::{Cell, Play},
    timeline::{BEGIN_NS, Happened, SECOND, Stream, Timeline, phase},
};

/// The truth about a timeline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// Mean syncs in ms: as before, device changed, neighbour changed, both.
    pub means: [f64; 4],
    pub p99s: [f64; 4],
    /// The means and p99s in each half minute if nothing changes.
    pub calm: [[f64; 2]; 3],
}

/// Means within this factor are the same.
const SAME: f64 = 1.15;

/// A change is judged after this number of seconds, if nothing else is said.
pub const HALF: u64 = 30;

impl Truth {
    pub fn of(play: &Play) -> Self {
        Self::of_first(play, HALF)
    }

    /// The truth about the first seconds after the change.
    pub fn of_first(play: &Play, seconds: u64) -> Self {
        let mut calm = Calm::new(play, seconds);
        let mut timeline = Timeline::new(play.seed);
        timeline.begin(phase(calm.length(), play.disks[0], play.streams[0].as_slice()));
        while !calm.has_ended() {
            let happened = timeline.step();
            calm.see(&timeline, happened.as_ref());
        }
        calm.truth()
    }

    /// The part of the device in the excess.
    pub fn device(&self) -> f64 {
        let [neither, device, load, both] = self.means;
        let part = (device - neither + both - load) / 2.0 / (both - neither);
        part.clamp(0.0, 1.0)
    }

    /// The parts of the device and of the neighbour, if the victim becomes slow;
    /// an error if it is neither slow nor as quick as before.
    pub fn parts(&self) -> Result<Option<(f64, f64)>, Unclear> {
        let device = self.device();
        let is_slow = self.is_slow().ok_or(Unclear)?;
        Ok(is_slow.then_some((device, 1.0 - device)))
    }

    /// Whether the syncs are as long because of either change, and one of the changes alone
    /// makes them longer than both do together: it is held back by the other one.
    ///
    /// A limit on the device may keep a neighbour from filling its cache. Then the neighbour makes
    /// nothing longer that the device does not, and the device saves the victim from worse: without
    /// either change the syncs would be no shorter. The Shapley value of the one is negative there,
    /// and that of the other exceeds the excess, because of waits that did not happen. So neither
    /// value is a part of the wait that did happen.
    pub fn is_held_back(&self) -> bool {
        let [_, device, load, both] = self.means;
        let holds_back = |one: f64, other: f64| other > SAME * both && SAME * one >= both;
        holds_back(device, load) || holds_back(load, device)
    }

    /// Whether nothing happens in this number of half minutes unless something is changed.
    pub fn is_calm(&self, halves: usize) -> bool {
        let within = |at: usize, times: f64| {
            let calm = self.calm[..halves].iter().map(|half| half[at]);
            let [least, most] = [calm.clone().fold(f64::MAX, f64::min), calm.fold(0.0, f64::max)];
            most <= times * least
        };
        within(0, 1.15) && within(1, 1.5)
    }

    /// Whether it is clearly slower, clearly not, or neither.
    pub fn is_slow(&self) -> Option<bool> {
        let [neither, _, load, both] = self.means;
        let tail = self.p99s[3] / self.p99s[0];
        if self.is_held_back() && both >= 2.0 * neither {
            // Neither of them has a part of its own.
            return None;
        }
        if !self.is_calm(3) || load < 0.8 * neither && both > 1.15 * load && both < 2.0 * neither {
            // The neighbours leave as the device gets slower.
            return None;
        }
        if both >= 2.0 * neither {
            Some(true)
        } else if both <= 1.15 * neither && tail < 2.0 {
            Some(false)
        } else {
            None
        }
    }
}

/// A timeline before its change, as the truth needs it. Somebody else plays that, and shows each
/// step: a verdict needs the same time, and so it is played once for both.
pub struct Calm<'a> {
    play: &'a Play,
    /// The lengths of its parts; in the last one, the change could have been.
    seconds: [u64; 3],
    ended: usize,
    end_ns: u64,
    /// The durations of syncs in the part that has not ended.
    syncs_ns: Vec<u64>,
    means_and_p99s: [[f64; 2]; 3],
    /// The timeline at the time of the change.
    fork: Option<Timeline>,
}

impl<'a> Calm<'a> {
    /// For the truth about this number of seconds after the change.
    pub fn new(play: &'a Play, seconds: u64) -> Self {
        Self {
            play,
            seconds: [29, 29, seconds],
            ended: 0,
            end_ns: BEGIN_NS + 29 * SECOND,
            syncs_ns: Vec::new(),
            means_and_p99s: Default::default(),
            fork: None,
        }
    }

    /// The seconds for which a timeline must be shown.
    fn length(&self) -> u64 {
        self.seconds.iter().sum()
    }

    fn has_ended(&self) -> bool {
        self.ended == self.seconds.len()
    }

    /// Sees the timeline after a step, and what happened in that.
    pub fn see(&mut self, timeline: &Timeline, happened: Option<&Happened>) {
        if self.has_ended() {
            return;
        }
        if let Some(Happened::Sync(sync)) = happened {
            self.syncs_ns.push(sync.duration_ns);
        }
        if timeline.now_ns() < self.end_ns {
            return;
        }
        self.means_and_p99s[self.ended] = mean_and_p99(mem::take(&mut self.syncs_ns));
        self.ended += 1;
        if let Some(seconds) = self.seconds.get(self.ended) {
            self.end_ns = timeline.now_ns() + seconds * SECOND;
        }
        if self.ended == 2 {
            self.fork = Some(timeline.clone());
        }
    }

    /// The truth, once the timeline was shown for long enough: plays it from the change on.
    pub fn truth(self) -> Truth {
        assert!(self.has_ended(), "it was shown {} of {} parts", self.ended, self.seconds.len());
        let Some(fork) = self.fork else { unreachable!("the change is before the last part") };
        let [disk, changed_disk] = self.play.disks;
        let [stream, changed_stream] = self.play.streams;
        let of = |disk: Model, stream: Option<Stream>| {
            let phase = phase(self.seconds[2], disk, stream.as_slice());
            mean_and_p99(fork.clone().play(phase))
        };
        let neither = self.means_and_p99s[2];
        // Nothing needs to be played again on the same disk beside the same neighbours.
        let (is_same_disk, is_same_stream) = (changed_disk == disk, changed_stream == stream);
        let device = if is_same_disk { neither } else { of(changed_disk, stream) };
        let load = if is_same_stream { neither } else { of(disk, changed_stream) };
        let both = match (is_same_disk, is_same_stream) {
            (_, true) => device,
            (true, false) => load,
            (false, false) => of(changed_disk, changed_stream),
        };
        let all = [neither, device, load, both];
        Truth {
            means: all.map(|[mean, _]| mean),
            p99s: all.map(|[_, p99]| p99),
            calm: self.means_and_p99s,
        }
    }
}

/// The mean and the p99 of syncs, in ms.
fn mean_and_p99(mut durations_ns: Vec<u64>) -> [f64; 2] {
    durations_ns.sort_unstable();
    let length = durations_ns.len();
    let mean = durations_ns.iter().sum::<u64>() as f64 / length.max(1) as f64;
    let p99 = durations_ns.get(length * 99 / 100).copied().unwrap_or(0);
    [mean / 1e6, p99 as f64 / 1e6]
}

/// Neither slow nor not.
#[derive(Clone, Copy, Debug)]
pub struct Unclear;

#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Answer {
    Right,
    /// Nothing is said for sure, or the shares are not known well enough.
    Unsure,
    Wrong,
}

/// The main cause, as a verdict has it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Cause {
    /// Nothing is slower than usual.
    Nobody,
    Device,
    /// Others on this node.
    Owners,
    /// The victim itself.
    Own,
    Undecided,
    /// It is slow, and nothing is said of why.
    Unknown,
    /// A cause that no timeline has.
    Other,
}

/// A verdict on a play.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Said {
    pub cause: Cause,
    /// The device's part of the excess.
    pub device: f64,
    /// The part for which the neighbour is named.
    pub neighbour: f64,
    pub is_high: bool,
}

impl Said {
    /// Compares it with the parts of the device and of the neighbour, if it became
    /// slow; its mean sync took so long.
    pub fn answer(&self, truth: Option<(f64, f64)>, mean_ms: f64, is_undecidable: bool) -> Answer {
        let Some((device, load)) = truth else {
            return match self.cause {
                Cause::Nobody => Answer::Right,
                Cause::Unknown => Answer::Unsure,
                // Slow as ever is not for sure anybody's doing.
                _ if mean_ms > 10.0 && !self.is_high => Answer::Right,
                _ => Answer::Wrong,
            };
        };
        let is_near = (self.device - device).abs() <= 0.15 && (self.neighbour - load).abs() <= 0.15;
        match self.cause {
            Cause::Device if device >= 0.7 => Answer::Right,
            Cause::Owners if load >= 0.7 && self.neighbour > 0.0 => Answer::Right,
            Cause::Owners | Cause::Own | Cause::Device if is_near => Answer::Right,
            Cause::Undecided if is_undecidable || device > 0.3 && load > 0.3 => Answer::Right,
            Cause::Undecided | Cause::Unknown => Answer::Unsure,
            Cause::Device | Cause::Owners if device > 0.3 && load > 0.3 => Answer::Unsure,
            _ => Answer::Wrong,
        }
    }
}

/// A cell that was played on a real disk, and what became of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Played {
    pub cell: Cell,
    /// The parts of the device and of the neighbour, if it became slow.
    pub truth: Option<(f64, f64)>,
    /// The victim's mean sync before the change and after it, by its own account.
    pub means_ms: [f64; 2],
    pub said: Said,
    pub answer: Answer,
    /// An innocent was named for more than 5 % with high confidence.
    pub has_accused: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(means: [f64; 4]) -> Truth {
        Truth { means, p99s: means, calm: [[means[0]; 2]; 3] }
    }

    /// In the first two cases, undoing one change leaves the syncs as long as they are, or makes them
    /// 607 ms long, so neither change has a part. In the other cases the parts are known.
    #[test]
    fn who_is_held_back_by_the_other_change_has_no_part() {
        for (means, is_held_back) in [
            ([1.3, 8.9, 607.0, 8.9], true),
            ([1.3, 607.0, 8.9, 8.9], true),
            // The neighbour adds to what the device does alone.
            ([1.3, 3.0, 607.0, 8.9], false),
            ([1.3, 8.9, 607.0, 700.0], false),
            // It leaves, which is a relief.
            ([1.3, 90.0, 1.0, 40.0], false),
            // Either change would do, and both do no less.
            ([1.3, 8.9, 8.9, 8.9], false),
        ] {
            let truth = truth(means);
            assert_eq!(truth.is_held_back(), is_held_back, "{means:?}");
            assert_eq!(truth.is_slow().is_none(), is_held_back, "{means:?}");
        }
        assert_eq!(truth([1.3, 1.3, 607.0, 1.3]).is_slow(), Some(false));
    }
}
