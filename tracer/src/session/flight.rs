//! The flight recorder of a session: when a part of its recording begins, and ends.

use tracer_kernel::clock::monotonic_ns;
use tracer_node::disks::boot_id;
use tracer_recording::{
    line::{Began, Mark},
    recorder::{Grain, Part, Recorder},
    segments::flight::Flight,
};

use super::{HALF, Session};

impl Session {
    /// From here on everything that snapshots are made of is also handed to a flight
    /// recorder.
    pub fn begin_flight(&mut self, flight: Flight) {
        self.flight = Some(flight);
    }

    /// Ends the part where nothing can be written any more.
    pub(super) fn stop_if_stopped(&mut self) {
        if self.flight.as_ref().is_some_and(Flight::is_stopped) {
            self.recorder = None;
        }
    }

    /// Begins a part of the recording where the flight recorder asks for one; once a
    /// second, after the tick: what was learnt up to it is then not in the lines that follow.
    pub(super) fn begin_part_if_asked(&mut self) {
        let Some(flight) = &self.flight else { return };
        let Some(began) = flight.take_wish() else {
            if self.recorder.is_none() {
                flight.pass_second();
            }
            return;
        };
        let (before, now) = (self.recorder.take(), monotonic_ns());
        if let Some(before) = before.filter(|_| began == Began::Rotation) {
            // Lines that do not reach the disk are counted there.
            let _ = before.end(now, &mut self.scene);
        }
        self.scene.actors.mark_all_changed();
        let part = Part { began: Some(began), boot: boot_id(&self.root), grain: Grain::Thinned };
        // Its sink never fails.
        self.recorder = Recorder::begin_part(flight.segment(), &self.scene, now, part).ok();
        // A disk that was too slow or too full gets no more than it must.
        if let Some(recorder) = self.recorder.as_mut().filter(|_| began == Began::Rotation) {
            recorder.checkpoint(&self.scene, &mut self.files);
        }
    }

    /// Half a second after a tick, writes what there is of the second.
    pub(super) fn record_half_if_due(&mut self, now: u64) {
        let is_due = now.saturating_sub(self.ticked_ns) >= HALF.as_nanos() as u64;
        if !is_due || self.half_of_ns == self.ticked_ns {
            return;
        }
        self.half_of_ns = self.ticked_ns;
        if let Some(recorder) = self.recorder.as_mut().filter(|_| self.flight.is_some()) {
            recorder.half(now);
        }
    }

    /// Whether a mark would be kept now.
    pub fn is_recorded(&self) -> bool {
        self.recorder.is_some()
    }

    /// Writes what somebody did or saw into the recording; `seen` if the tracer saw it.
    pub fn mark(&mut self, text: String, uid: u32, seen: bool) {
        if let Some(recorder) = &mut self.recorder {
            recorder.mark(&Mark { at_ns: monotonic_ns(), text, uid, seen });
        }
    }

    /// Returns sentences on the flight recorder since this was called last.
    pub fn take_flight_notes(&self) -> Vec<String> {
        self.flight.as_ref().map_or_else(Vec::new, Flight::take_notes)
    }

    /// Writes what is left, and waits until it is written, except on a disk that hangs.
    /// True if all of it was written.
    pub fn end_flight(&mut self) -> bool {
        // As above.
        let _ = self.end_recording();
        self.flight.take().is_none_or(Flight::end)
    }
}
