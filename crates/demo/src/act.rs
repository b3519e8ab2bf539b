//! The acts of the demo.

use serde::Serialize;

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    Quiet,
    Trim,
    Rest,
    Tenant,
}

impl Act {
    pub fn title(self) -> &'static str {
        match self {
            Self::Quiet => "quiet: etcd alone on its disk",
            Self::Trim => "an fstrim of much freed space",
            Self::Rest => "quiet again",
            Self::Tenant => "a tenant that writes",
        }
    }
}
