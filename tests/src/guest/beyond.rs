//! Filesystems for which the tracer has no hooks of their own: each fsync and fdatasync is
//! seen once, and the tracer says which phases it cannot see.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tracer::session::Session;
use tracer_lab::{
    cgroup::Cgroup,
    disk::Filesystem,
    process::Process,
    tool::{MKFS_EXT4, last_line},
};
use tracer_snapshot::{Phases, SlowSync};

use super::{
    MODPROBE,
    devices::{FUSE2FS, MKFS_F2FS, Mounted, loop_device},
    lack_of, need_guest,
};
use crate::{
    live::{lab_disk, traced},
    matrix::{
        cells::{Cells, Shortfall, Tally},
        requests::meet,
        ways::{own_syncs, phases_add_up},
    },
};

const ROUNDS: usize = 5;
const SIZE_BYTES: u64 = 128 << 20;

const KINDS: [&str; 3] = ["fsync", "fdatasync", "o_dsync write"];

/// The tracer's expected account of where a file lies.
struct Expected<'a> {
    filesystem: &'a str,
    /// `None` if the file is on no disk.
    disk: Option<&'a str>,
    kinds: &'a [&'a str],
}

/// Syncs a file and keeps it open, so that the tracer can look up its name.
fn sync(kind: &str, path: &Path) -> Result<File> {
    let mut options = File::options();
    options.create(true).append(true);
    if kind == "o_dsync write" {
        options.custom_flags(libc::O_DSYNC);
    }
    let mut file = options.open(path)?;
    for round in 0..ROUNDS {
        file.write_all(&[round as u8; 4096])?;
        match kind {
            "fsync" => file.sync_all()?,
            "fdatasync" => file.sync_data()?,
            _ => {}
        }
    }
    Ok(file)
}

/// Syncs files in a directory, and checks that each sync is seen once, with its process,
/// its path, and the disk that it waits for.
fn count(session: &mut Session, folder: &Path, expected: &Expected<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    for kind in expected.kinds {
        let path = folder.join(kind.replace(' ', "-"));
        own_syncs(session);
        let file =
            sync(kind, &path).with_context(|| format!("{kind} on {}", expected.filesystem))?;
        let syncs = own_syncs(session);
        drop(file);
        if syncs.len() != ROUNDS || syncs.iter().any(|sync| sync.kind != *kind) {
            let kinds: Vec<_> = syncs.iter().map(|sync| sync.kind).collect();
            let what = format!("of {ROUNDS} {kind} calls, these were seen: {kinds:?}");
            tally.short.push(Shortfall::unseen(what, kind, expected.filesystem));
            continue;
        }
        tally.syncs += ROUNDS;
        if let Some(wrong) = syncs.iter().find(|sync| !phases_add_up(sync)) {
            bail!("the phases of a {kind} do not add up: {wrong:?}");
        }
        tally.short.extend(misplaced(session, &syncs, &path, expected.disk));
        let SlowSync { device, phases, .. } = &syncs[ROUNDS - 1];
        tally.notes.push(format!("{kind} on `{device}` is {}", longest_phase(phases)));
    }
    Ok(tally)
}

fn misplaced(
    session: &mut Session,
    syncs: &[SlowSync],
    path: &Path,
    disk: Option<&str>,
) -> Vec<Shortfall> {
    let mut short = Vec::new();
    if let Some(sync) = syncs.iter().find(|sync| Path::new(&sync.path) != path) {
        let what = format!("the file of a {} is shown as `{}`", sync.kind, sync.path);
        short.push(Shortfall::wrong(what));
    }
    let snapshot = session.snapshot();
    let victim = snapshot.victims.iter().find(|victim| Path::new(&victim.path) == path);
    let shown = victim.and_then(|v| v.disk).map(|at| snapshot.disks[at].name.as_str());
    if disk.is_some() && shown != disk {
        let what = format!("`{}` waits for {disk:?}, and {shown:?} is shown", path.display());
        short.push(Shortfall::wrong(what));
    }
    short
}

fn longest_phase(phases: &Phases) -> String {
    let longest = phases.named().into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    longest.map_or_else(String::new, |(phase, seconds)| {
        format!("mostly {} ({:.1} ms)", phase.name(), seconds * 1e3)
    })
}

