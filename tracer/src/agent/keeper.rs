//! The agent's directory: the disks' references are read at the start, and written
//! now and then, and at the end.
//!
//! A thread of its own reads and writes: the directory lies on a disk, perhaps on the
//! one that is traced, and the loop must not stop taking in records while that disk is
//! slow. Meanwhile no other write begins. Errors are logged and counted as dropped.

use std::{
    io,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracer_state::{
    Entry,
    folder::{self, Folder},
};

use super::{log, recall::recall};
use crate::session::Session;

/// The time between two writes.
const EVERY: Duration = Duration::from_secs(300);

/// How long the start waits for a disk that does not answer.
const FIRST: Duration = Duration::from_millis(500);

/// How long the end waits for it.
const LAST: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

/// The directory, and the thread that writes to it.
pub struct Keeper {
    path: PathBuf,
    /// `None` until it answers.
    folder: Option<Folder>,
    opener: Option<JoinHandle<io::Result<Opened>>>,
    written: Instant,
    writer: Option<JoinHandle<io::Result<usize>>>,
}

/// The directory, and the references in it or why they are not used.
type Opened = (Folder, Result<Vec<Entry>, String>);

impl Keeper {
    /// Makes the directory, and gives the session the references in it, at once if its
    /// disk answers at once. Where there can be no such directory, nothing is kept.
    pub fn begin(path: &Path, session: &mut Session) -> Self {
        let mut keeper = Self {
            path: path.to_owned(),
            folder: None,
            opener: None,
            written: Instant::now(),
            writer: None,
        };
        let path = path.to_owned();
        let open = move || Ok((Folder::create(&path)?, folder::read(&path)));
        match thread::Builder::new().name("keeper".to_owned()).spawn(open) {
            Ok(opener) => keeper.opener = Some(opener),
            Err(error) => keeper.keep_nothing(session, &error),
        }
        let until = Instant::now() + FIRST;
        while keeper.opener.is_some() && Instant::now() < until {
            thread::sleep(LOOK);
            keeper.look_after_opener(session);
        }
        if keeper.opener.is_some() {
            let name = keeper.path.display();
            log::warn(&format!("keeps no references until the disk of `{name}` answers"));
        }
        keeper
    }

    fn look_after_opener(&mut self, session: &mut Session) {
        let Some(opener) = self.opener.take_if(|opener| opener.is_finished()) else { return };
        match opener.join() {
            Ok(Ok((folder, entries))) => {
                self.folder = Some(folder);
                recall(&self.path, entries, session, log::say);
            }
            Ok(Err(error)) => self.keep_nothing(session, &error),
            Err(_) => self.keep_nothing(session, &io::Error::other("its reader panicked")),
        }
    }

    fn keep_nothing(&self, session: &mut Session, error: &io::Error) {
        let name = self.path.display();
        log::warn(&format!("keeps no references: `{name}` cannot be made or used ({error})"));
        session.count_refused_reference();
    }

    /// Begins to write if it is time.
    pub fn keep_if_due(&mut self, session: &mut Session, unix_seconds: u64) {
        self.look_after_opener(session);
        self.look_after_writer(session);
        session.take_notes().iter().for_each(|note| log::say(note));
        if self.written.elapsed() >= EVERY && self.writer.is_none() {
            self.keep(session, unix_seconds);
        }
    }

    fn keep(&mut self, session: &mut Session, unix_seconds: u64) {
        let Some(folder) = self.folder.clone() else { return };
        self.written = Instant::now();
        let entries = session.references(unix_seconds);
        let writer = thread::Builder::new().name("keeper".to_owned());
        match writer.spawn(move || folder.write(&entries)) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => self.fail(session, &error),
        }
    }

    fn look_after_writer(&mut self, session: &mut Session) {
        let Some(writer) = self.writer.take_if(|writer| writer.is_finished()) else { return };
        match writer.join() {
            Ok(Ok(0)) => {}
            Ok(Ok(left_out)) => {
                log::warn(&format!("has no room for the references of {left_out} disks"));
            }
            Ok(Err(error)) => self.fail(session, &error),
            Err(_) => self.fail(session, &io::Error::other("its writer panicked")),
        }
    }

    fn fail(&self, session: &mut Session, error: &io::Error) {
        let name = self.path.display();
        log::warn(&format!("failed to keep the disks' references in `{name}`: {error}"));
        session.count_refused_reference();
    }

    /// Writes for the last time, and waits for that at most `LAST`.
    pub fn end(mut self, session: &mut Session, unix_seconds: u64) {
        let until = Instant::now() + LAST;
        self.wait(session, until);
        if self.writer.is_none() {
            self.keep(session, unix_seconds);
            self.wait(session, until);
        }
        session.take_notes().iter().for_each(|note| log::say(note));
        if self.writer.is_some() {
            self.fail(session, &io::Error::from(io::ErrorKind::TimedOut));
        }
    }

    fn wait(&mut self, session: &mut Session, until: Instant) {
        loop {
            self.look_after_writer(session);
            if self.writer.is_none() || Instant::now() >= until {
                return;
            }
            thread::sleep(LOOK);
        }
    }
}
