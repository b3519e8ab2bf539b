//! The thread that writes segments, and the queue before it.
//!
//! The tracer's loop hands over a second's lines and never waits: if the queue is full,
//! or nothing can be written, they are dropped and counted. Lines name what they speak
//! of only once, so after a dropped one nothing of that segment can be used any more;
//! the thread asks for a new segment ([`Flight::take_wish`]), and the loop begins one
//! with all names.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    Bounds, SUMS,
    folder::{Folder, Free},
    writer::{Trouble, Writer},
};
use crate::{line::Began, recorder::Sink};

/// At most this much may wait for the thread: half a minute of a busy node.
const QUEUE_CHUNKS: usize = 256;
const QUEUE_BYTES: u64 = 8 << 20;

/// The time between two looks at whether there is room again, or the directory is there.
const AGAIN: Duration = Duration::from_secs(1);

/// How long the thread may take to begin.
const FIRST: Duration = Duration::from_secs(2);

/// How long the end waits for a disk that does not answer.
const LAST: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

/// Sentences that wait to be said; nobody may ask for them.
const MAX_NOTES: usize = 16;

enum Chunk {
    /// The lines with which a segment begins.
    Begin(Vec<u8>),
    Lines(Vec<u8>),
    /// Lines that the next ones replace.
    Half(Vec<u8>),
    End,
}

/// The state that the loop and the thread share.
#[derive(Debug, Default)]
struct Common {
    /// Bytes of lines on their way.
    queued: AtomicU64,
    /// Chunks that were not written; each is about a second.
    dropped: AtomicU64,
    written_bytes: AtomicU64,
    is_over: AtomicBool,
    /// Why a new segment should begin.
    wish: Mutex<Option<Began>>,
    /// Nothing is written, and nothing needs to be handed over.
    is_stopped: AtomicBool,
    notes: Mutex<Vec<String>>,
}

impl Common {
    fn wish(&self, began: Began) {
        held(&self.wish).get_or_insert(began);
    }

    /// There is room again: the last lines of the segment before asked once more.
    fn forget_rotation(&self) {
        held(&self.wish).take_if(|wish| *wish == Began::Rotation);
    }

    fn note(&self, note: String) {
        let mut notes = held(&self.notes);
        if notes.len() < MAX_NOTES {
            notes.push(note);
        }
    }
}

/// Everything behind these locks is whole whenever they are not held.
fn held<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running flight recorder.
pub struct Flight {
    common: Arc<Common>,
    queue: SyncSender<Chunk>,
    started: Instant,
    /// For the end.
    thread: Option<JoinHandle<()>>,
}

impl Flight {
    /// Starts the thread, which makes the directory and begins to write to it as soon as
    /// that can be done.
    ///
    /// # Errors
    ///
    /// When there can be no thread.
    pub fn start(path: &Path, bytes: u64) -> io::Result<Self> {
        let (bounds, sums) = Bounds::divide(bytes);
        Self::start_with(path, bounds, sums, || Box::new(Folder::free))
    }

