//! Block devices that only a virtual machine may make: each is a guard that
//! undoes what made it.
//!
//! There is no udev in the machine, so devices are known by the names that the
//! kernel gives them in `/dev`.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount};
use tempfile::TempDir;
use tracer_lab::{
    disk::default_dir,
    folder::unmount,
    tool::{LOSETUP, MKFS_EXT4, Tool},
};

use super::MODPROBE;

pub const DMSETUP: Tool = Tool { name: "dmsetup", package: "dmsetup" };
pub const MDADM: Tool = Tool { name: "mdadm", package: "mdadm" };
const RMMOD: Tool = Tool { name: "rmmod", package: "kmod" };
pub const MKFS_F2FS: Tool = Tool { name: "mkfs.f2fs", package: "f2fs-tools" };
pub const FUSE2FS: Tool = Tool { name: "fuse2fs", package: "fuse2fs" };

const SECTOR_BYTES: u64 = 512;
const CONFIGFS: &str = "/sys/kernel/config";
/// Those that the module makes when it is loaded have the smaller numbers.
const FIRST_NULL_BLK: usize = 1000;

/// A block device. Dropping it removes it with everything that it is made of.
pub struct Device {
    /// `dm-0`
    pub name: String,
    /// The disks below that have requests of their own.
    pub metal: Vec<String>,
    undo: Vec<Undo>,
    // The devices below are removed after the device itself.
    _below: Vec<Device>,
    _image: Option<TempDir>,
}

enum Undo {
    Run(Tool, Vec<String>),
    Write(PathBuf, &'static str),
    RemoveFolder(PathBuf),
}

impl Drop for Device {
    fn drop(&mut self) {
        for undo in self.undo.drain(..).rev() {
            let done = match undo {
                Undo::Run(tool, args) => run(tool, &args),
                Undo::Write(path, text) => write(&path, text),
                Undo::RemoveFolder(path) => fs::remove_dir(&path).map_err(Into::into),
            };
            if let Err(error) = done {
                eprintln!("guest: `{}` is left behind: {error:#}", self.name);
            }
        }
    }
}

impl Device {
    /// `/dev/dm-0`
    pub fn path(&self) -> String {
        format!("/dev/{}", self.name)
    }

    fn of(name: &str, below: Vec<Device>, undo: Vec<Undo>) -> Self {
        let metal = below.iter().flat_map(|device| device.metal.clone()).collect();
        Self { name: name.to_owned(), metal, undo, _below: below, _image: None }
    }

    fn into_metal(mut self) -> Self {
        self.metal = vec![self.name.clone()];
        self
    }

    fn sectors(&self) -> Result<u64> {
        let path = match self.name.split_once('p') {
            Some((disk, _)) if disk.starts_with("loop") => {
                format!("/sys/block/{disk}/{}/size", self.name)
            }
            _ => format!("/sys/block/{}/size", self.name),
        };
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read `{path}`"))?;
        text.trim().parse().with_context(|| format!("`{path}` holds no number"))
    }
}

fn run(tool: Tool, args: &[String]) -> Result<()> {
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    tool.run(&args).map(drop)
}

pub fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .with_context(|| format!("failed to write `{text}` to `{}`", path.display()))
}

/// Chooses a scheduler, or fails with an error that names it. No list of
/// modules names those that are built in on all kernels.
pub fn choose_scheduler(queue: &Path, scheduler: &str) -> Result<(), String> {
    // Its module need not have the same name, and the kernel asks for that one.
    let _ = MODPROBE.run(&["-q", scheduler]);
    fs::write(queue.join("scheduler"), scheduler)
        .map_err(|error| format!("no scheduler `{scheduler}`: {error}"))
}

