//! The agent's directory: the disks' references are read at the start, and written
//! now and then, and at the end.
//!
//! A thread of its own writes: the directory lies on a disk, perhaps on the one that
//! is traced, and whoever waits for that takes no records in. While it waits, no
//! other writing begins. What goes wrong is said, and counted with what is dropped.

use std::{
    io,
    path::Path,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracer_state::{
    Entry,
    folder::{self, Folder},
};

use super::log;
use crate::session::Session;

/// Between two writings.
const EVERY: Duration = Duration::from_secs(300);

/// How long the end waits for a disk that does not answer.
const LAST: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

/// The directory, and the thread that writes to it.
pub struct Keeper {
    folder: Folder,
    written: Instant,
    writer: Option<JoinHandle<io::Result<usize>>>,
}

impl Keeper {
    /// Makes the directory, and gives the session the references in it; `None` if there
    /// can be no such directory: then nothing is kept.
    pub fn begin(path: &Path, session: &mut Session) -> Option<Self> {
        let folder = match Folder::create(path) {
            Ok(folder) => folder,
            Err(error) => {
                let name = path.display();
                log::say(&format!("keeps nothing: `{name}` cannot be made or used ({error})"));
                session.count_refused_reference();
                return None;
            }
        };
        recall(path, session, log::say);
        Some(Self { folder, written: Instant::now(), writer: None })
    }

    /// Begins to write where it is time.
    pub fn keep_if_due(&mut self, session: &mut Session, unix_seconds: u64) {
        self.look_after_writer(session);
        session.take_notes().iter().for_each(|note| log::say(note));
        if self.written.elapsed() >= EVERY && self.writer.is_none() {
            self.keep(session, unix_seconds);
        }
    }

    fn keep(&mut self, session: &mut Session, unix_seconds: u64) {
        self.written = Instant::now();
        let entries = session.references(unix_seconds);
        let folder = self.folder.clone();
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
                log::say(&format!("has no room for the references of {left_out} disks"));
            }
            Ok(Err(error)) => self.fail(session, &error),
            Err(_) => self.fail(session, &io::Error::other("its writer panicked")),
        }
    }

    fn fail(&self, session: &mut Session, error: &io::Error) {
        let name = self.folder.path().display();
        log::say(&format!("failed to keep the disks' references in `{name}`: {error}"));
        session.count_refused_reference();
    }

    /// Writes for the last time, and waits for that; but for no disk that hangs.
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

/// Gives a session the references in a directory, and says what is wrong with them.
pub fn recall(path: &Path, session: &mut Session, say: impl Fn(&str)) {
    let entries: Vec<Entry> = folder::read(path).unwrap_or_else(|why| {
        let name = folder::file(path);
        say(&format!("the references in `{}` are not used: {why}", name.display()));
        session.count_refused_reference();
        Vec::new()
    });
    session.recall(entries);
    session.take_notes().iter().for_each(|note| say(note));
}
