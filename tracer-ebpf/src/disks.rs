//! The table of disks' descriptions. It is looked up without a hash map, because
//! every hook on a block request looks one up.
//!
//! User space alone writes it. A disk lies at the first free one of a few places
//! that its device number names. The description of one that is gone is taken
//! away: its number may be another's.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::Disk;

/// Places in the table.
pub const PLACES: u32 = 1 << PLACE_BITS;

const PLACE_BITS: u32 = 11;

/// Places at which a disk may lie.
pub const PROBES: u32 = 4;

/// One place. A device of 0 is a free one.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
#[repr(C)]
pub struct Described {
    /// As the kernel numbers it (major << 20 | minor).
    pub device: u32,
    pub disk: Disk,
}

/// The place to look at in the `probe`th step. Multiplied by 2^32 over the
/// golden ratio, numbers in sequence lie far apart.
#[inline(always)]
pub const fn place(device: u32, probe: u32) -> u32 {
    (device.wrapping_mul(0x9e37_79b1) >> (32 - PLACE_BITS)).wrapping_add(probe) % PLACES
}

const _: () = assert!(size_of::<Described>() == 32);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Numbers of this node's disks, and of disks with many drivers.
    #[test]
    fn five_hundred_disks_find_a_place() {
        let loops = (0..256).map(|minor| (7 << 20) | minor);
        let mappers = (0..128).map(|minor| (253 << 20) | minor);
        let scsi = (0..64).map(|disk| (8 << 20) | (disk * 16));
        let nvme = (0..64).map(|disk| (259 << 20) | disk);
        let mut table = BTreeMap::new();
        for device in loops.chain(mappers).chain(scsi).chain(nvme) {
            let free = (0..PROBES).map(|at| place(device, at)).find(|at| !table.contains_key(at));
            table.insert(free.expect("a free place"), device);
        }
        assert!(table.keys().all(|at| *at < PLACES));
    }
}
