//! The self-test: what was loaded must see what it should, before anybody relies on
//! it.

use std::path::Path;

use anyhow::Result;
use tracer_ebpf::record::SyncRecord;
use tracer_kernel::{
    capability::Capability,
    facts::Facts,
    load::Programs,
    maps::ring::{Record, RingReader},
    program::Program,
    selftest,
};

/// Runs the self-test until every selected strategy has been seen to fire, or
/// no other is left.
pub fn run(
    programs: &mut Programs,
    facts: &Facts,
    ring: &mut RingReader,
    proc: &Path,
) -> Result<()> {
    let Some(ground) = selftest::find_ground() else {
        let why = "no writable folder on a block device for the self-test";
        for capability in [Capability::Submit, Capability::Complete, Capability::Sync] {
            programs.mark_untested(capability, why);
        }
        return Ok(());
    };
    if !ground.on_disk {
        let why = "its folder may not be on a disk";
        programs.mark_untested(Capability::Submit, why);
        programs.mark_untested(Capability::Complete, why);
    }
    // On a busy machine some ends of requests are not seen: what fails once may
    // be right, what fails twice in a row is not.
    let mut doubted = None;
    // Two rounds give one strategy up, and there are not so many.
    for _ in 0..16 {
        if programs.missing().is_some() {
            return Ok(());
        }
        let performed = selftest::perform(&ground, proc)?;
        let mut records: Vec<SyncRecord> = Vec::new();
        ring.drain(|record| {
            if let Record::Sync(record, _) = record
                && record.tid == performed.tid
            {
                records.push(*record);
            }
        });
        let result = selftest::judge(&ground, performed, &records);
        let Some((capability, why)) = result.failure else {
            // Optional hooks may be silent too.
            if !result.named {
                programs.strike(Capability::Sync, Program::WriteFileEntry);
            }
            if !result.o_dsync {
                programs.strike(Capability::Sync, Program::VfsRangeEntry);
            }
            return Ok(());
        };
        if doubted.replace(capability) == Some(capability) {
            programs.give_up(facts, capability, &why);
            doubted = None;
        }
    }
    Ok(())
}
