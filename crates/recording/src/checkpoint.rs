//! A line with the engine's knowledge of a victim, as it is where a segment begins.

use serde::{Deserialize, Serialize};
use tracer_engine::{checkpoint, victim::VictimKey};

use crate::comm::Comm;

/// The states of all victims together take no more bytes at the start of a segment. Twelve busy
/// victims on one disk, each with the others as suspects, took 70 KiB.
pub const MAX_BYTES: usize = 128 << 10;

/// One victim. Its file was named before.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Checkpoint {
    pub cgroup: u64,
    pub comm: Comm,
    pub file: u32,
    pub device: u32,
    pub rotations: u64,
    pub shape: u64,
    pub check: u64,
    /// The engine's bytes in hexadecimal, which gzip makes half as long.
    pub state: String,
}

impl Checkpoint {
    pub fn of(one: &checkpoint::Checkpoint) -> Self {
        let VictimKey { cgroup, comm, file, device } = one.key;
        let (rotations, shape, check) = (one.rotations, one.shape, one.check);
        let state = to_hex(&one.state);
        Self { cgroup, comm: Comm(comm), file, device, rotations, shape, check, state }
    }

    /// As the engine takes it, with the reader's number of the file; `None` if its state is no
    /// state.
    pub fn to_engine(&self, file: u32) -> Option<checkpoint::Checkpoint> {
        let Self { cgroup, comm: Comm(comm), device, rotations, shape, check, .. } = *self;
        let key = VictimKey { cgroup, comm, file, device };
        let state = from_hex(&self.state)?;
        Some(checkpoint::Checkpoint { key, rotations, shape, check, state })
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn to_hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| DIGITS.iter().position(|digit| *digit == byte).map(|at| at as u8);
    let (pairs, rest) = text.as_bytes().as_chunks();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    bytes.collect::<Option<_>>().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_from_the_digits_that_were_written() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(to_hex(&[0, 10, 0xf3]), "000af3");
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        for other in ["0", "0g", "0A", "é"] {
            assert_eq!(from_hex(other), None, "{other}");
        }
    }
}
