//! The phases of a sync: the list of them.
//!
//! Whatever differs from phase to phase in how it is called, explained and drawn
//! is here; what a sync spent in each, [`crate::phases`] works out. The text
//! above each phase is also its help in outputs and documents.

use std::{
    iter::Sum,
    ops::{Index, IndexMut},
};

use serde::{Serialize, Serializer};

/// A colour of the 16 that every terminal has, by number, and the same for a
/// page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Colour {
    pub ansi: u8,
    pub hex: &'static str,
}

macro_rules! phases {
    ($($(#[doc = $help:literal])+
        $phase:ident: $name:literal, short $short:literal, letter $letter:literal,
            colour $ansi:literal $hex:literal;)+) => {
        /// A part of the duration of a sync.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Phase {
            $($(#[doc = $help])+ $phase,)+
        }

        impl Phase {
            /// In the order in which they are shown.
            pub const ALL: [Self; [$($name,)+].len()] = [$(Self::$phase,)+];

            /// Its name in every output.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$phase => $name,)+
                }
            }

            /// Its name where there is little room.
            pub const fn short(self) -> &'static str {
                match self {
                    $(Self::$phase => $short,)+
                }
            }

            /// Its letter in a bar, which can be read without colours.
            pub const fn letter(self) -> char {
                match self {
                    $(Self::$phase => $letter,)+
                }
            }

            pub const fn colour(self) -> Colour {
                match self {
                    $(Self::$phase => Colour { ansi: $ansi, hex: $hex },)+
                }
            }

            /// Says what the sync, or something that it waited for, did in it.
            pub const fn help(self) -> &'static str {
                match self {
                    $(Self::$phase => concat!($($help),+).trim_ascii(),)+
                }
            }
        }
    };
}

phases! {
    /// It ran on a CPU.
    Cpu: "cpu", short "cpu", letter 'c', colour 2 "#2e9d7d";
    /// It could run, but another task did.
    Runqueue: "runqueue", short "runq", letter 'r', colour 3 "#edae49";
    /// Its requests, or those of the journal's commit, waited to be issued.
    Queue: "queue", short "queue", letter 'q', colour 4 "#3d7ea6";
    /// Its requests, or those of the journal's commit, were at the device.
    Device: "device", short "device", letter 'D', colour 5 "#8e4c93";
    /// It waited for a request: tags, writeback throttling, iocost.
    Throttle: "throttle", short "throttle", letter 'T', colour 9 "#d1495b";
    /// It reclaimed memory, or read back what had been evicted.
    Reclaim: "reclaim", short "reclaim", letter 'M', colour 11 "#c9b458";
    /// The filesystem's journal was committing, without requests in flight.
    Journal: "journal", short "journal", letter 'J', colour 6 "#4fb3bf";
    /// It waited for a lock, or for what the tracer does not see.
    Other: "other", short "other", letter 'o', colour 7 "#9aa0a6";
}

impl Phase {
    pub const COUNT: usize = Self::ALL.len();
}

/// One value for each phase.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ByPhase<T>(pub [T; Phase::COUNT]);

impl<T: Copy> ByPhase<T> {
    /// The phases in their order, each with its value.
    pub fn named(&self) -> [(Phase, T); Phase::COUNT] {
        Phase::ALL.map(|phase| (phase, self[phase]))
    }
}

impl<T: Copy + Sum> ByPhase<T> {
    /// All phases together.
    pub fn total(&self) -> T {
        self.0.iter().copied().sum()
    }
}

/// An object with a field for each phase, in their order.
impl<T: Copy + Serialize> Serialize for ByPhase<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.named().map(|(phase, value)| (phase.name(), value)))
    }
}

impl<T> Index<Phase> for ByPhase<T> {
    type Output = T;

    fn index(&self, phase: Phase) -> &T {
        &self.0[phase as usize]
    }
}

impl<T> IndexMut<Phase> for ByPhase<T> {
    fn index_mut(&mut self, phase: Phase) -> &mut T {
        &mut self.0[phase as usize]
    }
}

/// All others are zero.
impl<T: Copy + Default, const N: usize> From<[(Phase, T); N]> for ByPhase<T> {
    fn from(values: [(Phase, T); N]) -> Self {
        let mut by_phase = Self::default();
        for (phase, value) in values {
            by_phase[phase] = value;
        }
        by_phase
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn phases_can_be_told_apart_by_any_of_their_marks() {
        let names: BTreeSet<_> = Phase::ALL.iter().map(|phase| phase.name()).collect();
        let letters: BTreeSet<_> = Phase::ALL.iter().map(|phase| phase.letter()).collect();
        let terminal: BTreeSet<_> = Phase::ALL.iter().map(|phase| phase.colour().ansi).collect();
        let page: BTreeSet<_> = Phase::ALL.iter().map(|phase| phase.colour().hex).collect();
        for marks in [names.len(), letters.len(), terminal.len(), page.len()] {
            assert_eq!(marks, Phase::COUNT);
        }
    }
}
