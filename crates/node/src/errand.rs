//! Reads that may never end, made by other threads than the one that must not wait.
//!
//! The arguments of a process that is stuck in a page fault of a sick disk cannot be read
//! until the disk answers; a directory on that disk cannot be listed; and the attributes of
//! a queue cannot be read while somebody changes the scheduler of a disk that hangs. So such
//! a read is an *errand*: another thread makes it, and the caller waits for it for a moment,
//! and takes the answer later if it comes later. Only a few such threads may be late at one
//! time. If none is left, the read is not made, and is counted.
//!
//! A thread that has answered makes the next read too, which costs 10 µs instead of the
//! 75 µs of a thread for each. If it has nothing to read for [`IDLE`] it ends, so no thread
//! keeps the privileges for long that its process has given up, and none outlives its
//! owner.

use std::{
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// How long an errand is waited for.
const PATIENCE: Duration = Duration::from_millis(100);

/// Once one was late, others are waited for no longer than this for a second, so
/// that waiting is a tenth of the time at most.
const IMPATIENCE: Duration = Duration::from_millis(1);
const IMPATIENT: Duration = Duration::from_secs(1);

/// Threads that may be late at one time.
const MAX_LATE: usize = 4;

/// How long a thread waits for its next read.
pub const IDLE: Duration = Duration::from_millis(10);

const STACK_BYTES: usize = 256 << 10;

/// The threads that make such reads, and their state.
#[derive(Debug)]
pub struct Errands {
    /// How long each is waited for, at most.
    patience: Duration,
    /// The thread that has answered, and may make the next read.
    idle: Option<Worker>,
    out: Vec<Out>,
    last_late: Option<Instant>,
    late: u64,
}

/// A read that has not come back.
#[derive(Debug)]
struct Out {
    /// The disk that it waits for, if it was made for one.
    of: Option<String>,
    /// Closed when it is over.
    is_alive: Receiver<()>,
}

/// A read that is under way.
#[derive(Debug)]
pub struct Errand<T>(Receiver<T>);

/// The state of an errand.
#[derive(Debug)]
pub enum Answer<T> {
    Done(T),
    /// The answer may still come.
    Late(Errand<T>),
    /// There was no thread for it, or it has lost its answer.
    None,
}

impl Default for Errands {
    fn default() -> Self {
        Self::waiting_for(PATIENCE)
    }
}

impl Errands {
    /// Errands of which each is waited for this long at most.
    pub fn waiting_for(patience: Duration) -> Self {
        Self { patience, idle: None, out: Vec::new(), last_late: None, late: 0 }
    }

    /// Has something read by another thread, and waits for the answer for a moment.
    pub fn run<T: Send + 'static>(
        &mut self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Answer<T> {
        let is_impatient = self.last_late.is_some_and(|late| late.elapsed() < IMPATIENT);
        let within = if is_impatient { IMPATIENCE } else { self.patience };
        let answer = self.make(None, within, read);
        if matches!(answer, Answer::Late(_)) && !is_impatient {
            self.last_late = Some(Instant::now());
        }
        self.late += u64::from(!matches!(answer, Answer::Done(_)));
        answer
    }

    /// Reads something of a disk, and waits for that a moment. A disk that has not
    /// answered is not asked again until it has, and the others are waited for as long
    /// as ever.
    pub fn run_for<T: Send + 'static>(
        &mut self,
        disk: &str,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.forget_returned();
        let is_out = self.out.iter().any(|out| out.of.as_deref() == Some(disk));
        let answer = match is_out {
            true => Answer::None,
            false => self.make(Some(disk), self.patience, read),
        };
        match answer {
            Answer::Done(answer) => Some(answer),
            Answer::Late(_) | Answer::None => {
                self.late += 1;
                None
            }
        }
    }

    /// Reads that did not answer in time so far.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Has something read, and waits for nothing; `None` where no thread is left. The
    /// caller counts what is late.
    pub fn send_out<T: Send + 'static>(
        &mut self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<Errand<T>> {
        // The thread ends when it has answered.
        self.begin(None, read).map(|(errand, _)| errand)
    }

    fn make<T: Send + 'static>(
        &mut self,
        of: Option<&str>,
        within: Duration,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Answer<T> {
        let Some((errand, worker)) = self.begin(of, read) else { return Answer::None };
        let answer = errand.wait(within);
        if matches!(answer, Answer::Done(_)) {
            self.idle = Some(worker);
        }
        answer
    }

    fn begin<T: Send + 'static>(
        &mut self,
        of: Option<&str>,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<(Errand<T>, Worker)> {
        self.forget_returned();
        if self.out.len() >= MAX_LATE {
            return None;
        }
        let (sender, receiver) = sync_channel(1);
        let (alive, is_alive) = sync_channel::<()>(0);
        let job: Job = Box::new(move || {
            let answer = read();
            drop(alive);
            // Nobody may want to know any more.
            let _ = sender.send(answer);
        });
        let worker = match self.idle.take() {
            Some(worker) => match worker.give(job) {
                Ok(()) => worker,
                Err(job) => Worker::start(job)?,
            },
            None => Worker::start(job)?,
        };
        self.out.push(Out { of: of.map(str::to_owned), is_alive });
        Some((Errand(receiver), worker))
    }

    fn forget_returned(&mut self) {
        self.out.retain(|out| matches!(out.is_alive.try_recv(), Err(TryRecvError::Empty)));
    }
}

