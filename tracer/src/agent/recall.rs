//! Reading the references that an agent has kept, without waiting for their disk:
//! it may be the one that does not answer.

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use tracer_state::{
    Entry,
    folder::{self, read},
    format::{MAX_BYTES, decode, encode},
};

use crate::session::{Aside, Session};

/// How long they may take; a start takes about as long itself.
const PATIENCE: Duration = Duration::from_secs(1);

/// The byte before the references, and the one before a sentence on why they are not
/// used.
const READ: u8 = b'+';
const REFUSED: u8 = b'-';

/// A reading that is under way, in a process of its own.
pub struct Reading<'a> {
    path: &'a Path,
    aside: Option<Aside>,
    until: Instant,
}

impl<'a> Reading<'a> {
    pub fn begin(path: &'a Path) -> Self {
        let work = path.to_owned();
        let aside = Aside::start(move |_, mut answers| {
            let (kind, bytes) = match read(&work) {
                Ok(entries) => (READ, encode(&entries).0),
                Err(why) => (REFUSED, why.into_bytes()),
            };
            // The agent may have stopped waiting.
            let _ = answers.write_all(&[kind]).and_then(|()| answers.write_all(&bytes));
        });
        Self { path, aside: aside.ok(), until: Instant::now() + PATIENCE }
    }

    /// Gives a session what was read, and says what is wrong with it.
    pub fn end(self, session: &mut Session, say: impl Fn(&str)) {
        let left = self.until.saturating_duration_since(Instant::now());
        let read = self.aside.and_then(|mut aside| aside.whole(left, MAX_BYTES + 1));
        recall(self.path, read.map_or_else(|| Err(late()), parse), session, say);
    }
}

pub(super) fn late() -> String {
    "their disk does not answer".to_owned()
}

fn parse(answer: Vec<u8>) -> Result<Vec<Entry>, String> {
    match answer.split_first() {
        Some((&READ, bytes)) => decode(bytes).map_err(|refusal| refusal.to_string()),
        Some((_, why)) => Err(String::from_utf8_lossy(why).into_owned()),
        None => Err("they could not be read".to_owned()),
    }
}

/// Gives a session the references of a directory, or says why there are none.
pub(super) fn recall(
    path: &Path,
    entries: Result<Vec<Entry>, String>,
    session: &mut Session,
    say: impl Fn(&str),
) {
    let entries = entries.unwrap_or_else(|why| {
        let name = folder::file(path);
        say(&format!("the references in `{}` are not used: {why}", name.display()));
        session.count_refused_reference();
        Vec::new()
    });
    session.recall(entries);
    session.take_notes().iter().for_each(|note| say(note));
}
