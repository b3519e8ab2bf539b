//! Times of which a recording knows nothing, and why.

use crate::line::Began;

/// Ticks that come no later than this after the one before are nothing to speak of.
pub const SILENCE_SECONDS: f64 = 5.0;

/// Breaks that are kept; of more there is only the number.
const MAX_BREAKS: usize = 4096;

/// A place at which one part of a recording does not go on where the one before ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Break {
    /// The place in the replay's own time, which never goes back: that of its end.
    pub at_ns: u64,
    /// Unix seconds.
    pub from: f64,
    pub to: f64,
    pub why: Why,
}

/// Why nothing is known of some time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Why {
    /// The tracer was stopped, and started later.
    Stopped,
    /// The tracer ended without an end of its recording: it was killed.
    Killed,
    /// The machine was started again.
    Rebooted,
    /// The disk of the recording was too slow.
    Slow,
    /// The filesystem of the recording had too little space left.
    Full,
    /// The recording could not be written.
    Failed,
    /// A part between the two is not there.
    Missing,
    /// There is something, and it cannot be read: a sentence.
    Damaged(String),
    /// The tracer did not come round: it got no CPU, or was stopped.
    Silent,
    /// The wall's clock was set, or the machine was suspended.
    Clock,
}

impl Why {
    /// `None` where nothing is missing between two parts.
    pub(crate) fn of(
        began: Option<Began>,
        is_same_boot: bool,
        has_ended: bool,
        damage: Option<String>,
        seconds: f64,
    ) -> Option<Self> {
        if let Some(damage) = damage {
            return Some(Self::Damaged(damage));
        }
        let is_short = seconds.abs() <= SILENCE_SECONDS;
        match began {
            Some(Began::Start) if !is_same_boot => Some(Self::Rebooted),
            Some(Began::Start) if has_ended => Some(Self::Stopped),
            Some(Began::Start) => Some(Self::Killed),
            Some(Began::Slow) => Some(Self::Slow),
            Some(Began::Full) => Some(Self::Full),
            Some(Began::Failure) => Some(Self::Failed),
            Some(Began::Rotation | Began::Unknown) | None if is_short => None,
            Some(Began::Rotation | Began::Unknown) | None => Some(Self::Missing),
        }
    }

    /// One word for it, in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::Rebooted => "rebooted",
            Self::Slow => "slow",
            Self::Full => "full",
            Self::Failed => "failed",
            Self::Missing => "missing",
            Self::Damaged(_) => "damaged",
            Self::Silent => "silent",
            Self::Clock => "clock",
        }
    }

    /// The reason in words; of a file's damage, whatever that is.
    pub fn sentence(&self) -> String {
        match self {
            Self::Stopped => "the tracer was stopped and started again".to_owned(),
            Self::Killed => "the tracer was killed, and started again".to_owned(),
            Self::Rebooted => "the machine was started again".to_owned(),
            Self::Slow => "the disk of the recording was too slow".to_owned(),
            Self::Full => "the filesystem of the recording had too little left".to_owned(),
            Self::Failed => "the recording could not be written".to_owned(),
            Self::Missing => "a part of the recording is not there".to_owned(),
            Self::Damaged(why) => format!("a part of the recording cannot be read: {why}"),
            Self::Silent => {
                "the tracer did not come round: it got no CPU, or was stopped".to_owned()
            }
            Self::Clock => "the clock was set, or the machine was suspended".to_owned(),
        }
    }

    /// Whether the tracer itself began again.
    pub fn is_restart(&self) -> bool {
        matches!(self, Self::Stopped | Self::Killed | Self::Rebooted)
    }
}

/// The breaks of a recording, as far as they are kept.
#[derive(Debug, Default)]
pub(crate) struct Breaks {
    kept: Vec<Break>,
}

impl Breaks {
    /// If there are more than there is room for, the last one reaches to the end of them all.
    pub fn add(&mut self, one: Break) {
        let is_full = self.kept.len() >= MAX_BREAKS;
        match self.kept.last_mut().filter(|_| is_full) {
            Some(last) => last.to = last.to.max(one.to),
            None => self.kept.push(one),
        }
    }

    pub fn kept(&self) -> &[Break] {
        &self.kept
    }

    /// Leaves out those before this place.
    pub fn forget_before(&mut self, at_ns: u64) {
        self.kept.retain(|one| one.at_ns >= at_ns);
    }
}
