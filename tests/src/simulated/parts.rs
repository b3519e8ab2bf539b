//! Parts that this program plays in a process of its own: the simulated disk, and culprits for
//! which the system has no program.
//!
//! The process is started as libtest for one test, the only one here, which finds its part in
//! the environment. It takes the name that it is given.

use std::{
    env,
    fs::{self, File},
    hint::black_box,
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    fcntl::{FallocateFlags, fallocate},
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use tracer_lab::{cgroup::Cgroup, cgroup_v1::CgroupV1, process::Process, trace};
use tracer_timelines::timeline::Stream;

use super::{neighbour, server, stuck};

const PLAYER: &str = "simulated::parts::a_child_plays_the_part_that_it_is_given";
const PART: &str = "TRACER_TEST_PART";
const NAME: &str = "TRACER_TEST_NAME";

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Part {
    /// Plays nothing, and says so.
    Extra,
    Disk {
        mountpoint: PathBuf,
        size_bytes: u64,
    },
    /// Writes one file over and over through the page cache, and never syncs.
    Writer {
        file: PathBuf,
        file_bytes: u64,
        bytes_per_second: u64,
    },
    /// Writes a whole file at once through the page cache, over and over, and never syncs.
    Dirtier {
        file: PathBuf,
        file_bytes: u64,
        every: Duration,
    },
    /// Creates small files, renames and removes them, and never syncs.
    Files {
        folder: PathBuf,
        per_second: u32,
    },
    /// Writes to one file and syncs it, over and over.
    Syncer {
        file: PathBuf,
        per_second: u32,
    },
    /// Fills the holes of a large file, each far from the one before, and syncs after each; keeps
    /// an [`Account`] of that. The first round runs without pauses.
    Filler {
        file: PathBuf,
        stride_bytes: u64,
        strides: u64,
        per_second: u32,
        account: PathBuf,
    },
    /// Punches the first block out of each stride of a file, one after another, the last stride
    /// first.
    Puncher {
        file: PathBuf,
        stride_bytes: u64,
        strides: u64,
    },
    /// Appends to a file and syncs it, over and over; keeps an [`Account`] of that.
    Appender {
        file: PathBuf,
        bytes: u64,
        per_second: u32,
        account: PathBuf,
    },
    /// Appends to a file and syncs it after some writes, over and over; keeps an [`Account`] of its
    /// syncs and one of its writes. It makes up for delays.
    Logger {
        file: PathBuf,
        bytes: u64,
        per_sync: u64,
        per_second: u64,
        account: PathBuf,
        writes: PathBuf,
    },
    /// Appends to a file and syncs it, over and over, and allocates a buffer for each record; keeps an
    /// [`Account`] of the whole time that its rounds take. Another thread of it holds memory, and
    /// allocates a piece of that over and over.
    Builder {
        file: PathBuf,
        bytes: u64,
        buffer_bytes: usize,
        per_second: u32,
        heap_bytes: usize,
        account: PathBuf,
    },
    /// Uses a file as a neighbour in a timeline uses its disk.
    Neighbour {
        file: PathBuf,
        stream: Stream,
    },
    /// Gets stuck in a page fault of one file once `go` exists, and keeps syncing another file.
    Stuck {
        mapped: PathBuf,
        synced: PathBuf,
        go: PathBuf,
    },
    /// Keeps one CPU busy.
    Hog {
        cpu: usize,
    },
    /// Traces a process, and stops it for this time before and after each of its syncs.
    Tracer {
        pid: u32,
        pause: Duration,
    },
    /// Reads pages of a file through the page cache, in no order; once through first.
    Reader {
        file: PathBuf,
        per_second: u32,
    },
    /// Deletes every second of the files of a folder, one after another.
    Deleter {
        folder: PathBuf,
        per_second: u64,
    },
    /// Has a shell drop the kernel's caches after a second, and over and over.
    Cron {
        every: Duration,
    },
    /// Holds memory, and reads a large file through the page cache over and
    /// over.
    Hoarder {
        heap_bytes: usize,
        file: PathBuf,
        bytes_per_second: u64,
    },
}

/// A process' own count of its syncs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account {
    pub syncs: u64,
    /// The seconds that it spent in syncs.
    pub seconds: f64,
}

impl Account {
    pub fn read(path: &Path) -> Result<Self> {
        let failed = || format!("failed to read `{}`", path.display());
        let text = fs::read_to_string(path).with_context(failed)?;
        let (syncs, seconds) = text.split_once(' ').with_context(failed)?;
        Ok(Self { syncs: syncs.parse()?, seconds: seconds.parse()? })
    }

