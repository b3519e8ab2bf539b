//! Reads that may never end, made by threads beside the one that must not wait.
//!
//! A process that is stuck in a page fault of a sick disk holds up who reads its
//! arguments; a directory on that disk holds up who lists it. So such a read is an
//! errand: it gets a thread of its own, the caller waits for it a moment, and takes
//! the answer later where it comes later. There are few such threads at a time.
//! A read that finds none left is not made, and counted.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

/// How long an errand is waited for: a read that waits for nothing takes some 50 µs
/// with its thread.
const PATIENCE: Duration = Duration::from_millis(100);

/// Once one was late, others are waited for no longer than this for a second, so
/// that waiting is a tenth of the time at most.
const IMPATIENCE: Duration = Duration::from_millis(1);
const IMPATIENT: Duration = Duration::from_secs(1);

/// Threads at a time.
const MOST: usize = 4;

const STACK_BYTES: usize = 256 << 10;

/// The threads, and what came of them.
#[derive(Debug)]
pub struct Errands {
    /// How long each is waited for, at most.
    patience: Duration,
    /// Each is closed when its thread is over.
    out: Vec<Receiver<()>>,
    last_late: Option<Instant>,
    late: u64,
}

/// A read that is under way.
#[derive(Debug)]
pub struct Errand<T>(Receiver<T>);

/// The state of an errand.
#[derive(Debug)]
pub enum Answer<T> {
    Done(T),
    /// It may still come.
    Late(Errand<T>),
    /// There was no thread for it, or it has lost its answer.
    None,
}

impl Default for Errands {
    fn default() -> Self {
        Self { patience: PATIENCE, out: Vec::new(), last_late: None, late: 0 }
    }
}

impl Errands {
    /// Reads, and waits for that a moment.
    pub fn run<T: Send + 'static>(
        &mut self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Answer<T> {
        let answer = match self.send_out(read) {
            Some(errand) => self.wait(errand),
            None => Answer::None,
        };
        self.late += u64::from(!matches!(answer, Answer::Done(_)));
        answer
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
        self.out.retain(|thread| {
            matches!(thread.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty))
        });
        if self.out.len() >= MOST {
            return None;
        }
        let (sender, receiver) = sync_channel(1);
        let (alive, is_alive) = sync_channel::<()>(0);
        let run = move || {
            // Nobody may want to know any more.
            let _ = sender.send(read());
            drop(alive);
        };
        let thread = thread::Builder::new().name("errand".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(run).ok()?;
        self.out.push(is_alive);
        Some(Errand(receiver))
    }

    fn wait<T>(&mut self, errand: Errand<T>) -> Answer<T> {
        let is_impatient = self.last_late.is_some_and(|late| late.elapsed() < IMPATIENT);
        let answer = errand.wait(if is_impatient { IMPATIENCE } else { self.patience });
        if matches!(answer, Answer::Late(_)) && !is_impatient {
            self.last_late = Some(Instant::now());
        }
        answer
    }
}

impl<T> Errand<T> {
    /// Its state by now.
    pub fn look(self) -> Answer<T> {
        self.wait(Duration::ZERO)
    }

    /// Its state within a moment.
    pub fn wait(self, within: Duration) -> Answer<T> {
        match self.0.recv_timeout(within) {
            Ok(answer) => Answer::Done(answer),
            Err(RecvTimeoutError::Timeout) => Answer::Late(self),
            Err(RecvTimeoutError::Disconnected) => Answer::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;

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
        let mut errands = Errands { patience, ..Errands::default() };
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
        for _ in 0..MOST {
            let (go, read) = stuck();
            gates.push(go);
            assert!(matches!(errands.run(read), Answer::Late(_)));
        }
        let begin = Instant::now();
        for _ in 0..1000 {
            assert!(matches!(errands.run(|| 1), Answer::None));
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "nobody waits for a thread");
        assert_eq!(errands.late(), MOST as u64 + 1000);
        // Once they are back there is room again.
        drop(gates);
        let until = Instant::now() + Duration::from_secs(10);
        while !matches!(errands.run(|| 1), Answer::Done(1)) {
            assert!(Instant::now() < until);
        }
    }
}
