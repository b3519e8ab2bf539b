//! Commands that a process passes through to a disk's driver, as `smartctl` and exporters of
//! SMART do: they keep a disk busy without reading or writing. The process is named, and
//! neither the device nor a process that has always read from the same disk.
//!
//! Pollers and reader are this program again, under other names: the tools of sg3-utils need
//! a `/dev/sg` node, which the disk lacks in the guest, and a shell that starts `dd` for each
//! block would use up the only CPU.

use std::{
    fs::{self, File},
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, OpenOptionsExt as _},
    },
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use serde_json::Value;
use tracer_lab::{cgroup::Cgroup, process::Process, wal::WalWriter};

use super::{
    devices::{self, Mounted},
    need, need_guest,
    verdicts::{SNAPSHOT, Wrong, start_top, watch},
};

const POLLER: &str = "poller";
const READER: &str = "reader";
const DRIVE: &str = "TRACER_POLLED";
/// The time of each command and each request, as on a drive with heads; it serves one at a
/// time. Quicker commands are more of them, and an emulated CPU would be the slower one.
const EACH: Duration = Duration::from_millis(8);
const PER_SECOND: u32 = 4;
/// Each has one command in flight at most, and all of them together have the drive for some two
/// thirds of the time. Such a command overtakes the requests of a filesystem
/// (<https://elixir.bootlin.com/linux/v6.12/source/block/blk-mq.c>), so pollers that never
/// rest keep these waiting for seconds, as long as the emulated CPU is quick enough to do so.
const POLLERS: usize = 8;
const BETWEEN_COMMANDS: Duration = Duration::from_millis(70);
const BETWEEN_READS: Duration = Duration::from_millis(300);
/// Snapshots of ten seconds' window, one a second.
const LEARNING: usize = 30;
const IDLE: usize = 6;
const POLLED: usize = 24;

#[test]
fn who_polls_the_drive_is_named_and_neither_the_device_nor_a_reader() {
    need_guest!();
    need!(&["sd_mod"], &[]);
    let device = devices::scsi_debug(EACH, 1).expect("a scsi_debug of our own");
    // scsi_debug takes 50 ms for a flush; without a volatile cache a sync has none.
    let cache = format!("/sys/block/{}/queue/write_cache", device.name);
    fs::write(cache, "write through").unwrap();
    let mounted = Mounted::ext4(&device.path()).expect("ext4 on the device");
    let wal = WalWriter::start(&mounted.path().join("etcd"), PER_SECOND).expect("a log");
    let readers = Cgroup::create(READER).unwrap();
    let reader = again("reads_until_it_is_killed", &device.path(), &readers);
    let mut top = start_top();
    let unsupported = top.json(SNAPSHOT)["unsupported"].clone();
    let mut sentences = unsupported.as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(why) = sentences.find(|sentence| sentence.contains("passed through to a drive")) {
        crate::skip::skip!("{why}");
    }
    let mut wrong = Wrong::default();
    let learning = watch(&mut top, LEARNING);
    // A sync takes three requests of 8 ms, more than the 10 ms that no baseline may exceed, so
    // the device may be said to be slow.
    wrong.check("learning", &learning, 0, |said| said.kind != "owners");
    let idle = watch(&mut top, IDLE);
    wrong.check("idle", &idle, 0, |said| said.kind != "owners" && said.has_baseline);

    let cgroup = Cgroup::create(POLLER).unwrap();
    let poller = |_| again("polls_until_it_is_killed", &device.path(), &cgroup);
    let pollers: Vec<_> = (0..POLLERS).map(poller).collect();
    let polled = watch(&mut top, POLLED);
    let still_run = pollers.iter().chain([&reader]).all(|one| one.ended().is_none());
    assert!(still_run, "the pollers and the reader run until they are stopped");
    drop(pollers);
    let settled = &polled[polled.len() / 2..];
    wrong.check("polled", settled, settled.len() / 5, |said| {
        let is_first = |(name, share): &(String, f64)| name == POLLER && *share > 0.5;
        said.worst.as_ref().is_some_and(is_first) && said.op == "pass_through"
    });
    wrong.check("the device beside them", &polled, 0, |said| {
        said.kind != "device" || said.confidence != "high"
    });
    wrong.check("the reader beside them", &polled, 0, |said| {
        said.worst.as_ref().is_none_or(|(name, _)| name != READER)
    });
    top.interrupt();
    let ended = top.wait(SNAPSHOT);
    drop((wal, reader));
    assert_eq!(ended.code(), Some(0), "{}", top.transcript());
    wrong.end();
}

/// Starts this program again, with a test that never ends.
fn again(test: &str, drive: &str, cgroup: &Cgroup) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let test = format!("guest::pass_through::{test}");
    command.args(["--exact", &test, "--ignored"]).env(DRIVE, drive);
    command.stdout(Stdio::null());
    Process::spawn(command, cgroup).unwrap()
}

#[repr(align(4096))]
struct Block([u8; 4096]);

/// Reads a block three times a second.
#[test]
#[ignore = "another test starts it as a process of its own"]
fn reads_until_it_is_killed() {
    let Some(drive) = std::env::var_os(DRIVE) else { return };
    fs::write("/proc/self/comm", READER).unwrap();
    let drive = File::options().read(true).custom_flags(libc::O_DIRECT).open(drive).unwrap();
    let mut block = Block([0; 4096]);
    loop {
        drive.read_exact_at(&mut block.0, 99 * 4096).unwrap();
        sleep(BETWEEN_READS);
    }
}

/// `struct sg_io_hdr`, <https://elixir.bootlin.com/linux/v6.12/source/include/scsi/sg.h>.
#[repr(C)]
struct Header {
    interface: i32,
    direction: i32,
    command_bytes: u8,
    most_sense_bytes: u8,
    pieces: u16,
    data_bytes: u32,
    data: *mut u8,
    command: *const u8,
    sense: *mut u8,
    timeout_ms: u32,
    flags: u32,
    id: i32,
    callers: *mut u8,
    status: [u8; 4],
    statuses: [u16; 2],
    rest: i32,
    took_ms: u32,
    info: u32,
}

/// Asks the drive whether it is ready (TEST UNIT READY, six zeros).
fn ask(drive: &File) -> i32 {
    const SG_IO: libc::c_ulong = 0x2285;
    const NO_DATA: i32 = -1;
    let command = [0_u8; 6];
    let mut header = Header {
        interface: i32::from(b'S'),
        direction: NO_DATA,
        command_bytes: 6,
        most_sense_bytes: 0,
        pieces: 0,
        data_bytes: 0,
        data: std::ptr::null_mut(),
        command: command.as_ptr(),
        sense: std::ptr::null_mut(),
        timeout_ms: 10_000,
        flags: 0,
        id: 0,
        callers: std::ptr::null_mut(),
        status: [0; 4],
        statuses: [0; 2],
        rest: 0,
        took_ms: 0,
        info: 0,
    };
    // SAFETY: the descriptor is open, and header and command outlive the call.
    unsafe { libc::ioctl(drive.as_raw_fd(), SG_IO as _, &raw mut header) }
}

/// Polls the drive again and again.
#[test]
#[ignore = "another test starts it as a process of its own"]
fn polls_until_it_is_killed() {
    let Some(drive) = std::env::var_os(DRIVE) else { return };
    fs::write("/proc/self/comm", POLLER).unwrap();
    let drive = File::open(drive).unwrap();
    while ask(&drive) == 0 {
        sleep(BETWEEN_COMMANDS);
    }
    panic!("it cannot ask: {}", std::io::Error::last_os_error());
}
