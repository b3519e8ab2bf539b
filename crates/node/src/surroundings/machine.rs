//! Parses the state of the whole machine: stolen CPU time and memory.
//!
//! Bytes in, numbers out.

use tracer_engine::tick::Memory;

use crate::tree::number;

/// CPU time that the hypervisor gave to others since boot, in clock ticks over
/// all CPUs, and how many CPUs there are; of `/proc/stat`.
pub fn parse_steal(stat: &[u8]) -> Option<(u64, u32)> {
    let lines = || stat.split(|&b| b == b'\n').filter(|line| line.starts_with(b"cpu"));
    let mut fields = words(lines().find(|line| line.starts_with(b"cpu "))?);
    // user nice system idle iowait irq softirq steal
    let steal = number(fields.nth(8)?)?;
    Some((steal, lines().count() as u32 - 1))
}

/// Parses `/proc/meminfo`.
pub fn parse_memory(meminfo: &[u8]) -> Option<Memory> {
    let bytes = |name: &[u8]| {
        let line = meminfo.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(name))?;
        number::<u64>(words(line).next()?)?.checked_mul(1024)
    };
    let cached_bytes = [b"Cached:".as_slice(), b"Buffers:"]
        .into_iter()
        .filter_map(bytes)
        .fold(0, u64::saturating_add);
    Some(Memory {
        total_bytes: bytes(b"MemTotal:")?,
        available_bytes: bytes(b"MemAvailable:")?,
        cached_bytes,
    })
}

/// The words of a line.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn steal_is_the_eighth_and_cpus_are_counted() {
        let stat = b"cpu  1 2 3 4 5 6 7 890 0 0\ncpu0 1 2 3 4 5 6 7 800 0 0\n\
            cpu1 0 0 0 0 0 0 0 90 0 0\nintr 5 cpu\nbtime 1\n";
        assert_eq!(parse_steal(stat), Some((890, 2)));
        assert_eq!(parse_steal(b"cpu  1 2 3\n"), None);
        assert_eq!(parse_steal(b""), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let meminfo = b"MemTotal:       8000 kB\nMemFree: 1 kB\nMemAvailable:   4000 kB\n\
            Buffers: 2 kB\nCached: 3 kB\nSwapCached: 1 kB\n";
        let memory =
            Memory { total_bytes: 8_192_000, available_bytes: 4_096_000, cached_bytes: 5120 };
        assert_eq!(parse_memory(meminfo), Some(memory));
        assert_eq!(parse_memory(b"MemTotal: 18446744073709551615 kB\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in any::<Vec<u8>>()) {
            parse_steal(&bytes);
            parse_memory(&bytes);
        }
    }
}
