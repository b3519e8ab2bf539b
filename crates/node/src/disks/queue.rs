//! The attributes of a disk's queue in sysfs, which may not answer.
//!
//! The kernel reads most of them under the queue's lock. Whoever changes the scheduler of
//! a disk that hangs holds that lock until the disk answers, and all who read an attribute
//! wait with him. So they are read by a thread of its own, which is waited for a moment. A
//! disk that does not answer is not asked again until it has, and the others are asked
//! by another thread.

use std::{
    fs, io,
    path::Path,
    sync::{
        LazyLock, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel, sync_channel},
    },
    thread,
    time::Duration,
};

use crate::tree::{Tree, number};

/// How long a disk's answer is waited for, once for each time that the disk hangs. An
/// answer takes some 50 µs, and longer while all CPUs are busy.
const PATIENCE: Duration = Duration::from_millis(500);

/// Disks that may be without an answer at a time.
const MOST_STUCK: usize = 4;

const STACK_BYTES: usize = 256 << 10;

/// One thread for the whole process: there is one sysfs.
static READER: LazyLock<Mutex<Reader>> = LazyLock::new(Mutex::default);

type Job = Box<dyn FnOnce() + Send>;

/// The thread that reads, and those that have not come back.
#[derive(Default)]
struct Reader {
    jobs: Option<Sender<Job>>,
    /// Disks that have not answered; each is closed when the answer is there.
    stuck: Vec<(String, Receiver<()>)>,
    late: u64,
}

impl Reader {
    /// Has something read of a disk, and waits for it a moment.
    fn ask<T: Send + 'static>(
        &mut self,
        disk: &str,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.stuck.retain(|(_, answered)| answered.try_recv() == Err(TryRecvError::Empty));
        let is_stuck = self.stuck.iter().any(|(stuck, _)| stuck == disk);
        let answer =
            if is_stuck || self.stuck.len() >= MOST_STUCK { None } else { self.read(disk, read) };
        self.late += u64::from(answer.is_none());
        answer
    }

    fn read<T: Send + 'static>(
        &mut self,
        disk: &str,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = sync_channel(1);
        let (alive, answered) = sync_channel::<()>(0);
        let job: Job = Box::new(move || {
            // Nobody may want to know any more.
            let _ = sender.send(read());
            drop(alive);
        });
        let jobs = match self.jobs.take() {
            Some(jobs) => jobs,
            None => start()?,
        };
        jobs.send(job).ok()?;
        match answer.recv_timeout(PATIENCE) {
            Ok(answer) => {
                self.jobs = Some(jobs);
                Some(answer)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                // The thread ends once it has its answer: no more jobs come.
                self.stuck.push((disk.to_owned(), answered));
                None
            }
        }
    }
}

fn start() -> Option<Sender<Job>> {
    let (sender, jobs) = channel::<Job>();
    let thread = thread::Builder::new().name("queues".to_owned()).stack_size(STACK_BYTES);
    thread.spawn(move || jobs.into_iter().for_each(|job| job())).ok()?;
    Some(sender)
}

/// Has something read of a disk; `None` where it does not answer.
pub(super) fn ask<T: Send + 'static>(
    tree: &Tree,
    disk: &str,
    read: impl FnOnce(&Tree, &str) -> T + Send + 'static,
) -> Option<T> {
    let (tree, name) = (tree.clone(), disk.to_owned());
    // Disks of one name may be another tree's.
    let disk = tree.at(disk).to_string_lossy().into_owned();
    let mut reader = READER.lock().unwrap_or_else(PoisonError::into_inner);
    reader.ask(&disk, move || read(&tree, &name))
}

/// Ends the thread. The next question starts another, which has the privileges that the
/// asking thread has by then.
pub fn end_thread() {
    READER.lock().unwrap_or_else(PoisonError::into_inner).jobs = None;
}

/// Answers that did not come in time so far.
pub fn late() -> u64 {
    READER.lock().unwrap_or_else(PoisonError::into_inner).late
}

/// The first lines of attributes of a disk's queue; `None` where the disk does not answer.
pub(super) fn lines<const N: usize>(
    tree: &Tree,
    disk: &str,
    attributes: [&'static str; N],
) -> Option<[Option<String>; N]> {
    ask(tree, disk, move |tree, disk| {
        attributes.map(|attribute| tree.read_line(format!("sys/block/{disk}/queue/{attribute}")))
    })
}

/// The hardware queues of a disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Hardware {
    pub queues: u32,
    /// Tags of one of them; `None` where sysfs does not say.
    pub tags: Option<u32>,
}

/// Reads the hardware queues of a disk; none where it has no requests of its own.
pub(super) fn hardware(tree: &Tree, disk: &str) -> io::Result<Hardware> {
    let queues: Vec<_> = match fs::read_dir(tree.at(format!("sys/block/{disk}/mq"))) {
        Ok(queues) => queues.flatten().filter(|q| q.path().is_dir()).map(|q| q.path()).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let count = u32::try_from(queues.len()).unwrap_or(u32::MAX);
    if queues.is_empty() {
        return Ok(Hardware::default());
    }
    let tags = |queue: &Path| -> Option<u32> {
        number(fs::read(queue.join("nr_tags")).ok()?.trim_ascii())
    };
    let tags = ask(tree, disk, move |_, _| queues.iter().filter_map(|q| tags(q)).max());
    Ok(Hardware { queues: count, tags: tags.flatten() })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// While all CPUs are busy, a disk that is well may answer late, too.
    #[track_caller]
    fn until_answered(reader: &mut Reader, disk: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while reader.ask(disk, || 3) != Some(3) {
            assert!(Instant::now() < end, "{disk} does not answer");
        }
    }

    #[test]
    fn a_disk_that_does_not_answer_holds_nobody_up_and_is_asked_again_once_it_has() {
        let mut reader = Reader::default();
        let (go, wait) = channel::<u32>();
        let begin = Instant::now();
        assert_eq!(reader.ask("sdb", move || wait.recv().unwrap_or(0)), None);
        for _ in 0..1000 {
            assert_eq!(reader.ask("sdb", || 1), None, "it is not asked meanwhile");
        }
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert_eq!(reader.late, 1001);
        until_answered(&mut reader, "sda");
        go.send(7).unwrap();
        until_answered(&mut reader, "sdb");
    }

    #[test]
    fn so_many_disks_are_waited_for_at_most() {
        let mut reader = Reader::default();
        let mut gates = Vec::new();
        for disk in ["sda", "sdb", "sdc", "sdd", "sde", "sdf"] {
            let (go, wait) = channel::<u32>();
            assert_eq!(reader.ask(disk, move || wait.recv().unwrap_or(0)), None);
            gates.push(go);
        }
        assert_eq!((reader.stuck.len(), reader.late), (MOST_STUCK, 6));
        assert_eq!(reader.ask("sdg", || 1), None);
        drop(gates);
        until_answered(&mut reader, "sdg");
    }
}