/// Lets a scheduler hold many requests; by default it holds at most twice as many as the
/// device accepts. Some kernels pass a change on to their schedulers late, so only the
/// second change takes effect.
pub fn deepen(queue: &Path) -> Result<()> {
    // Writeback throttling would hold requests back before they exist.
    let throttling = queue.join("wbt_lat_usec");
    if throttling.exists() {
        write(&throttling, "0")?;
    }
    ["63", "64"].iter().try_for_each(|requests| write(&queue.join("nr_requests"), requests))
}

/// A loop device over a sparse file.
pub fn loop_device(size_bytes: u64) -> Result<Device> {
    loop_over(size_bytes, |_| Ok(()))
}

fn loop_over(size_bytes: u64, prepare: impl FnOnce(&File) -> Result<()>) -> Result<Device> {
    let folder = tempfile::Builder::new().prefix("tracer-guest-").tempdir_in(default_dir()?)?;
    let image = folder.path().join("disk.img");
    let file = File::create_new(&image)
        .with_context(|| format!("failed to make `{}`", image.display()))?;
    file.set_len(size_bytes)?;
    prepare(&file)?;
    let path = LOSETUP.run(&["--find", "--show", "--partscan", &image.to_string_lossy()])?;
    let undo = Undo::Run(LOSETUP, vec!["--detach".into(), path.clone()]);
    let mut device = Device::of(path.trim_start_matches("/dev/"), Vec::new(), vec![undo]);
    device._image = Some(folder);
    Ok(device.into_metal())
}

/// The only partition of a loop device.
pub fn partition(size_bytes: u64) -> Result<Device> {
    const FIRST_SECTOR: u32 = 2048;
    let disk = loop_over(size_bytes, |image| {
        // One entry of a master boot record: Linux, from there to the end.
        let sectors = u32::try_from(size_bytes / SECTOR_BYTES)? - FIRST_SECTOR;
        let mut entry = [0u8; 16];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&FIRST_SECTOR.to_le_bytes());
        entry[12..].copy_from_slice(&sectors.to_le_bytes());
        image.write_all_at(&entry, 446)?;
        image.write_all_at(&[0x55, 0xaa], 510).context("failed to write the partition table")
    })?;
    let name = format!("{}p1", disk.name);
    await_node(&name)?;
    Ok(Device::of(&name, vec![disk], Vec::new()))
}

/// A device of the device mapper: `target` is all of the table's line behind
/// the device's length, by the path of what is below.
fn mapped(name: &str, sectors: u64, target: &str, below: Vec<Device>) -> Result<Device> {
    let table = format!("0 {sectors} {target}");
    DMSETUP.run(&["create", "--noudevrules", "--noudevsync", name, "--table", &table])?;
    let remove = ["remove", "--noudevrules", "--noudevsync", "--retry", name];
    let undo = vec![Undo::Run(DMSETUP, remove.map(str::to_owned).to_vec())];
    // From here on a guard removes it.
    let mut device = Device::of(name, below, undo);
    device.name = DMSETUP.run(&["info", "--columns", "--noheadings", "-o", "blkdevname", name])?;
    await_node(&device.name)?;
    Ok(device)
}

pub fn linear(size_bytes: u64) -> Result<Device> {
    linear_on(loop_device(size_bytes)?)
}

pub fn linear_on(below: Device) -> Result<Device> {
    let target = format!("linear {} 0", below.path());
    mapped("tracer-linear", below.sectors()?, &target, vec![below])
}

pub fn crypt(size_bytes: u64) -> Result<Device> {
    crypt_on(loop_device(size_bytes)?)
}

pub fn crypt_on(below: Device) -> Result<Device> {
    // Older kernels make xts of it, and their own call for modules finds none
    // where there is no /sbin/modprobe.
    let _ = MODPROBE.run(&["-q", "ecb"]);
    let target = format!("crypt aes-xts-plain64 {} 0 {} 0", "5a".repeat(64), below.path());
    mapped("tracer-crypt", below.sectors()?, &target, vec![below])
}

/// A thin volume in a pool that has its metadata and its data on loop devices.
pub fn thin(size_bytes: u64) -> Result<Device> {
    thin_on(loop_device(size_bytes)?)
}

