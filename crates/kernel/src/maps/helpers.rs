//! The threads that victims' syncs wait for, as the kernel programs know them.

use std::collections::BTreeMap;

use anyhow::Result;
use aya::maps::{Array, MapData};
use tracer_ebpf::open_sync::HELPERS;

use crate::load::Programs;

/// The kernel programs' table of helpers, by place.
pub struct HelperThreads {
    table: Array<MapData, u32>,
    /// The threads in it, by place.
    there: BTreeMap<u32, u32>,
}

impl HelperThreads {
    /// # Errors
    ///
    /// When the table was taken before.
    pub fn new(programs: &mut Programs) -> Result<Self> {
        let table = Array::try_from(programs.take_map("HELPERS")?)?;
        Ok(Self { table, there: BTreeMap::new() })
    }

    /// From here on these threads are the helpers. Of two with one place the later is
    /// left out: who had its CPU is not known then.
    pub fn set(&mut self, tids: impl IntoIterator<Item = u32>) {
        let mut wanted = BTreeMap::new();
        for tid in tids {
            wanted.entry(tid % HELPERS).or_insert(tid);
        }
        for at in self.there.keys().filter(|at| !wanted.contains_key(at)) {
            let _ = self.table.set(*at, 0, 0);
        }
        for (at, tid) in wanted.iter().filter(|(at, tid)| self.there.get(at) != Some(tid)) {
            let _ = self.table.set(*at, *tid, 0);
        }
        self.there = wanted;
    }
}
