//! Disks that carry: kernel threads submit the requests that serve them, so that below
//! them nobody is seen behind the work. Their own bios have owners.
//!
//! Most targets of device mapper are so (crypt, thin, snapshot, raid, …), and all arrays
//! that keep copies or parity. The others pass a bio on in its submitter's thread, where
//! the request below has the same owner.
//!
//! Only an ioctl says what targets a mapped disk is made of. It is asked for the targets'
//! state, not for the table, where dm-crypt's may hold its key, and without a flush. A
//! pool whose metadata is being committed lets it wait all the same, so it is an errand;
//! if no answer comes in time, the names are looked at that cryptsetup and LVM give.

use std::{
    fs::File,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{LazyLock, Mutex, PoisonError},
};

use super::layers::links;
use crate::{
    devices,
    errand::{Answer, Errands},
    tree::Tree,
};

/// Few threads wait for device mapper, however often the disks are looked at.
static ERRANDS: LazyLock<Mutex<Errands>> = LazyLock::new(Mutex::default);

/// Targets whose bios go on in the submitter's thread.
const PASSING: [&[u8]; 10] = [
    b"linear",
    b"striped",
    b"multipath",
    b"thin-pool",
    b"flakey",
    b"dust",
    b"switch",
    b"unstriped",
    b"error",
    b"zero",
];

/// Levels of md whose threads submit requests.
const CARRYING_LEVELS: [&str; 5] = ["raid1", "raid10", "raid4", "raid5", "raid6"];

/// Whether the disk of this name and number is one.
pub(super) fn carries(tree: &Tree, name: &str, device: u32) -> bool {
    if name.starts_with("dm-") {
        return match ask(tree, device) {
            Some(target) => !target.is_empty() && !PASSING.contains(&target.as_slice()),
            None => is_named_so(tree, name),
        };
    }
    let level = tree.read_line(format!("sys/block/{name}/md/level"));
    level.is_some_and(|level| CARRYING_LEVELS.contains(&level.trim()))
}

/// The kind of a mapped disk's first target; empty where it has none yet, `None` where it
/// cannot be asked or does not answer in time.
fn ask(tree: &Tree, device: u32) -> Option<Vec<u8>> {
    let control =
        File::options().read(true).write(true).open(tree.at("dev/mapper/control")).ok()?;
    let mut errands = ERRANDS.lock().unwrap_or_else(PoisonError::into_inner);
    match errands.run(move || first_target(&control, device)) {
        Answer::Done(target) => Some(target?.0),
        Answer::Late(_) | Answer::None => None,
    }
}

/// The kind of a mapped disk's first target, and what it says of its state. This may
/// wait for a pool.
pub(super) fn status(tree: &Tree, device: u32) -> Option<(Vec<u8>, Vec<u8>)> {
    let control = tree.at("dev/mapper/control");
    first_target(&File::options().read(true).write(true).open(control).ok()?, device)
}

/// Whether cryptsetup made it, or it is a volume of a thin pool that LVM made.
fn is_named_so(tree: &Tree, name: &str) -> bool {
    let uuid = |name: &str| tree.read_line(format!("sys/block/{name}/dm/uuid"));
    let is_pool = |name: &str| uuid(name).is_some_and(|uuid| uuid.trim_end().ends_with("-tpool"));
    uuid(name).is_some_and(|uuid| uuid.starts_with("CRYPT-"))
        || links(tree, name).iter().filter_map(|link| link.file_name()?.to_str()).any(is_pool)
}

/// `struct dm_ioctl` and one `struct dm_target_spec` behind it, with room for the text of
/// the target's state: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/dm-ioctl.h>.
/// If the text is longer, the kernel leaves out the target's name as well.
#[derive(Clone, Copy)]
#[repr(C)]
struct TableStatus {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event: u32,
    padding: u32,
    device: u64,
    names: [u8; 264],
    first_sector: u64,
    sectors: u64,
    status: i32,
    next: u32,
    target: [u8; 16],
    text: [u8; TEXT_BYTES],
}

/// Caches and arrays of many members say most: some hundred bytes.
const TEXT_BYTES: usize = 16 << 10;
const HEADER_BYTES: u32 = 312;
const _: () = assert!(std::mem::offset_of!(TableStatus, first_sector) == HEADER_BYTES as usize);
const _: () = assert!(size_of::<TableStatus>() == HEADER_BYTES as usize + 40 + TEXT_BYTES);

/// DM_TABLE_STATUS: `_IOWR(0xfd, 12, struct dm_ioctl)`.
/// C libraries differ in the type of it.
const TABLE_STATUS: libc::Ioctl = (3 << 30 | HEADER_BYTES << 16 | 0xfd << 8 | 12) as libc::Ioctl;

/// DM_NOFLUSH_FLAG.
const FLAGS: u32 = 1 << 11;

fn first_target(control: &File, device: u32) -> Option<(Vec<u8>, Vec<u8>)> {
    let (major, minor) = (u64::from(devices::major(device)), u64::from(devices::minor(device)));
    let mut status = TableStatus {
        version: [4, 0, 0],
        data_size: size_of::<TableStatus>() as u32,
        data_start: HEADER_BYTES,
        target_count: 0,
        open_count: 0,
        flags: FLAGS,
        event: 0,
        padding: 0,
        // As new_encode_dev does:
        // <https://elixir.bootlin.com/linux/v6.12/source/include/linux/kdev_t.h>.
        device: minor & 0xff | major << 8 | (minor & !0xff) << 12,
        names: [0; 264],
        first_sector: 0,
        sectors: 0,
        status: 0,
        next: 0,
        target: [0; 16],
        text: [0; TEXT_BYTES],
    };
    // SAFETY: the kernel reads and writes `data_size` bytes at most, which is the size of
    // the struct, and any bytes are one.
    let done = unsafe { libc::ioctl(control.as_fd().as_raw_fd(), TABLE_STATUS, &raw mut status) };
    if done != 0 {
        return None;
    }
    let up_to_nul = |bytes: &[u8]| bytes.split(|&byte| byte == 0).next().map(<[u8]>::to_vec);
    Some((up_to_nul(&status.target)?, up_to_nul(&status.text)?))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn arrays_with_copies_or_parity_carry() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::new(root.path());
        for (name, level, expected) in [
            ("md0", "raid1\n", true),
            ("md1", "raid6\n", true),
            ("md2", "raid0\n", false),
            ("md3", "linear\n", false),
            ("md127", "container\n", false),
        ] {
            let folder = root.path().join(format!("sys/block/{name}/md"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("level"), level).unwrap();
            assert_eq!(carries(&tree, name, 9 << 20), expected, "{name}");
        }
        assert!(!carries(&tree, "sda", 8 << 20));
    }

    #[test]
    fn without_device_mapper_to_ask_a_name_of_cryptsetup_shows_it() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::new(root.path());
        for (name, uuid, expected) in [
            ("dm-0", "CRYPT-LUKS2-0f0e-luks\n", true),
            ("dm-1", "LVM-abc\n", false),
            ("dm-2", "\n", false),
            ("dm-3", "LVM-abc-tpool\n", false),
        ] {
            let folder = root.path().join(format!("sys/block/{name}/dm"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("uuid"), uuid).unwrap();
            assert_eq!(carries(&tree, name, 253 << 20), expected, "{name}");
        }
        let slaves = root.path().join("sys/block/dm-1/slaves");
        fs::create_dir_all(&slaves).unwrap();
        symlink("../../dm-3", slaves.join("dm-3")).unwrap();
        assert!(carries(&tree, "dm-1", 253 << 20), "a thin volume");
    }
}
