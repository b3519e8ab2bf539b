//! Reads the ring of records.
//!
//! The kernel submits without waking anybody, so the reader polls, and is woken
//! early only when a quarter of the ring is waiting or a disk is unknown.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use aya::maps::{MapData, RingBuf};
use tracer_ebpf::record::{DiskUnknown, NO_DISK, StackedRecord, SyncRecord, UnderlyingWindow};
use zerocopy::FromBytes as _;

/// A record from the kernel.
pub enum Record<'a> {
    /// A sync, and what was in flight on further disks meanwhile.
    Sync(&'a SyncRecord, &'a [UnderlyingWindow]),
    DiskUnknown(DiskUnknown),
    /// A size that no record has: the kernel object is of another version.
    Foreign,
}

/// The reading end.
pub struct RingReader {
    ring: RingBuf<MapData>,
}

impl RingReader {
    pub fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// Hands over every record that is there, in place.
    pub fn drain(&mut self, mut take: impl FnMut(Record<'_>)) {
        while let Some(item) = self.ring.next() {
            take(decode(&item));
        }
    }
}

/// Readable when the kernel asks for its records to be read.
impl AsFd for RingReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns its map's descriptor, never changes it, and closes
        // it only when dropped, which cannot happen during this borrow.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

/// Decodes a record by its length; both kinds are whole words at an aligned
/// address.
pub fn decode(bytes: &[u8]) -> Record<'_> {
    if let Ok(record) = SyncRecord::ref_from_bytes(bytes) {
        Record::Sync(record, &[])
    } else if let Ok(record) = StackedRecord::ref_from_bytes(bytes) {
        let known = record.underlying.iter().take_while(|window| window.disk != u64::from(NO_DISK));
        Record::Sync(&record.sync, &record.underlying[..known.count()])
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