    /// Starts it with limits of its own, and with somebody who says how much room there is.
    ///
    /// # Errors
    ///
    /// When there can be no thread.
    pub fn start_with(
        path: &Path,
        bounds: Bounds,
        sums: Option<Bounds>,
        ask: impl Fn() -> Box<dyn FnMut(&Folder) -> io::Result<Free> + Send> + Send + 'static,
    ) -> io::Result<Self> {
        let common = Arc::new(Common::default());
        let (queue, chunks) = sync_channel(QUEUE_CHUNKS);
        let thread = Thread {
            path: path.to_owned(),
            bounds,
            sums,
            ask: Box::new(ask),
            common: Arc::clone(&common),
            writer: None,
            began: Began::Start,
            said: None,
            is_known: false,
            is_broken: true,
        };
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || thread.run(&chunks))?;
        Ok(Self { common, queue, started: Instant::now(), thread: Some(thread) })
    }

    /// Why a new segment should begin now, if one should.
    pub fn take_wish(&self) -> Option<Began> {
        // The lines on their way must fit beside all the names.
        let has_room = self.common.queued.load(Relaxed) < QUEUE_BYTES / 2;
        let wish = has_room.then(|| held(&self.common.wish).take()).flatten();
        if wish.is_some() {
            self.common.is_stopped.store(false, Relaxed);
        }
        wish
    }

    /// Takes a segment's lines in, the first of them with the header.
    pub fn segment(&self) -> Box<dyn Sink> {
        let (common, queue) = (Arc::clone(&self.common), self.queue.clone());
        Box::new(Segment { common, queue, is_begun: false, is_broken: false })
    }

    /// Whether nothing can be written: then nothing needs to be handed over.
    pub fn is_stopped(&self) -> bool {
        self.common.is_stopped.load(Relaxed)
    }

    /// A second has passed of which nothing was handed over.
    pub fn pass_second(&self) {
        if self.started.elapsed() >= FIRST {
            self.common.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Seconds that were not kept.
    pub fn dropped(&self) -> u64 {
        self.common.dropped.load(Relaxed)
    }

    /// Lines that were written, in bytes before they were packed.
    pub fn written_bytes(&self) -> u64 {
        self.common.written_bytes.load(Relaxed)
    }

    /// Sentences since this was called last.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *held(&self.common.notes))
    }

    /// Waits until all is written, at most `LAST` for a disk that hangs; true if it was.
    pub fn end(mut self) -> bool {
        let until = Instant::now() + LAST;
        let mut is_sent = false;
        while Instant::now() < until {
            is_sent = is_sent || self.queue.try_send(Chunk::End).is_ok();
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                return self.thread.take().is_none_or(|thread| thread.join().is_ok());
            }
            thread::sleep(LOOK);
        }
        self.common.is_over.store(true, Relaxed);
        false
    }
}

/// One segment, as a recorder fills it.
struct Segment {
    common: Arc<Common>,
    queue: SyncSender<Chunk>,
    is_begun: bool,
    /// A line is missing: nothing more of it is of use.
    is_broken: bool,
}

impl Sink for Segment {
    /// Never fails: what is dropped is counted.
    fn put(&mut self, lines: &[u8]) -> io::Result<u64> {
        let bytes = lines.len() as u64;
        let has_room = self.common.queued.load(Relaxed) + bytes <= QUEUE_BYTES;
        if !self.is_broken && has_room {
            let chunk = match self.is_begun {
                false => Chunk::Begin(lines.to_vec()),
                true => Chunk::Lines(lines.to_vec()),
            };
            self.common.queued.fetch_add(bytes, Relaxed);
            if self.queue.try_send(chunk).is_ok() {
                self.is_begun = true;
                return Ok(bytes);
            }
            self.common.queued.fetch_sub(bytes, Relaxed);
        }
        if !self.is_broken {
            self.is_broken = true;
            self.common.wish(Began::Slow);
        }
        self.common.dropped.fetch_add(1, Relaxed);
        Ok(0)
    }

    /// A thread that lags behind gets nothing that it need not write.
    fn takes_halves(&self) -> bool {
        self.is_begun && !self.is_broken && self.common.queued.load(Relaxed) == 0
    }

    fn put_half(&mut self, lines: &[u8]) {
        let bytes = lines.len() as u64;
        self.common.queued.fetch_add(bytes, Relaxed);
        if self.queue.try_send(Chunk::Half(lines.to_vec())).is_err() {
            self.common.queued.fetch_sub(bytes, Relaxed);
        }
    }
}

/// The thread's own state.
struct Thread {
    path: PathBuf,
    bounds: Bounds,
    sums: Option<Bounds>,
    ask: Box<dyn Fn() -> super::writer::Ask + Send>,
    common: Arc<Common>,
    /// `None` until the directory can be used.
    writer: Option<Writer>,
    /// The reason that the next segment gives for its beginning.
    began: Began,
    /// The trouble that was said last.
    said: Option<String>,
    /// Whether the log already says that it records, and where.
    is_known: bool,
    /// A line of this part was dropped: what follows may speak of it.
    is_broken: bool,
}

