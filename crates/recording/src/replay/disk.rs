//! A disk's line of a recording.

use tracer_ebpf::{
    histogram::BUCKETS,
    record::{ACCOUNTS, op},
};
use tracer_engine::{
    blame::OwnerId,
    usage::{Learnt, Rate},
};
use tracer_scene::{DiskState, Histograms};

use super::{
    Replay,
    windows::{KnownOwner, find_owner},
};
use crate::{
    checks::{LIST, check_texts},
    line::{Disk, DiskOwner, Latency},
};

pub const DISKS: usize = 4096;

impl Replay {
    pub(super) fn disk(&mut self, line: Disk) -> Result<(), String> {
        let known_as = line.known_as.as_deref().unwrap_or_default();
        check_texts(&[&line.name, known_as, &line.scheduler])?;
        let work = line.work.as_ref().map_or(0, Vec::len);
        if line.owners.len() > ACCOUNTS || work > LIST || line.latencies.len() > op::COUNT {
            return Err("a disk of too many owners".to_owned());
        }
        let known = self.scene.disks.iter().position(|disk| disk.index == line.index);
        let at = match known {
            Some(at) => at,
            None if self.scene.disks.len() >= DISKS => return Err("too many disks".to_owned()),
            None => {
                self.scene.disks.push(DiskState { index: line.index, ..DiskState::default() });
                self.scene.disks.len() - 1
            }
        };
        let rates: Result<Vec<_>, _> = line.owners.iter().map(|row| self.rate(row)).collect();
        let disk = &mut self.scene.disks[at];
        disk.rates = rates?;
        let is_stale = self.stale_disks.contains(&line.index);
        self.stale_disks.retain(|index| *index != line.index);
        if disk.name != line.name || is_stale {
            // Another disk has the index now, or its sums are written again.
            disk.latencies.clear();
            disk.work.clear();
        }
        (disk.name, disk.scheduler, disk.in_flight) = (line.name, line.scheduler, line.in_flight);
        disk.known_as = line.known_as;
        disk.reference_at = line.reference_at;
        disk.uncounted_share = line.uncounted_share;
        if let Some(work) = line.work {
            let learnt = work.into_iter().map(|known| Learnt {
                op: known.op as u16,
                bytes_up_to: known.bytes_up_to,
                ns: known.ns,
                samples: known.samples,
            });
            disk.work = learnt.collect();
        }
        line.latencies.iter().try_for_each(|latency| add_latency(disk, latency))
    }

    fn rate(&self, row: &DiskOwner) -> Result<Rate, String> {
        let KnownOwner { actor, op, .. } = find_owner(&self.owners, row.owner)?;
        Ok(Rate {
            owner: OwnerId(row.owner),
            actor,
            op,
            tgid: row.tgid,
            requests_per_second: row.requests_per_second,
            bytes_per_second: row.bytes_per_second,
            in_flight: row.in_flight,
            requests_total: row.requests_total,
            bytes_total: row.bytes_total,
        })
    }
}

fn add_latency(disk: &mut DiskState, latency: &Latency) -> Result<(), String> {
    let code = latency.op as u16;
    if usize::from(code) >= op::COUNT {
        return Err(format!("requests of the kind `{}`", latency.op.name()));
    }
    let at = disk.latencies.iter().position(|of| of.op == code).unwrap_or_else(|| {
        let fresh = Histograms { op: code, bytes: 0, queue: [0; BUCKETS], device: [0; BUCKETS] };
        disk.latencies.push(fresh);
        disk.latencies.len() - 1
    });
    let of = &mut disk.latencies[at];
    of.bytes = of.bytes.saturating_add(latency.bytes);
    for (counts, grown) in [(&mut of.queue, &latency.queue), (&mut of.device, &latency.device)] {
        for (bucket, count) in grown {
            let place = counts.get_mut(*bucket as usize);
            let place = place.ok_or_else(|| format!("a bucket {bucket} of {BUCKETS}"))?;
            *place = place.saturating_add(*count);
        }
    }
    // As a session has them.
    disk.latencies.sort_by_key(|of| of.op);
    Ok(())
}
