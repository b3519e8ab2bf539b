//! A recording's parts: the segments of a directory, one after another.

use std::collections::VecDeque;

use super::{OVERLAP_NS, Refused, Replay, begin, check_stamp, shifted};
use crate::{
    breaks::{Break, Why},
    checks::{TEXT_BYTES, check_kernel, check_time},
    line::{Header, Line, Stamp},
    reader::{Damage, Reader},
    segments::folder,
};

impl Replay {
    /// Continues with the next segment that can be read; returns false after the last.
    pub(super) fn next_segment(&mut self, mut damage: Option<Damage>) -> bool {
        while let Some(path) = self.rest.as_mut().and_then(VecDeque::pop_front) {
            let opened = folder::open(&path).map_err(|error| begin(error.to_string()));
            let opened = opened.and_then(|file| {
                let mut reader = Reader::new(file)?;
                let first = reader.first_line(|stamp| match check_stamp(stamp) {
                    Ok(()) => Ok(()),
                    Err(Refused::Version(version)) => {
                        Err(begin(format!("it is in version {version}")))
                    }
                    Err(Refused::Foreign(why)) => Err(begin(why)),
                })?;
                Ok((reader, first))
            });
            match opened {
                Ok((reader, Line::Header(header))) => {
                    self.reader = reader;
                    match self.begin_part(header, damage.take().map(|damage| damage.to_string())) {
                        Ok(()) => return true,
                        Err(why) => damage = Some(self.reader.damage(why)),
                    }
                }
                // A recorder that runs may have dropped it meanwhile.
                Ok(_) => damage = Some(begin("it has no header".to_owned())),
                Err(why) => damage = Some(why),
            }
        }
        if let Some(damage) = damage {
            let now = self.now();
            let (at_ns, why) = (self.now_ns, Why::Damaged(damage.to_string()));
            self.breaks.add(Break { at_ns, from: now, to: now, why });
        }
        false
    }

    /// Continues with a part that names everything again, perhaps of another boot.
    pub(super) fn begin_part(
        &mut self,
        header: Header,
        damage: Option<String>,
    ) -> Result<(), String> {
        check_stamp(Some(Stamp { format: header.format, version: header.version }))
            .map_err(|_| "a recording of another version begins".to_owned())?;
        check_time(header.started_ns)?;
        if header.boot.as_ref().is_some_and(|boot| boot.len() > TEXT_BYTES) {
            return Err("a boot with too long a name".to_owned());
        }
        let Header { started_ns, clock, kernel, began, boot, .. } = header;
        check_kernel(&kernel)?;
        let from = self.now();
        let is_same_boot = match (&self.boot, &boot) {
            (Some(before), Some(now)) => before == now,
            _ => !clock.is_stepped_from(self.part_clock),
        };
        let went_on = started_ns
            .checked_add_signed(self.shift_ns)
            .is_some_and(|at| is_same_boot && at.saturating_add(OVERLAP_NS) >= self.now_ns);
        if !went_on {
            // The wall's clock says how much later it is.
            let later_ns = clock.ahead_of(self.part_clock).saturating_add(self.shift_ns);
            let at_ns = started_ns.checked_add_signed(later_ns).unwrap_or(0).max(self.now_ns);
            let shift_ns = at_ns.cast_signed().checked_sub(started_ns.cast_signed());
            self.shift_ns = shift_ns.unwrap_or(0);
        }
        let started_ns = shifted(started_ns, self.shift_ns)?;
        check_time(started_ns)?;
        self.now_ns = self.now_ns.max(started_ns);
        self.scene.set_clock(clock.behind(self.shift_ns));
        let to = self.scene.clock().unix_seconds(self.now_ns);
        let why = Why::of(began, is_same_boot, self.ended, damage, to - from);
        if let Some(why) = why {
            self.breaks.add(Break { at_ns: self.now_ns, from, to, why });
        }
        (self.part_clock, self.boot, self.ended) = (clock, boot, false);
        self.ticked_ns = None;
        self.scene.kernel = kernel;
        self.scene.hanging.clear();
        self.hanging = Default::default();
        self.unfinished = 0;
        self.scene.stacks.clear();
        self.stacks.clear();
        self.stale_disks = self.scene.disks.iter().map(|disk| disk.index).collect();
        self.owners.clear();
        self.names.files.clear();
        self.names.devices.clear();
        Ok(())
    }
}
