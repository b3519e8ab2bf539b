//! ext4 on devices of all kinds: syncs are counted on the filesystem's device, and block
//! requests on the underlying disks that have requests.

use std::path::Path;

use anyhow::Result;
use tracer::session::Session;
use tracer_lab::tool::Tool;

use super::{
    devices::{self, DMSETUP, Device, MDADM, Mounted, NullBlk},
    lack_of, need_guest,
};
use crate::{
    live::traced,
    matrix::{
        cells::{Cells, Tally},
        requests::{compare, meet, mixed_load, nothing_leaks, trim},
        ways::{Ground, WAYS, count_way},
    },
};

const SIZE_BYTES: u64 = 256 << 20;
const ROUNDS: usize = 3;

/// A kind of device, and what is needed to make one.
struct Stack {
    name: &'static str,
    modules: &'static [&'static str],
    tools: &'static [Tool],
    make: fn() -> Result<Device>,
}

const STACKS: [Stack; 8] = [
    Stack {
        name: "dm-linear",
        modules: &["dm-mod"],
        tools: &[DMSETUP],
        make: || devices::linear(SIZE_BYTES),
    },
    Stack {
        name: "dm-crypt",
        modules: &["dm-mod", "dm-crypt", "xts"],
        tools: &[DMSETUP],
        make: || devices::crypt(SIZE_BYTES),
    },
    Stack {
        name: "dm-thin",
        modules: &["dm-mod", "dm-thin-pool"],
        tools: &[DMSETUP],
        make: || devices::thin(SIZE_BYTES),
    },
    Stack {
        name: "md-raid1",
        modules: &["md-mod", "raid1"],
        tools: &[MDADM],
        make: || devices::raid1(SIZE_BYTES),
    },
    Stack {
        name: "null_blk",
        modules: &["configfs", "null_blk"],
        tools: &[],
        make: || devices::null_blk(NullBlk::default()),
    },
    Stack {
        name: "null_blk without discards",
        modules: &["configfs", "null_blk"],
        tools: &[],
        make: || devices::null_blk(NullBlk { discards: false, ..NullBlk::default() }),
    },
    Stack {
        name: "scsi_debug",
        modules: &["sd_mod"],
        tools: &[],
        make: || devices::scsi_debug(std::time::Duration::from_micros(100), 64),
    },
    Stack {
        name: "partition",
        modules: &["loop"],
        tools: &[],
        make: || devices::partition(SIZE_BYTES),
    },
];

/// Every way to sync and requests of all classes that the device takes.
fn count(session: &mut Session, device: &Device) -> Result<Tally> {
    let mounted = Mounted::ext4(&device.path())?;
    for disk in &device.metal {
        meet(session, disk)?;
    }
    let metal: Vec<_> = device.metal.iter().map(String::as_str).collect();
    let mut tally = Tally::default();
    let ground = Ground { filesystem: "ext4", mountpoint: mounted.path(), device: &device.name };
    let (requests, short) = compare(session, &metal, |session| {
        for way in &WAYS {
            match count_way(session, ground, way, ROUNDS)? {
                Some(short) => tally.short.push(short),
                None => tally.syncs += ROUNDS,
            }
        }
        mixed_load(mounted.path(), &device.path())?;
        if takes_discards(device)? { trim(mounted.path()) } else { Ok(()) }
    })?;
    tally.requests = requests;
    tally.short.extend(short);
    for disk in metal {
        nothing_leaks(session, disk)?;
    }
    Ok(tally)
}

fn takes_discards(device: &Device) -> Result<bool> {
    // A partition accepts the same requests as its disk.
    let disk = [&device.name, &device.metal[0]]
        .into_iter()
        .map(|name| format!("/sys/block/{name}/queue/discard_max_bytes"))
        .find(|path| Path::new(path).exists());
    Ok(disk.is_some_and(|path| std::fs::read_to_string(path).is_ok_and(|text| text.trim() != "0")))
}

#[test]
fn cells() {
    need_guest!();
    let mut cells = Cells::default();
    traced(|session| {
        for stack in &STACKS {
            let cell = format!("ext4 on {}", stack.name);
            if let Some(lack) = lack_of(stack.modules, stack.tools) {
                cells.skip(&cell, &lack);
                continue;
            }
            match (stack.make)() {
                Ok(device) => {
                    let tally = count(session, &device);
                    cells.report(&cell, session, tally);
                }
                Err(error) => cells.fail(&cell, &format!("{error:#}")),
            }
        }
        virtio(session, &mut cells);
    });
    cells.end();
}

fn virtio(session: &mut Session, cells: &mut Cells) {
    // Without the modules there is no such disk; this is reported below.
    let _ = lack_of(&["virtio-pci", "virtio-blk"], &[]);
    let disks = devices::virtio().expect("sysfs is mounted");
    if disks.is_empty() {
        cells.skip("ext4 on virtio", "this machine has no unused virtio disk");
    }
    for disk in disks {
        let with = if takes_discards(&disk).unwrap_or(false) { "with" } else { "without" };
        let tally = count(session, &disk);
        cells.report(&format!("ext4 on virtio {with} discards"), session, tally);
    }
}