impl<T> Errand<T> {
    /// Returns the answer if it is there, without waiting.
    pub fn look(self) -> Answer<T> {
        self.wait(Duration::ZERO)
    }

    /// Waits for the answer, at most this long.
    pub fn wait(self, within: Duration) -> Answer<T> {
        match self.0.recv_timeout(within) {
            Ok(answer) => Answer::Done(answer),
            Err(RecvTimeoutError::Timeout) => Answer::Late(self),
            Err(RecvTimeoutError::Disconnected) => Answer::None,
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that makes one read after another. It ends once this is dropped, or when it has
/// had nothing to do for [`IDLE`].
#[derive(Debug)]
struct Worker(Arc<Post>);

#[derive(Debug, Default)]
struct Post {
    next: Mutex<Next>,
    changed: Condvar,
}

#[derive(Default)]
struct Next {
    job: Option<Job>,
    /// Whether the thread takes no more jobs.
    is_over: bool,
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, is_over } = self;
        f.debug_struct("Next").field("job", &job.is_some()).field("is_over", is_over).finish()
    }
}

impl Worker {
    /// Starts a thread with its first job; `None` where there can be no more threads.
    fn start(job: Job) -> Option<Self> {
        let post = Arc::new(Post::default());
        post.next().job = Some(job);
        let its = Arc::clone(&post);
        let thread = thread::Builder::new().name("errand".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || its.work()).ok()?;
        Some(Self(post))
    }

