//! The process that makes the self-test's syncs, beside ours, and reports what it does.
//!
//! It tries one folder after another until one can be written. It reports each step
//! before it makes it, so that the session can name the disk that does not answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tracer_kernel::selftest::{self, Ground, Performed};

use super::aside::Aside;

/// The place where it is to sync a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Where {
    Disk = b'd' as isize,
    /// In memory no disk has anything to do with it.
    Memory = b'm' as isize,
}

/// All that it may say.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Said {
    /// The id of the process, as it is in the records of its syncs.
    Am {
        tid: u32,
    },
    /// It begins with this folder; the disk is known once the folder was examined.
    At {
        folder: PathBuf,
        disk: Option<String>,
    },
    Performed {
        ground: Ground,
        performed: Performed,
    },
    /// No folder could be written to: each with its reason.
    NoFolder {
        why: String,
    },
}

/// The process, as its parent sees it.
#[derive(Debug)]
pub struct Prover(Aside);

impl Prover {
    /// `proc` is the one whose ids records bear.
    ///
    /// # Errors
    ///
    /// When there can be no further process.
    pub fn start(proc: PathBuf) -> Result<Self> {
        Ok(Self(Aside::start(move |orders, answers| serve(&proc, orders, answers))?))
    }

    /// # Errors
    ///
    /// When it is gone.
    pub fn order(&mut self, place: Where) -> io::Result<()> {
        self.0.order(place as u8)
    }

    /// The next that it says, if that comes in time.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn said(&mut self, within: Duration) -> io::Result<Option<Said>> {
        let Some(line) = self.0.line(within)? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&line)?))
    }
}

/// The work of the process, until nobody is there to order anything.
fn serve(proc: &Path, mut orders: PipeReader, mut answers: PipeWriter) {
    let mut say = |said: &Said| {
        let mut line = serde_json::to_vec(said)?;
        line.push(b'\n');
        answers.write_all(&line)
    };
    let mut last = None;
    // Without an id there performing fails, and says why.
    if selftest::find_tid(proc).is_ok_and(|tid| say(&Said::Am { tid }).is_err()) {
        return;
    }
    let mut order = [0];
    while orders.read(&mut order).is_ok_and(|count| count > 0) {
        let said = if order[0] == Where::Memory as u8 {
            say(&match selftest::perform_in_memory(proc) {
                Ok(performed) => Said::Performed { ground: Ground::memory(), performed },
                Err(error) => Said::NoFolder { why: format!("memory: {}", reason(&error)) },
            })
        } else {
            let candidates = selftest::FOLDERS.map(PathBuf::from);
            prove(&candidates, proc, &mut last, &mut say)
        };
        if said.is_err() {
            return;
        }
    }
}

/// Syncs a file in the folder that served last, or the first that can be written:
/// on a filesystem that a disk carries, else on an overlay, as a container's own
/// root is.
fn prove(
    candidates: &[PathBuf],
    proc: &Path,
    last: &mut Option<PathBuf>,
    say: &mut impl FnMut(&Said) -> io::Result<()>,
) -> io::Result<()> {
    let mut why = Reasons::new();
    let mut overlays = Vec::new();
    for folder in last.iter().chain(candidates) {
        say(&Said::At { folder: folder.clone(), disk: None })?;
        match Ground::find(folder) {
            Err(error) => note(&mut why, folder, reason(&error)),
            Ok(None) => note(&mut why, folder, "on no disk".to_owned()),
            Ok(Some(ground)) if !ground.on_disk => overlays.push(ground),
            Ok(Some(ground)) => {
                if try_on(ground, proc, &mut why, say)? {
                    *last = Some(folder.clone());
                    return Ok(());
                }
            }
        }
    }
    for ground in overlays {
        if try_on(ground, proc, &mut why, say)? {
            return Ok(());
        }
    }
    let why = why.into_iter().map(|(why, folders)| {
        let folders: Vec<_> = folders.iter().map(|folder| folder.to_string_lossy()).collect();
        format!("{why} ({})", folders.join(", "))
    });
    let why: Vec<_> = why.collect();
    say(&Said::NoFolder { why: why.join("; ") })
}

/// The folders that cannot be used, by the reason.
type Reasons = BTreeMap<String, BTreeSet<PathBuf>>;

fn note(reasons: &mut Reasons, folder: &Path, why: String) {
    reasons.entry(why).or_default().insert(folder.to_owned());
}

/// An error in the kernel's words, without its number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn try_on(
    ground: Ground,
    proc: &Path,
    why: &mut Reasons,
    say: &mut impl FnMut(&Said) -> io::Result<()>,
) -> io::Result<bool> {
    say(&Said::At { folder: ground.folder.clone(), disk: ground.disk.clone() })?;
    match selftest::perform(&ground, proc) {
        Ok(performed) => {
            say(&Said::Performed { ground, performed })?;
            Ok(true)
        }
        Err(error) => {
            note(why, &ground.folder, reason(&error));
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_cannot_be_written_are_passed_over_with_their_reasons() {
        let mut said = Vec::new();
        let mut last = None;
        let candidates = ["/proc", "/nowhere", "/sys"].map(PathBuf::from);
        prove(&candidates, Path::new("/proc"), &mut last, &mut |what| {
            said.push(what.clone());
            Ok(())
        })
        .unwrap();
        assert_eq!(said.len(), 4, "{said:?}");
        assert_eq!(said[0], Said::At { folder: "/proc".into(), disk: None });
        let why = "No such file or directory (/nowhere); on no disk (/proc, /sys)".to_owned();
        assert_eq!(said[3], Said::NoFolder { why });
        assert_eq!(last, None);
    }

    #[test]
    fn a_prover_says_where_it_is_before_it_is_done() {
        let mut prover = Prover::start(PathBuf::from("/proc")).unwrap();
        prover.order(Where::Disk).unwrap();
        let within = Duration::from_secs(60);
        let Said::Am { tid } = prover.said(within).unwrap().unwrap() else { panic!("who?") };
        assert_ne!(tid, std::process::id());
        let first = prover.said(within).unwrap().unwrap();
        assert_eq!(first, Said::At { folder: "/var/lib".into(), disk: None });
        loop {
            match prover.said(within).unwrap().unwrap() {
                Said::At { .. } | Said::Am { .. } => {}
                Said::Performed { performed, .. } => {
                    assert_eq!(performed.tid, tid);
                    break;
                }
                // Whoever runs this may write to no folder on a disk.
                Said::NoFolder { why } => {
                    assert!(why.contains("/tmp"), "{why}");
                    break;
                }
            }
        }
    }
}
