//! Cells of the matrix: a disk, a neighbour, and a change of both.
//!
//! In a cell of the matrix the victim shares a disk with a neighbour. A cell is a kind of disk,
//! a kind of neighbour, that neighbour's load, and a change: at one moment the device, the
//! neighbour, or both become different. A play is a cell with numbers.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use serde::{Deserialize, Serialize};
use tracer_disk_model::{Cache, FastWrites, Head, Model, Request as Asked, Service};

use crate::{
    dice::Dice,
    timeline::{Does, SECOND, Stream, stalls},
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum DiskKind {
    Servers,
    RequestLimit,
    ByteLimit,
    Credits,
    Cache,
    Head,
    Flash,
}

pub const DISKS: [DiskKind; 7] = [
    DiskKind::Servers,
    DiskKind::RequestLimit,
    DiskKind::ByteLimit,
    DiskKind::Credits,
    DiskKind::Cache,
    DiskKind::Head,
    DiskKind::Flash,
];

#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Device {
    Unchanged,
    Slower3,
    Slower20,
    FlushOnly,
    Stalls,
    RequestLimit,
    ByteLimit,
}

pub const DEVICES: [Device; 7] = [
    Device::Unchanged,
    Device::Slower3,
    Device::Slower20,
    Device::FlushOnly,
    Device::Stalls,
    Device::RequestLimit,
    Device::ByteLimit,
];

#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Neighbour {
    Unchanged,
    Halved,
    Doubled,
    Gone,
}

pub const NEIGHBOURS: [Neighbour; 4] =
    [Neighbour::Unchanged, Neighbour::Halved, Neighbour::Doubled, Neighbour::Gone];

pub const KINDS: [Does; 4] = [Does::Read, Does::Write, Does::SyncingWrite, Does::BufferedWrite];

/// The neighbour's load, in per cent of what it reaches alone with 32 requests in flight.
pub const LOADS: [u64; 3] = [5, 20, 50];

#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Cell {
    pub disk: DiskKind,
    pub device: Device,
    pub neighbour: Neighbour,
    pub does: Does,
    pub load: u64,
}

impl Cell {
    /// Whether the device changes in the same second in which the neighbour asks for more than
    /// ever before: only a quiet moment would show which of them is the cause.
    pub fn is_undecidable(&self) -> bool {
        self.device != Device::Unchanged && self.neighbour == Neighbour::Doubled
    }

    /// Draws any cell.
    pub fn draw(dice: &mut Dice) -> Self {
        Self {
            disk: dice.one(&DISKS),
            device: dice.one(&DEVICES),
            neighbour: dice.one(&NEIGHBOURS),
            does: dice.one(&KINDS),
            load: dice.one(&LOADS),
        }
    }

    /// The cell's values in words, for tables.
    pub fn kinds(&self) -> [String; 5] {
        let disk = match self.disk {
            DiskKind::Servers => "four channels",
            DiskKind::RequestLimit => "limited requests",
            DiskKind::ByteLimit => "limited bytes",
            DiskKind::Credits => "burst credits",
            DiskKind::Cache => "write cache",
            DiskKind::Head => "one head that seeks",
            DiskKind::Flash => "flash",
        };
        let device = match self.device {
            Device::Unchanged => "unchanged",
            Device::Slower3 => "3 times slower",
            Device::Slower20 => "20 times slower",
            Device::FlushOnly => "slower flushes only",
            Device::Stalls => "stalls",
            Device::RequestLimit => "limited requests",
            Device::ByteLimit => "limited bytes",
        };
        let neighbour = match self.neighbour {
            Neighbour::Unchanged => "unchanged",
            Neighbour::Halved => "halved",
            Neighbour::Doubled => "doubled",
            Neighbour::Gone => "gone",
        };
        let does = match self.does {
            Does::Read => "reads",
            Does::Write => "direct writes",
            Does::SyncingWrite => "writes with flushes",
            Does::BufferedWrite => "buffered writes",
            Does::Discard => "discards",
        };
        [
            format!("disk: {disk}"),
            format!("device: {device}"),
            format!("neighbour: {neighbour}"),
            format!("its requests: {does}"),
            format!("its load: {} %", self.load),
        ]
    }
}

/// A disk of a kind while it is well.
fn disk(kind: DiskKind, dice: &mut Dice) -> Model {
    let mut of = |from: f64, to: f64| ms(1).mul_f64(dice.within(from, to));
    let decent = Model {
        channels: 4,
        read: of(0.5, 1.5),
        write: of(0.4, 1.2),
        flush: of(1.0, 3.0),
        bytes_per_second: 2_000_000_000,
        ..Model::default()
    };
    match kind {
        DiskKind::Servers => decent,
        DiskKind::RequestLimit => {
            Model { channels: 16, iops: Some(dice.within(600.0, 2500.0) as u32), ..decent }
        }
        DiskKind::ByteLimit => {
            let bytes_per_second = dice.within(30e6, 150e6) as u64;
            Model { channels: 16, bytes_per_second, ..decent }
        }
        DiskKind::Credits => Model {
            channels: 16,
            iops: Some(dice.within(600.0, 1500.0) as u32),
            credits: dice.within(2e3, 2e4) as u32,
            ..decent
        },
        DiskKind::Cache => {
            let drained_per_second = dice.within(10e6, 60e6) as u64;
            let cache = Some(Cache { bytes: 32 << 20, drained_per_second });
            Model { write: ms(1) / 10, flush: ms(1), cache, ..decent }
        }
        DiskKind::Head => {
            let head = Some(Head { seek: ms(1).mul_f64(dice.within(3.0, 8.0)) });
            let short = ms(1) / 5;
            Model { channels: 1, read: short, write: short, head, ..decent }
        }
        DiskKind::Flash => {
            let fast = FastWrites {
                bytes: dice.within(50e6, 500e6) as u64,
                regained_per_second: dice.within(2e6, 20e6) as u64,
                slower: dice.within(3.0, 8.0) as u32,
            };
            Model { fast_writes: Some(fast), ..decent }
        }
    }
}