fn overlay(session: &mut Session) -> Result<Tally> {
    let disk = lab_disk(Filesystem::Ext4);
    meet(session, disk.name())?;
    let folders = ["bottom", "upper", "work"].map(|name| disk.mountpoint().join(name));
    for folder in &folders {
        fs::create_dir(folder)?;
    }
    let [bottom, upper, work] = folders.map(|folder| folder.display().to_string());
    let options = format!("lowerdir={bottom},upperdir={upper},workdir={work}");
    let mounted = Mounted::mount("overlay", "overlay", &options)?;
    let expected = Expected { filesystem: "overlay", disk: Some(disk.name()), kinds: &KINDS };
    count(session, mounted.path(), &expected)
}

fn tmpfs(session: &mut Session) -> Result<Tally> {
    let mounted = Mounted::mount("tmpfs", "tmpfs", "")?;
    // An O_DSYNC write has nothing to wait for there, so it makes no sync.
    let expected = Expected { filesystem: "tmpfs", disk: None, kinds: &KINDS[..2] };
    count(session, mounted.path(), &expected)
}

fn f2fs(session: &mut Session) -> Result<Tally> {
    let disk = loop_device(SIZE_BYTES)?;
    // f2fs loads its checksums by this name; if they are built in, there is no such
    // module.
    let _ = MODPROBE.run(&["-q", "crypto-crc32"]);
    MKFS_F2FS.run(&["-q", "-f", &disk.path()])?;
    let mounted = Mounted::mount(&disk.path(), "f2fs", "")?;
    meet(session, &disk.name)?;
    let expected = Expected { filesystem: "f2fs", disk: Some(&disk.name), kinds: &KINDS };
    count(session, mounted.path(), &expected)
}

/// An ext4 image that a FUSE process serves.
fn fuse(session: &mut Session) -> Result<Tally> {
    let disk = lab_disk(Filesystem::Ext4);
    meet(session, disk.name())?;
    let image = disk.mountpoint().join("fuse.img");
    File::create(&image)?.set_len(SIZE_BYTES)?;
    let image = image.display().to_string();
    MKFS_EXT4.run(&["-q", "-F", &image])?;
    let served = Served::start(&image)?;
    let expected = Expected { filesystem: "fuse", disk: None, kinds: &KINDS[..2] };
    count(session, served.folder.path(), &expected)
}

/// A filesystem in user space, unmounted and ended when dropped.
struct Served {
    process: Process,
    folder: TempDir,
}

impl Served {
    fn start(image: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tracer-guest-").tempdir()?;
        let mut command = FUSE2FS.command()?;
        command.args(["-f", "-o", "rw,fakeroot", image]).arg(folder.path());
        let process = Process::spawn(command, &Cgroup::none())?;
        let served = Self { process, folder };
        for _ in 0..300 {
            let mounts = fs::read_to_string("/proc/self/mounts")?;
            if mounts.contains(&*served.folder.path().to_string_lossy()) {
                return Ok(served);
            }
            if let Some(ended) = served.process.ended() {
                bail!("`fuse2fs` ended ({}): {}", ended.status, last_line(&ended.stderr));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("`fuse2fs` does not mount")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let unmounted = tracer_lab::folder::unmount(self.folder.path());
        if let Err(error) = unmounted {
            eprintln!("guest: {error:#}");
        }
        // It ends by itself once it is unmounted; its image is closed then.
        drop(self.process.wait(Duration::from_secs(30)));
    }
}

#[test]
fn cells() {
    need_guest!();
    let mut cells = Cells::default();
    traced(|session| {
        let mut cell = |session: &mut Session, name, lack: Option<String>, make: Make| match lack {
            Some(lack) => cells.skip(name, &lack),
            None => {
                let tally = make(session);
                cells.report(name, session, tally);
            }
        };
        cell(session, "overlay on ext4", lack_of(&["overlay"], &[]), overlay);
        cell(session, "tmpfs", None, tmpfs);
        cell(session, "f2fs", lack_of(&["f2fs"], &[MKFS_F2FS]), f2fs);
        cell(session, "fuse (fuse2fs on ext4)", lack_of(&["fuse"], &[FUSE2FS]), fuse);
    });
    cells.end();
}

type Make = fn(&mut Session) -> Result<Tally>;