    /// Gives it another job, or the job back if it has ended.
    fn give(&self, job: Job) -> Result<(), Job> {
        let mut next = self.0.next();
        if next.is_over {
            return Err(job);
        }
        next.job = Some(job);
        self.0.changed.notify_one();
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.next().is_over = true;
        self.0.changed.notify_one();
    }
}

impl Post {
    fn next(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let is_idle = |next: &mut Next| next.job.is_none() && !next.is_over;
            let waited = self.changed.wait_timeout_while(self.next(), IDLE, is_idle);
            let (mut next, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let Some(job) = next.job.take() else {
                next.is_over = true;
                return;
            };
            drop(next);
            job();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
        sync::mpsc::Sender,
    };

    use super::*;

    /// A read that ends when it is let go.
    fn stuck() -> (Sender<u32>, impl FnOnce() -> u32 + Send + 'static) {
        let (go, wait) = std::sync::mpsc::channel();
        (go, move || wait.recv().unwrap_or(0))
    }

    #[test]
    fn what_waits_for_nothing_is_there_at_once() {
        // A thread may get no CPU for long on a busy machine.
        let patience = Duration::from_secs(60);
        let mut errands = Errands::waiting_for(patience);
        for n in 0..100 {
            assert!(matches!(errands.run(move || n), Answer::Done(m) if m == n));
        }
        assert_eq!(errands.late(), 0);
    }

    #[test]
    fn a_stuck_read_holds_nobody_up_and_is_answered_later() {
        let mut errands = Errands::default();
        let (go, read) = stuck();
        let begin = Instant::now();
        let Answer::Late(errand) = errands.run(read) else { panic!("it is stuck") };
        let Answer::Late(errand) = errand.look() else { panic!("it still is") };
        // Others are not held up by it.
        assert!(matches!(errands.run(|| 7), Answer::Done(7) | Answer::Late(_)));
        assert!(begin.elapsed() < Duration::from_secs(5));
        go.send(5).unwrap();
        assert!(matches!(errand.wait(Duration::from_secs(10)), Answer::Done(5)));
    }

    #[test]
    fn so_many_are_stuck_at_most_and_the_next_are_counted() {
        let mut errands = Errands::default();
        let mut gates = Vec::new();
        for _ in 0..MAX_LATE {
            let (go, read) = stuck();
            gates.push(go);
            assert!(matches!(errands.run(read), Answer::Late(_)));
        }
        let begin = Instant::now();
        for _ in 0..1000 {
            assert!(matches!(errands.run(|| 1), Answer::None));
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "nobody waits for a thread");
        assert_eq!(errands.late(), MAX_LATE as u64 + 1000);
        // Once they are back there is room again.
        drop(gates);
        let until = Instant::now() + Duration::from_secs(10);
        while !matches!(errands.run(|| 1), Answer::Done(1)) {
            assert!(Instant::now() < until);
        }
    }

    /// While all CPUs are busy, a disk that is well may be late as well.
    #[track_caller]
    fn until_answered(errands: &mut Errands, disk: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while errands.run_for(disk, || 3) != Some(3) {
            assert!(Instant::now() < end, "{disk} does not answer");
        }
    }

    #[test]
    fn a_disk_that_does_not_answer_holds_nobody_up_and_is_asked_again_once_it_has() {
        let mut errands = Errands::default();
        let (go, read) = stuck();
        let begin = Instant::now();
        assert_eq!(errands.run_for("sdb", read), None);
        for _ in 0..1000 {
            assert_eq!(errands.run_for("sdb", || 1), None, "it is not asked meanwhile");
        }
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert_eq!(errands.late(), 1001);
        until_answered(&mut errands, "sda");
        go.send(7).unwrap();
        until_answered(&mut errands, "sdb");
    }

    #[test]
    fn so_many_disks_are_waited_for_at_most() {
        let mut errands = Errands::default();
        let mut gates = Vec::new();
        for disk in ["sda", "sdb", "sdc", "sdd", "sde", "sdf"] {
            let (go, read) = stuck();
            assert_eq!(errands.run_for(disk, read), None);
            gates.push(go);
        }
        assert_eq!((errands.out.len(), errands.late()), (MAX_LATE, 6));
        assert_eq!(errands.run_for("sdg", || 1), None);
        drop(gates);
        until_answered(&mut errands, "sdg");
    }

    /// The thread that makes the next read, as a directory of /proc.
    fn thread_of(errands: &mut Errands) -> PathBuf {
        match errands.run(|| fs::read_link("/proc/thread-self")) {
            Answer::Done(thread) => Path::new("/proc").join(thread.unwrap()),
            _ => panic!("it waits for nothing"),
        }
    }

    #[track_caller]
    fn until_gone(thread: &Path) {
        let end = Instant::now() + Duration::from_secs(60);
        while thread.exists() {
            assert!(Instant::now() < end, "the thread is still there");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_thread_without_a_read_ends_by_itself_and_the_next_read_gets_another() {
        let mut errands = Errands::waiting_for(Duration::from_secs(60));
        let first = thread_of(&mut errands);
        until_gone(&first);
        let second = thread_of(&mut errands);
        assert_ne!(first, second);
        drop(errands);
        until_gone(&second);
    }

    #[test]
    fn a_read_that_panics_has_no_answer_and_takes_its_thread_with_it() {
        let mut errands = Errands::waiting_for(Duration::from_secs(60));
        assert!(matches!(errands.run(|| -> u32 { panic!("as the test wants") }), Answer::None));
        assert!(matches!(errands.run(|| 1), Answer::Done(1)));
        assert_eq!(errands.late(), 1);
    }
}