/// A disk after the change.
fn change(disk: Model, device: Device, dice: &mut Dice) -> Model {
    match device {
        Device::Unchanged => disk,
        Device::Slower3 => disk.slower(3),
        Device::Slower20 => disk.slower(20),
        Device::FlushOnly => Model { flush: disk.flush * dice.within(10.0, 40.0) as u32, ..disk },
        Device::Stalls => {
            let every = dice.within(1_000.0, 3_000.0) as u64;
            Model { stalls: stalls(every, dice.within(100.0, 400.0) as u64), ..disk }
        }
        Device::RequestLimit => {
            Model { iops: Some(dice.within(100.0, 300.0) as u32), credits: 0, ..disk }
        }
        Device::ByteLimit => Model { bytes_per_second: dice.within(0.4e6, 3e6) as u64, ..disk },
    }
}

/// The number of requests, or of writes with their flush, that such a stream reaches in a
/// second if it is alone, with 32 requests in flight.
fn reach(model: Model, stream: Stream) -> u64 {
    // Saved credits last only for a while, so they do not count.
    let mut service = Service::new(Model { credits: 0, ..model });
    let mut ends = BinaryHeap::new();
    let mut dice = Dice(7);
    let at = |dice: &mut Dice| dice.throw() >> 20;
    let bytes = stream.bytes;
    let ask = |dice: &mut Dice| match stream.does {
        Does::Read => Asked::Read { at: at(dice), bytes },
        _ => Asked::Write { at: at(dice), bytes },
    };
    (0..32).for_each(|_| ends.push(Reverse((0, false))));
    let (mut done, mut steps) = (0, 0);
    while let Some(Reverse((now_ns, must_flush))) = ends.pop() {
        if now_ns > 3 * SECOND || steps > 50_000 {
            return (done * SECOND / now_ns).max(10);
        }
        steps += 1;
        let asked = if must_flush { Asked::Flush } else { ask(&mut dice) };
        done += u64::from(!must_flush);
        let flushes = stream.does == Does::SyncingWrite && !must_flush;
        ends.push(Reverse((service.admit(now_ns, asked), flushes)));
    }
    unreachable!("32 go on forever")
}

/// One timeline's parameters.
#[derive(Clone, Copy, Debug)]
pub struct Play {
    pub cell: Cell,
    /// The values before the change and after it.
    pub disks: [Model; 2],
    pub streams: [Option<Stream>; 2],
    pub seed: u64,
}

impl Play {
    /// Draws any play of any cell.
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice(seed);
        Self::of(Cell::draw(&mut dice), &mut dice)
    }

    /// Draws any play of a cell.
    pub fn of(cell: Cell, dice: &mut Dice) -> Self {
        let before = disk(cell.disk, dice);
        let after = change(before, cell.device, dice);
        let bytes = if cell.disk == DiskKind::ByteLimit || cell.does == Does::BufferedWrite {
            dice.one(&[64 << 10, 128 << 10])
        } else {
            dice.one(&[4 << 10, 4 << 10, 16 << 10])
        };
        let deep = match cell.does {
            Does::BufferedWrite => 32,
            _ => dice.one(&[1, 2, 4, 8]),
        };
        let full = Stream { does: cell.does, bytes, deep, per_second: None };
        let rate = (reach(before, full) * cell.load / 100).max(1);
        let at = |rate: u64| Some(Stream { per_second: Some(rate.max(1)), ..full });
        let now = match cell.neighbour {
            Neighbour::Unchanged => at(rate),
            Neighbour::Halved => at(rate / 2),
            Neighbour::Doubled => at(rate * 2),
            Neighbour::Gone => None,
        };
        let streams = [at(rate), now];
        Self { cell, disks: [before, after], streams, seed: dice.throw() }
    }

    /// Whether more is written than the flash can sustain.
    pub fn is_wearing(&self) -> bool {
        let writes = |stream: &Stream| stream.does != Does::Read;
        let written = self.streams[0]
            .filter(writes)
            .map_or(0, |stream| stream.bytes * stream.per_second.unwrap_or_default());
        self.disks[0]
            .fast_writes
            .is_some_and(|fast| written + VICTIM_BYTES > fast.regained_per_second)
    }
}

/// The largest number of bytes that the victim writes in a second.
const VICTIM_BYTES: u64 = 500_000;
