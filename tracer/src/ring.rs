//! Reads the ring of records.
//!
//! The kernel submits without waking anybody, so the reader polls, and is woken
//! early only when a quarter of the ring is waiting or a disk is unknown.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::{MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};
use tracer_ebpf::record::{DiskUnknown, LowerWindow, NO_DISK, StackedRecord, SyncRecord};
use zerocopy::FromBytes as _;

/// How long a record may lie in the ring before anybody looks.
pub const POLL: Duration = Duration::from_millis(100);

/// What the kernel sends.
pub enum Record<'a> {
    /// A sync, and what was in flight on further disks meanwhile.
    Sync(&'a SyncRecord, &'a [LowerWindow]),
    DiskUnknown(DiskUnknown),
    /// Of a size that no record has: a kernel object of another version.
    Foreign,
}

/// The reading end.
pub struct RingReader {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl RingReader {
    /// Needs a tokio runtime with IO enabled.
    ///
    /// # Errors
    ///
    /// When the ring's descriptor cannot be watched.
    pub fn new(ring: RingBuf<MapData>) -> Result<Self> {
        // SAFETY: the ring owns its map's descriptor, never changes it, and
        // closes it only when dropped, which is after it is deregistered.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .context("failed to watch the ring of records")?;
        Ok(Self { ring })
    }

    /// Waits until the kernel asks to be read, at most for [`POLL`].
    pub async fn wait(&self) {
        if let Ok(Ok(mut guard)) = tokio::time::timeout(POLL, self.ring.readable()).await {
            guard.clear_ready();
        }
    }

    /// Hands over every record that is there, in place.
    pub fn drain(&mut self, mut take: impl FnMut(Record<'_>)) {
        while let Some(item) = self.ring.get_mut().next() {
            take(decode(&item));
        }
    }
}

/// Length tells what a record is; both kinds are whole words at an aligned
/// address.
pub fn decode(bytes: &[u8]) -> Record<'_> {
    if let Ok(record) = SyncRecord::ref_from_bytes(bytes) {
        Record::Sync(record, &[])
    } else if let Ok(record) = StackedRecord::ref_from_bytes(bytes) {
        let known = record.lower.iter().take_while(|window| window.disk != u64::from(NO_DISK));
        Record::Sync(&record.sync, &record.lower[..known.count()])
    } else if let Ok(unknown) = DiskUnknown::read_from_bytes(bytes) {
        Record::DiskUnknown(unknown)
    } else {
        Record::Foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_another_length_are_foreign() {
        assert!(matches!(decode(&[0; 7]), Record::Foreign));
        assert!(matches!(decode(&[]), Record::Foreign));
        assert!(matches!(decode(&[0; size_of::<SyncRecord>() + 8]), Record::Foreign));
    }
}
