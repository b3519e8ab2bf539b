//! The disks' descriptions for the kernel programs: user space's side of
//! [`tracer_ebpf::disks`].

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap as KernelMap, MapData};
use tracer_ebpf::{
    disks::{Described, PLACES, PROBES, place},
    record::Disk,
};

use super::pods::Plain;
use crate::load::Programs;

/// The kernel programs' table of disks, and the requests to fill it.
pub struct DescribedDisks {
    table: Array<MapData, Plain<Described>>,
    /// Disks that the kernel programs asked for.
    unknown: KernelMap<MapData, u32, u32>,
    /// The devices in the table, by place; 0 for none.
    devices: Box<[u32; PLACES as usize]>,
}

impl DescribedDisks {
    /// # Errors
    ///
    /// When a map was taken before.
    pub fn new(programs: &mut Programs) -> Result<Self> {
        Ok(Self {
            table: Array::try_from(programs.take_map("DISKS")?)?,
            unknown: KernelMap::try_from(programs.take_map("UNKNOWN_DISKS")?)?,
            devices: Box::new([0; PLACES as usize]),
        })
    }

    /// From here on the kernel programs know this disk.
    ///
    /// # Errors
    ///
    /// When its places are taken.
    pub fn describe(&mut self, name: &str, device: u32, disk: Disk) -> Result<()> {
        let refused = || format!("failed to describe disk `{name}` to the kernel programs");
        let mut places = (0..PROBES).map(|probe| place(device, probe));
        let at = places
            .find(|at| [0, device].contains(&self.devices[*at as usize]))
            .context("its places in the table are taken by other disks")
            .with_context(refused)?;
        self.table.set(at, Plain(Described { device, disk }), 0).with_context(refused)?;
        self.devices[at as usize] = device;
        // Absent unless the kernel programs had asked.
        let _ = self.unknown.remove(&device);
        Ok(())
    }

    /// From here on the kernel programs do not know what has this number, and ask
    /// for it when they meet it.
    pub fn forget(&mut self, device: u32) {
        for at in (0..PROBES).map(|probe| place(device, probe)) {
            let known = &mut self.devices[at as usize];
            if *known == device && self.table.set(at, Plain(Described::default()), 0).is_ok() {
                *known = 0;
            }
        }
        let _ = self.unknown.remove(&device);
    }
}