pub fn thin_on(data: Device) -> Result<Device> {
    const METADATA_BYTES: u64 = 8 << 20;
    let metadata = loop_device(METADATA_BYTES)?;
    let sectors = data.sectors()?;
    // Blocks of 64 KiB; the last word is a watermark that is never met.
    let target = format!("thin-pool {} {} 128 0", metadata.path(), data.path());
    let pool = mapped("tracer-pool", sectors, &target, vec![metadata, data])?;
    DMSETUP.run(&["message", "tracer-pool", "0", "create_thin 0"])?;
    let target = format!("thin {} 0", pool.path());
    mapped("tracer-thin", sectors, &target, vec![pool])
}

/// A mirror of two loop devices.
pub fn raid1(size_bytes: u64) -> Result<Device> {
    raid1_on(vec![loop_device(size_bytes)?, loop_device(size_bytes)?])
}

pub fn raid1_on(members: Vec<Device>) -> Result<Device> {
    array(members, &["--build", "--level=1"])
}

/// An array with metadata on its members, which `mdadm` requires for this level.
pub fn raid5_on(members: Vec<Device>) -> Result<Device> {
    array(members, &["--create", "--level=5", "--metadata=1.2", "--bitmap=none"])
}

fn array(members: Vec<Device>, kind: &[&str]) -> Result<Device> {
    const NAME: &str = "md127";
    let path = format!("/dev/{NAME}");
    let count = format!("--raid-devices={}", members.len());
    let paths: Vec<_> = members.iter().map(Device::path).collect();
    let (mode, rest) = kind.split_first().context("an array is built or created")?;
    let mut args = vec![*mode, &path, &count, "--assume-clean", "--run"];
    args.extend(rest);
    args.extend(paths.iter().map(String::as_str));
    MDADM.run(&args)?;
    let undo = Undo::Run(MDADM, vec!["--stop".into(), path.clone()]);
    let device = Device::of(NAME, members, vec![undo]);
    await_node(NAME)?;
    Ok(device)
}

/// A device of the device mapper that holds every bio back for a time that can be set.
pub fn delayed(name: &str, below: Device) -> Result<Device> {
    let target = format!("delay {} 0 0", below.path());
    mapped(name, below.sectors()?, &target, vec![below])
}

/// Sets how long a [`delayed`] device of this name holds bios back.
pub fn set_delay(name: &str, delay: Duration) -> Result<()> {
    let table = DMSETUP.run(&["table", name])?;
    let mut words: Vec<_> = table.split_whitespace().map(str::to_owned).collect();
    *words.get_mut(5).context("a table of dm-delay has six words")? = delay.as_millis().to_string();
    DMSETUP.run(&["reload", name, "--table", &words.join(" ")])?;
    DMSETUP.run(&["suspend", name])?;
    DMSETUP.run(&["resume", "--noudevrules", "--noudevsync", name]).map(drop)
}

/// A disk in memory, on which every request takes a given time.
#[derive(Clone, Copy, Debug)]
pub struct NullBlk {
    pub delay: Duration,
    /// The number of hardware queues, at most that of possible CPUs.
    pub queues: u32,
    /// Requests at the same time, on each queue.
    pub depth: u32,
    pub size_mib: u32,
    pub discards: bool,
}

impl Default for NullBlk {
    fn default() -> Self {
        Self { delay: Duration::ZERO, queues: 1, depth: 64, size_mib: 256, discards: true }
    }
}

