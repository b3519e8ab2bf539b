//! Device numbers as the kernel keeps them.
//!
//! Kernel records carry the kernel's own `dev_t` (major · 2^20 + minor), which
//! is not what `stat` returns.

use crate::tree::number;

const MINOR_BITS: u32 = 20;

/// The kernel's number of a device.
pub const fn join(major: u32, minor: u32) -> u32 {
    major << MINOR_BITS | minor & ((1 << MINOR_BITS) - 1)
}

pub const fn major(device: u32) -> u32 {
    device >> MINOR_BITS
}

pub const fn minor(device: u32) -> u32 {
    device & ((1 << MINOR_BITS) - 1)
}

/// The kernel's number of what `stat` calls `st_dev`.
pub fn from_stat(st_dev: u64) -> u32 {
    join(libc::major(st_dev), libc::minor(st_dev))
}

/// `8:1`, as mountinfo and sysfs write it.
pub fn parse(text: &[u8]) -> Option<u32> {
    let colon = text.iter().position(|&b| b == b':')?;
    Some(join(number(&text[..colon])?, number(&text[colon + 1..])?))
}

/// Whether a device number stands for a filesystem without a block device.
pub const fn is_anonymous(device: u32) -> bool {
    major(device) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_way_there_and_back() {
        let device = join(259, 70_000);
        assert_eq!((major(device), minor(device)), (259, 70_000));
        assert_eq!(from_stat(libc::makedev(259, 70_000)), device);
        assert_eq!(parse(b"259:70000"), Some(device));
        for nonsense in [&b""[..], b":", b"8", b"8:", b"8:x", b"-1:1", b"\xff:1"] {
            assert_eq!(parse(nonsense), None);
        }
    }
}
