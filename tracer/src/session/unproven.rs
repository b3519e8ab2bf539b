//! Reasons why a tracer is unproven, and how it says so.

use std::path::PathBuf;

use tracer_kernel::capability::Capability;

/// Why it is not known whether the hooks fire.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unproven {
    /// The disk has not answered since then.
    Late { folder: PathBuf, disk: Option<String>, since_ns: u64 },
    /// No folder can be written to.
    NoFolder(String),
    /// The self-test was made on a filesystem where writes may not reach a disk.
    NotOnDisk(PathBuf),
    /// The process that makes the self-test could not be started.
    NotMade(String),
    /// The self-test was made, and this capability did not see it.
    Silent(Capability, String),
}

impl Unproven {
    /// All words for it, for labels.
    pub const WORDS: [&str; 5] =
        ["disk_late", "no_folder", "not_on_disk", "not_made", "hook_silent"];

    /// One word for it.
    pub fn word(&self) -> &'static str {
        let at = match self {
            Self::Late { .. } => 0,
            Self::NoFolder(_) => 1,
            Self::NotOnDisk(_) => 2,
            Self::NotMade(_) => 3,
            Self::Silent(..) => 4,
        };
        Self::WORDS[at]
    }

    /// A sentence without its full stop.
    pub fn sentence(&self, now_ns: u64) -> String {
        match self {
            Self::Late { folder, disk, since_ns } => {
                let disk = disk.as_ref().map_or(String::new(), |disk| format!("{disk}, "));
                let seconds = now_ns.saturating_sub(*since_ns) / 1_000_000_000;
                format!(
                    "the disk of the self-test ({disk}{}) has not answered for {seconds} s",
                    folder.display()
                )
            }
            Self::NoFolder(why) => {
                format!("the self-test found no folder to write to: {why}")
            }
            Self::NotOnDisk(folder) => format!(
                "the folder of the self-test ({}) may not be on a disk, and nobody else has \
                 synced yet",
                folder.display()
            ),
            Self::NotMade(why) => format!("the self-test could not be made ({why})"),
            Self::Silent(capability, why) => {
                format!("the hooks of `{capability}` are silent: {why}")
            }
        }
    }
}
