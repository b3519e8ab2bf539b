//! The attach strategy that was selected for each capability, and how others fared.
//!
//! The strategies are in the capabilities' folders below [`hooks`](crate::hooks);
//! `load` selects one for each, and here are the words for each outcome.

use std::fmt;

use serde::Serialize;

use crate::{capability::Capability, program::Program};

/// The outcome of one strategy.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "reason")]
pub enum Outcome {
    /// It attached, and the self-test saw it fire.
    Selected,
    /// It attached; the self-test could not be made, for this reason.
    Untested(String),
    /// One before it was selected.
    NotNeeded,
    /// This kernel does not have the hook.
    Unsupported(String),
    /// The kernel refused the program or the attachment.
    Refused(String),
    /// It attached, but did not see the tracer's own operation.
    Silent(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Selected => write!(f, "selected"),
            Self::Untested(why) => write!(f, "selected, but not tested: {why}"),
            Self::NotNeeded => write!(f, "not needed"),
            Self::Unsupported(what) => write!(f, "unsupported: {what}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Silent(why) => write!(f, "silent: {why}"),
        }
    }
}

/// The strategy that was selected for a capability, and what became of each.
#[derive(Clone, Debug, Serialize)]
pub struct Selection {
    pub capability: Capability,
    pub purpose: &'static str,
    pub required: bool,
    pub without: &'static str,
    pub strategies: Vec<(&'static str, Outcome)>,
    /// Programs of the selected strategy, optional ones only where they are attached.
    pub attached: Vec<Program>,
    /// For the selected strategy: the modules that its hooks lie in, and those
    /// that are missing without making it fail.
    pub notes: Vec<String>,
}

impl Selection {
    /// A selection that has no program attached yet; `outcome` says what became of the
    /// strategy with this name.
    pub fn new(capability: Capability, outcome: impl Fn(&str) -> Outcome) -> Self {
        let strategies = capability.strategies().iter();
        Self {
            capability,
            purpose: capability.purpose(),
            required: capability.is_required(),
            without: capability.without(),
            strategies: strategies.map(|s| (s.name, outcome(s.name))).collect(),
            attached: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The strategy that provides the capability.
    pub fn selected(&self) -> Option<&'static str> {
        self.strategies
            .iter()
            .find(|(_, o)| matches!(o, Outcome::Selected | Outcome::Untested(_)))
            .map(|(name, _)| *name)
    }
}

/// A strategy that the user asked for, as `--strategy sync=tracepoint`: it is tried
/// first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Forced {
    pub capability: Capability,
    /// Its name.
    pub strategy: &'static str,
}

impl std::str::FromStr for Forced {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (capability, strategy) =
            text.split_once('=').ok_or("expected CAPABILITY=STRATEGY, such as sync=tracepoint")?;
        let Some(capability) = Capability::find(capability) else {
            let names = Capability::ALL.map(Capability::name);
            return Err(format!("no such capability; the capabilities are {}", names.join(", ")));
        };
        let names: Vec<_> = capability.strategies().iter().map(|strategy| strategy.name).collect();
        let Some(strategy) = names.iter().find(|name| **name == strategy) else {
            return Err(format!("`{capability}` has the strategies {}", names.join(", ")));
        };
        Ok(Self { capability, strategy })
    }
}