    /// Writes the same number of bytes each time, so that none are left of an earlier write.
    fn write(self, file: &File) -> Result<()> {
        let text = format!("{:020} {:020.9}", self.syncs, self.seconds);
        Ok(file.write_all_at(text.as_bytes(), 0)?)
    }
}

impl Part {
    /// Starts a process called `name` that plays the part until stopped.
    pub fn start(&self, name: &str, cgroup: &Cgroup) -> Result<Process> {
        let mut command = self.command(name)?;
        command.stdout(Stdio::null());
        Process::spawn(command, cgroup)
    }

    /// Starts it within a limit, too.
    pub fn start_within(&self, limit: &CgroupV1, name: &str, cgroup: &Cgroup) -> Result<Process> {
        let mut command = self.command(name)?;
        command.stdout(Stdio::null());
        limit.enter(&mut command)?;
        Process::spawn(command, cgroup)
    }

    fn command(&self, name: &str) -> Result<Command> {
        let program = env::current_exe().context("failed to find this program")?;
        let mut command = if matches!(self, Part::Disk { .. }) {
            // The disk's server must not wait for a CPU.
            let mut command = Command::new("nice");
            command.args(["-n", "-15"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(["--exact", PLAYER, "--nocapture", "--test-threads=1"]);
        command.env(PART, serde_json::to_string(self)?).env(NAME, name);
        Ok(command)
    }

    fn play(&self) -> Result<()> {
        match self {
            Part::Extra => {
                println!("on stage");
                Ok(())
            }
            Part::Disk { mountpoint, size_bytes } => server::serve(mountpoint, *size_bytes),
            Part::Writer { file, file_bytes, bytes_per_second } => {
                write(file, *file_bytes, *bytes_per_second)
            }
            Part::Dirtier { file, file_bytes, every } => dirty(file, *file_bytes, *every),
            Part::Files { folder, per_second } => shuffle_files(folder, *per_second),
            Part::Syncer { file, per_second } => sync(file, *per_second),
            Part::Filler { file, stride_bytes, strides, per_second, account } => {
                fill(file, *stride_bytes, *strides, *per_second, account)
            }
            Part::Puncher { file, stride_bytes, strides } => punch(file, *stride_bytes, *strides),
            Part::Appender { file, bytes, per_second, account } => {
                append(file, *bytes, *per_second, account)
            }
            Part::Logger { file, bytes, per_sync, per_second, account, writes } => {
                log((file, *bytes), (*per_sync, *per_second), (account, writes))
            }
            Part::Builder { file, bytes, buffer_bytes, per_second, heap_bytes, account } => {
                build((file, *bytes), *buffer_bytes, *per_second, *heap_bytes, account)
            }
            Part::Neighbour { file, stream } => neighbour::ask(file, *stream),
            Part::Stuck { mapped, synced, go } => stuck::get_stuck(mapped, synced, go),
            Part::Hog { cpu } => hog(*cpu),
            Part::Tracer { pid, pause } => trace::trace(*pid, *pause),
            Part::Reader { file, per_second } => read(file, *per_second),
            Part::Deleter { folder, per_second } => delete(folder, *per_second),
            Part::Cron { every } => drop_caches(*every),
            Part::Hoarder { heap_bytes, file, bytes_per_second } => {
                hoard(*heap_bytes, file, *bytes_per_second)
            }
        }
    }
}

/// A log begins again when it is this long.
const LOG_BYTES: u64 = 512 << 20;

/// The size of each write or read.
const PIECE: u64 = 1 << 20;

/// Waits for the moment at which step `number` is due, at `per_second` steps a second.
pub(super) fn keep_pace(start: Instant, number: u64, per_second: u64) {
    let due = start + Duration::from_secs_f64(number as f64 / per_second.max(1) as f64);
    sleep(due.saturating_duration_since(Instant::now()));
}

fn write(path: &Path, file_bytes: u64, bytes_per_second: u64) -> Result<()> {
    let file = File::create(path)?;
    let piece = vec![0x55; PIECE as usize];
    let start = Instant::now();
    for number in 0.. {
        file.write_all_at(&piece, number * PIECE % file_bytes)?;
        keep_pace(start, number, bytes_per_second / PIECE);
    }
    Ok(())
}

fn dirty(path: &Path, file_bytes: u64, every: Duration) -> Result<()> {
    let file = File::create(path)?;
    let piece = vec![0x55; PIECE as usize];
    loop {
        (0..file_bytes / PIECE).try_for_each(|number| file.write_all_at(&piece, number * PIECE))?;
        sleep(every);
    }
}

/// Threads that read one file.
const READERS: u64 = 16;

fn read(path: &Path, per_second: u32) -> Result<()> {
    let file = File::open(path)?;
    let pages = file.metadata()?.len() / 4096;
    let mut page = [0; 4096];
    (0..pages).try_for_each(|number| file.read_exact_at(&mut page, number * 4096))?;
    let start = Instant::now();
    let read_on = &|of: u64| -> Result<()> {
        let mut page = [0; 4096];
        for number in 0.. {
            // Any odd factor visits all pages of a file whose size is a power of two.
            let at = (number * READERS + of) * 40_503 % pages;
            file.read_exact_at(&mut page, at * 4096)?;
            keep_pace(start, number, u64::from(per_second) / READERS);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|of| scope.spawn(move || read_on(of))).collect();
        readers.into_iter().try_for_each(|reader| reader.join().expect("it reads"))
    })
}

/// The neighbours of a deleted file stay, so that its space is discarded by itself.
fn delete(folder: &Path, per_second: u64) -> Result<()> {
    let mut files: Vec<_> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    let start = Instant::now();
    for (number, file) in (0..).zip(files.iter().skip(1).step_by(2)) {
        fs::remove_file(file)?;
        keep_pace(start, number, per_second);
    }
    // All are deleted; it ends when it is stopped.
    loop {
        sleep(Duration::from_secs(60));
    }
}

fn drop_caches(every: Duration) -> Result<()> {
    sleep(Duration::from_secs(1));
    loop {
        Command::new("sh").args(["-c", "echo 3 > /proc/sys/vm/drop_caches"]).status()?;
        sleep(every);
    }
}

/// Every file is for a while in one of many directories, so that each commit of the journal has
/// many changed blocks of metadata.
fn shuffle_files(folder: &Path, per_second: u32) -> Result<()> {
    const FOLDERS: u64 = 256;
    const KEPT: u64 = 4096;
    let path = |kind: char, number: u64| {
        folder.join(format!("{}", number % FOLDERS)).join(format!("{kind}{number}"))
    };
    for number in 0..FOLDERS {
        fs::create_dir_all(folder.join(format!("{number}")))?;
    }
    let start = Instant::now();
    for number in 0.. {
        File::create(path('n', number))?;
        fs::rename(path('n', number), path('r', number * 7 + 1))?;
        if let Some(old) = number.checked_sub(KEPT) {
            fs::remove_file(path('r', old * 7 + 1))?;
        }
        keep_pace(start, number, per_second.into());
    }
    Ok(())
}

fn sync(path: &Path, per_second: u32) -> Result<()> {
    let file = File::create(path)?;
    let start = Instant::now();
    for number in 0.. {
        file.write_all_at(&[0x55; 4096], 0)?;
        file.sync_data()?;
        keep_pace(start, number, per_second.into());
    }
    Ok(())
}

fn fill(
    path: &Path,
    stride_bytes: u64,
    strides: u64,
    per_second: u32,
    account: &Path,
) -> Result<()> {
    const BYTES: [u8; 16 << 10] = [0x55; 16 << 10];
    let file = File::options().write(true).create(true).truncate(false).open(path)?;
    let out = File::create(account)?;
    let mut account = Account::default();
    let mut start = Instant::now();
    for number in 0.. {
        // The first block of each stride is written when the file is laid out.
        let (round, stride) = (number / strides + 1, number % strides);
        file.write_all_at(&BYTES, stride * stride_bytes + round * BYTES.len() as u64)?;
        let begin = Instant::now();
        file.sync_data()?;
        account.syncs += 1;
        account.seconds += begin.elapsed().as_secs_f64();
        account.write(&out)?;
        match number.checked_sub(strides) {
            Some(number) => keep_pace(start, number, per_second.into()),
            None => start = Instant::now(),
        }
    }
    Ok(())
}

fn punch(path: &Path, stride_bytes: u64, strides: u64) -> Result<()> {
    let file = File::options().write(true).open(path)?;
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    for stride in (0..strides).rev() {
        fallocate(&file, hole, i64::try_from(stride * stride_bytes)?, 4096)?;
    }
    // All are punched; it ends when it is stopped.
    loop {
        sleep(Duration::from_secs(60));
    }
}

fn append(path: &Path, bytes: u64, per_second: u32, account: &Path) -> Result<()> {
    let piece = vec![0x55; bytes as usize];
    let (file, out) = (File::create(path)?, File::create(account)?);
    let mut account = Account::default();
    let start = Instant::now();
    for number in 0.. {
        file.write_all_at(&piece, number * bytes)?;
        let begin = Instant::now();
        file.sync_data()?;
        account.syncs += 1;
        account.seconds += begin.elapsed().as_secs_f64();
        account.write(&out)?;
        keep_pace(start, number, per_second.into());
    }
    Ok(())
}

fn log(
    (path, bytes): (&Path, u64),
    (per_sync, per_second): (u64, u64),
    (account, writes): (&Path, &Path),
) -> Result<()> {
    let piece = vec![0x55; bytes as usize];
    let (file, out) = (File::create(path)?, [File::create(account)?, File::create(writes)?]);
    let [mut syncs, mut written] = [Account::default(); 2];
    let start = Instant::now();
    for number in 0.. {
        let begin = Instant::now();
        file.write_all_at(&piece, number * bytes % LOG_BYTES)?;
        written.syncs += 1;
        written.seconds += begin.elapsed().as_secs_f64();
        if (number + 1) % per_sync == 0 {
            let begin = Instant::now();
            file.sync_data()?;
            syncs.syncs += 1;
            syncs.seconds += begin.elapsed().as_secs_f64();
            syncs.write(&out[0])?;
            written.write(&out[1])?;
        }
        keep_pace(start, number, per_second);
    }
    Ok(())
}

/// It makes up for no delay: after a long round it waits as long as after a short one.
fn build(
    (path, bytes): (&Path, u64),
    buffer_bytes: usize,
    per_second: u32,
    heap_bytes: usize,
    account: &Path,
) -> Result<()> {
    let pieces = heap_bytes / PIECE as usize;
    let mut heap: Vec<_> = (0..pieces).map(|_| vec![0x55u8; PIECE as usize]).collect();
    thread::spawn(move || {
        for at in (0..pieces).cycle() {
            // A freed piece of this size goes back to the kernel, and a new one is charged again.
            heap[at] = Vec::new();
            heap[at] = black_box(vec![0x55u8; PIECE as usize]);
            sleep(Duration::from_millis(50));
        }
    });
    let record = vec![0x55; bytes as usize];
    let (file, out) = (File::create(path)?, File::create(account)?);
    let mut account = Account::default();
    for number in 0.. {
        let begin = Instant::now();
        black_box(vec![0x55u8; buffer_bytes]);
        file.write_all_at(&record, number * bytes % LOG_BYTES)?;
        file.sync_data()?;
        account.syncs += 1;
        account.seconds += begin.elapsed().as_secs_f64();
        account.write(&out)?;
        sleep(Duration::from_secs(1) / per_second);
    }
    Ok(())
}

fn hoard(heap_bytes: usize, path: &Path, bytes_per_second: u64) -> Result<()> {
    // If memory runs out, the kernel must kill this process first.
    fs::write("/proc/self/oom_score_adj", "1000").context("failed to offer itself")?;
    let heap = black_box(vec![0x55u8; heap_bytes]);
    let file = File::open(path)?;
    let pieces = file.metadata()?.len() / PIECE;
    let mut piece = vec![0; PIECE as usize];
    let start = Instant::now();
    for number in 0.. {
        file.read_exact_at(&mut piece, number % pieces.max(1) * PIECE)?;
        keep_pace(start, number, bytes_per_second / PIECE);
    }
    drop(heap);
    Ok(())
}

fn hog(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus)?;
    let mut turns = 0u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

#[test]
fn a_child_plays_the_part_that_it_is_given() {
    if let Ok(part) = env::var(PART) {
        let part: Part = serde_json::from_str(&part).expect("a part as `command` gives it");
        // The name of the thread leader is that of the process, whichever thread this is.
        fs::write("/proc/self/comm", env::var(NAME).expect("a name")).unwrap();
        let played = part.play();
        if let Err(error) = &played {
            // `eprintln!` is not used, because libtest may capture it.
            let _ = writeln!(std::io::stderr(), "{error:#}");
        }
        std::process::exit(i32::from(played.is_err()));
    }
    let output = Part::Extra.command("extra").unwrap().output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("on stage"), "{output:?}");
}