impl Thread {
    fn run(mut self, chunks: &Receiver<Chunk>) {
        self.look_for_room();
        let mut looked = Instant::now();
        loop {
            match chunks.recv_timeout(AGAIN) {
                Ok(Chunk::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Chunk::Begin(lines)) => self.write(&lines, true),
                Ok(Chunk::Lines(lines)) => self.write(&lines, false),
                Ok(Chunk::Half(lines)) => self.write_half(&lines),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.common.is_over.load(Relaxed) {
                return;
            }
            if self.common.is_stopped.load(Relaxed) && looked.elapsed() >= AGAIN {
                looked = Instant::now();
                self.look_for_room();
            }
        }
    }

    /// Asks for a segment, if one can be written.
    fn look_for_room(&mut self) {
        let writer = match self.writer.take() {
            Some(writer) => Ok(writer),
            None => Folder::lock(&self.path).map(|folder| self.writer(folder)),
        };
        match writer {
            Err(error) => self.stop(&format!("it cannot be used ({error})"), self.began),
            Ok(mut writer) => match writer.look_for_room() {
                Err(trouble) => self.meet(trouble, writer),
                Ok(()) => {
                    self.writer = Some(writer);
                    self.common.wish(self.began);
                }
            },
        }
    }

    fn writer(&self, folder: Folder) -> Writer {
        let writer = Writer::new(folder, self.bounds, (self.ask)());
        let Some(bounds) = self.sums else { return writer };
        let path = self.path.join(SUMS);
        match Folder::lock(&path) {
            Ok(folder) => writer.with_sums(Writer::new(folder, bounds, (self.ask)())),
            Err(error) => {
                let name = path.display();
                self.common.note(format!("keeps no sums: `{name}` cannot be used ({error})"));
                writer
            }
        }
    }

    /// Stops until the trouble is over.
    fn meet(&mut self, trouble: Trouble, writer: Writer) {
        match trouble {
            Trouble::Full(why) => {
                self.writer = Some(writer);
                self.stop(&why, Began::Full);
            }
            // Perhaps the directory is another one by then.
            Trouble::Failed(error) => {
                drop(writer);
                self.stop(&error.to_string(), Began::Failure);
            }
        }
    }

    fn write(&mut self, lines: &[u8], is_first: bool) {
        self.common.queued.fetch_sub(lines.len() as u64, Relaxed);
        if self.is_broken && !is_first {
            return self.drop_one();
        }
        self.is_broken = true;
        let Some(mut writer) = self.writer.take() else { return self.drop_one() };
        let now = SystemTime::now();
        let begun = if is_first { writer.begin(now) } else { Ok(()) };
        let written = begun.and_then(|()| writer.write(lines, unix_ns(now)));
        match written {
            Ok(true) => {
                if writer.is_nearly_full() {
                    self.common.wish(Began::Rotation);
                } else if is_first {
                    self.common.forget_rotation();
                }
                self.writer = Some(writer);
                self.is_broken = false;
                self.common.written_bytes.fetch_add(lines.len() as u64, Relaxed);
                if is_first {
                    self.began = Began::Rotation;
                    self.say_that_it_goes_on();
                }
            }
            // The segment is full, or was never begun.
            Ok(false) => {
                self.writer = Some(writer);
                self.drop_one();
                self.common.wish(Began::Slow);
            }
            Err(trouble) => {
                self.drop_one();
                self.meet(trouble, writer);
            }
        }
    }

    /// Writes what a tracer that is killed before the end of this second leaves.
    fn write_half(&mut self, lines: &[u8]) {
        self.common.queued.fetch_sub(lines.len() as u64, Relaxed);
        if let Some(writer) = self.writer.as_mut().filter(|_| !self.is_broken) {
            writer.write_half(lines, unix_ns(SystemTime::now()));
        }
    }

    fn drop_one(&self) {
        self.common.dropped.fetch_add(1, Relaxed);
    }

    fn say_that_it_goes_on(&mut self) {
        let name = self.path.display();
        if self.said.take().is_some() {
            self.common.note(format!("the recorder goes on in `{name}`"));
        } else if !std::mem::replace(&mut self.is_known, true) {
            let bytes = self.bounds.bytes + self.sums.map_or(0, |sums| sums.bytes);
            self.common.note(format!("records into `{name}`, at most {} MiB", bytes >> 20));
        }
    }

    /// Nothing more is written until there is room again.
    fn stop(&mut self, why: &str, began: Began) {
        self.began = began;
        held(&self.common.wish).take();
        self.common.is_stopped.store(true, Relaxed);
        if self.said.as_deref() != Some(why) {
            let name = self.path.display();
            self.common.note(format!(
                "the recorder has stopped: `{name}`: {why}; it goes on by itself when that is over"
            ));
            self.said = Some(why.to_owned());
        }
    }
}

fn unix_ns(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