pub fn null_blk(wanted: NullBlk) -> Result<Device> {
    let nullb = Path::new(CONFIGFS).join("nullb");
    if !nullb.exists() {
        // If this fails it is mounted already, or the next step reports what is missing.
        let none: Option<&str> = None;
        let _ = mount(Some("configfs"), CONFIGFS, Some("configfs"), MsFlags::empty(), none);
    }
    let folder = nullb.join(format!("nullb{}", FIRST_NULL_BLK + fs::read_dir(&nullb)?.count()));
    fs::create_dir(&folder).with_context(|| format!("failed to make `{}`", folder.display()))?;
    let before = disks()?;
    let mut device = Device::of("nullb", Vec::new(), vec![Undo::RemoveFolder(folder.clone())]);
    // Requests are completed by a timer each, or at once if there is no delay.
    let irqmode = if wanted.delay.is_zero() { "0" } else { "2" };
    for (attribute, value) in [
        ("size", wanted.size_mib.to_string()),
        ("memory_backed", "1".to_owned()),
        ("queue_mode", "2".to_owned()),
        ("irqmode", irqmode.to_owned()),
        ("completion_nsec", wanted.delay.as_nanos().to_string()),
        ("submit_queues", wanted.queues.to_string()),
        ("hw_queue_depth", wanted.depth.to_string()),
        ("discard", u8::from(wanted.discards).to_string()),
        ("power", "1".to_owned()),
    ] {
        write(&folder.join(attribute), &value)?;
    }
    device.undo.push(Undo::Write(folder.join("power"), "0"));
    device.name = find_new_disk(&before)?;
    Ok(device.into_metal())
}

/// A disk of memory behind the SCSI layer, with UNMAP.
pub fn scsi_debug(delay: Duration, depth: u32) -> Result<Device> {
    let before = disks()?;
    let delay = format!("ndelay={}", delay.as_nanos());
    let depth = format!("max_queue={depth}");
    // Pieces of 1 MiB: the kernel splits a discard.
    let unmap = ["lbpu=1", "unmap_max_blocks=2048"];
    MODPROBE.run(&[&["scsi_debug", "dev_size_mb=256", &delay, &depth][..], &unmap].concat())?;
    let undo = vec![Undo::Run(RMMOD, vec!["scsi_debug".into()])];
    let mut device = Device::of("scsi_debug", Vec::new(), undo);
    device.name = find_new_disk(&before)?;
    Ok(device.into_metal())
}

/// The virtio disks of the machine that nobody uses.
pub fn virtio() -> Result<Vec<Device>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let free = |name: &String| name.starts_with("vd") && !mounts.contains(&format!("/dev/{name}"));
    let disks = disks()?.into_iter().filter(free);
    Ok(disks.map(|name| Device::of(&name, Vec::new(), Vec::new()).into_metal()).collect())
}

fn disks() -> Result<BTreeSet<String>> {
    let entries = fs::read_dir("/sys/block").context("failed to list `/sys/block`")?;
    Ok(entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
}

fn find_new_disk(before: &BTreeSet<String>) -> Result<String> {
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        // Loop devices appear when one is asked for.
        let mut now = disks()?.into_iter();
        if let Some(name) = now.find(|name| !before.contains(name) && !name.starts_with("loop")) {
            await_node(&name)?;
            return Ok(name);
        }
        sleep(Duration::from_millis(50));
    }
    bail!("no new disk appears")
}

pub fn await_node(name: &str) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(30);
    while !Path::new("/dev").join(name).exists() {
        if Instant::now() > until {
            bail!("`/dev/{name}` does not appear");
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A filesystem on a device, unmounted when dropped.
pub struct Mounted {
    folder: TempDir,
}

impl Mounted {
    /// Makes a filesystem that leaves no work for the background.
    pub fn ext4(device: &str) -> Result<Self> {
        let options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        MKFS_EXT4.run(&["-q", "-F", "-E", options, device])?;
        Self::mount(device, "ext4", "")
    }

    pub fn mount(source: &str, filesystem: &str, options: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tracer-guest-").tempdir()?;
        mount(Some(source), folder.path(), Some(filesystem), MsFlags::empty(), Some(options))
            .with_context(|| format!("failed to mount `{source}` as {filesystem}"))?;
        Ok(Self { folder })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = unmount(self.folder.path()) {
            eprintln!("guest: {error:#}");
        }
    }
}
