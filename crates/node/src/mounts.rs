//! Parses mounts from `/proc/<tgid>/mountinfo`.
//!
//! The bytes of that file go in, its fields come out, borrowed: a node with
//! many pods has thousands of lines. Devices are as the kernel numbers them,
//! the *filesystem's* own: on btrfs `stat` shows another number for each
//! subvolume, this file does not.

use std::{
    borrow::Cow,
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use crate::{
    devices,
    tree::{Tree, number},
};

/// The size up to which such a file is read: more than any node has, at 150 bytes a line.
pub const MAX_BYTES: usize = 8 << 20;

/// One mount; paths are still escaped as the kernel does (see [`unescape`]).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mount<'a> {
    pub id: u32,
    pub device: u32,
    /// The directory of the filesystem that is mounted.
    pub root: &'a [u8],
    pub point: &'a [u8],
    /// The options of this mount alone, such as `noatime`.
    pub own_options: &'a [u8],
    pub fstype: &'a [u8],
    pub source: &'a [u8],
    /// The filesystem's own options, such as the controllers of a cgroup v1.
    pub options: &'a [u8],
}

/// Reads the mounts that a process sees; `process` is a tgid or `self`.
pub fn read(tree: &Tree, process: &str) -> io::Result<Vec<u8>> {
    tree.read_up_to(format!("proc/{process}/mountinfo"), MAX_BYTES)
}

/// The mounts in the bytes of a mountinfo file; lines that make no sense are
/// passed over.
pub fn parse(mountinfo: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.split(|&b| b == b'\n').filter_map(parse_line)
}

/// `36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/sda1 rw`
fn parse_line(line: &[u8]) -> Option<Mount<'_>> {
    let mut fields = line.split(|&b| b == b' ');
    let id = number(fields.next()?)?;
    let device = devices::parse(fields.nth(1)?)?;
    let root = fields.next()?;
    let (point, own_options) = (fields.next()?, fields.next()?);
    // Any number of tags up to the dash.
    fields.find(|&field| field == b"-")?;
    let (fstype, source) = (fields.next()?, fields.next()?);
    let options = fields.next().unwrap_or_default();
    Some(Mount { id, device, root, point, own_options, fstype, source, options })
}

/// The path of a mount point for us. If the host's tree lies below a root of ours,
/// our mount table has the host's mounts with that root.
pub fn locate(tree: &Tree, point: &[u8]) -> PathBuf {
    let point = unescape(point);
    let point = Path::new(OsStr::from_bytes(&point));
    if point.starts_with(tree.root()) { point.to_path_buf() } else { tree.at(point) }
}

/// Undoes the kernel's `\040` for spaces, tabs, newlines and backslashes.
pub fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(field);
    }
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = (first == b'\\').then(|| octal(after)).flatten();
        out.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    Cow::Owned(out)
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = str::from_utf8(digits.get(..3)?).ok()?;
    u8::from_str_radix(digits, 8).ok().filter(|_| !digits.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_with_and_without_tags() {
        let text = b"36 35 98:1 /a /b\\040c rw,noatime shared:1 master:2 - ext4 /dev/sda1 rw\n\
            nonsense\n\
            41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let mounts: Vec<_> = parse(text).collect();
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].id, mounts[0].device), (36, 98 << 20 | 1));
        assert_eq!((mounts[0].root, mounts[0].source), (&b"/a"[..], &b"/dev/sda1"[..]));
        assert_eq!((mounts[0].options, mounts[1].options), (&b"rw"[..], &b"rw"[..]));
        assert_eq!(unescape(mounts[0].point), &b"/b c"[..]);
        assert_eq!((mounts[1].point, mounts[1].fstype), (&b"/sys/fs/cgroup"[..], &b"cgroup2"[..]));
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        for (escaped, plain) in
            [("\\04", "\\04"), ("\\+40", "\\+40"), ("\\777", "\\777"), ("\\134n", "\\n")]
        {
            assert_eq!(unescape(escaped.as_bytes()), plain.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in any::<Vec<u8>>()) {
            for mount in parse(&bytes) {
                unescape(mount.point);
            }
            unescape(&bytes);
        }
    }
}
