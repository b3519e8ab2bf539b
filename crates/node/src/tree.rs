//! The node's files below a root: `/` on a live system, a fixture in tests,
//! the host's tree in a container.
//!
//! Owns how pseudo files are opened and how much of them is read: never more
//! than the caller has room for, and, for the small ones, without the heap.
//! Knows nothing of what the files say. Everything in them is untrusted bytes;
//! [`text`] makes bounded strings of them.

use std::{
    ffi::OsStr,
    fmt,
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    str,
};

/// No path below the root that the tracer reads is longer.
const PATH_BYTES: usize = 512;

#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path under which the node's `path` lies for us; a leading slash changes nothing.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Reads the beginning of a file into `buf`, without allocating: what is
    /// checked again every few seconds is read this way.
    pub fn read<'b>(&self, path: fmt::Arguments<'_>, buf: &'b mut [u8]) -> io::Result<&'b [u8]> {
        let mut place = [0; PATH_BYTES];
        let mut rest = &mut place[..];
        rest.write_all(self.root.as_os_str().as_bytes())?;
        write!(rest, "/{path}")?;
        let left = rest.len();
        let mut file = File::open(OsStr::from_bytes(&place[..PATH_BYTES - left]))?;
        let mut len = 0;
        // Pseudo files may come in pieces.
        while len < buf.len() {
            match file.read(&mut buf[len..]) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&buf[..len])
    }

    /// Reads up to `max` bytes of a file.
    pub fn read_up_to(&self, path: impl AsRef<Path>, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.at(path))?.take(max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The first line of a small file; `None` where there is no such file.
    pub fn read_line(&self, path: impl AsRef<Path>) -> Option<String> {
        let bytes = self.read_up_to(path, 4096).ok()?;
        let line = bytes.split(|&b| b == b'\n').next()?;
        Some(text(line, 4096))
    }

    /// A small file that holds one number.
    pub fn read_number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.read_line(path)?.trim().parse().ok()
    }
}

/// Untrusted bytes as a string of at most `max` bytes.
pub fn text(bytes: &[u8], max: usize) -> String {
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into_owned();
    text.truncate(text.floor_char_boundary(max));
    text
}

/// A number in ASCII.
pub fn number<N: str::FromStr>(bytes: &[u8]) -> Option<N> {
    str::from_utf8(bytes).ok()?.parse().ok()
}

/// Writes a file below `root`, with the folders on the way to it.
#[cfg(test)]
pub(crate) fn put(root: &tempfile::TempDir, path: &str, text: &str) {
    let path = root.path().join(path);
    std::fs::create_dir_all(path.parent().expect("it lies below `root`")).unwrap();
    std::fs::write(path, text).unwrap();
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn reading_stops_where_the_room_ends() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("proc")).unwrap();
        fs::write(dir.path().join("proc/x"), "0123456789\nsecond\n").unwrap();
        let tree = Tree::new(dir.path());
        let mut buf = [0; 4];
        assert_eq!(tree.read(format_args!("proc/{}", "x"), &mut buf).unwrap(), b"0123");
        assert_eq!(tree.read_up_to("/proc/x", 5).unwrap(), b"01234");
        assert_eq!(tree.read_line("proc/x").unwrap(), "0123456789");
        assert_eq!(tree.read_number("proc/x"), Some(123_456_789));
        assert_eq!(tree.read_number("proc/y"), None);
    }

    #[test]
    fn a_path_that_does_not_fit_is_an_error() {
        let tree = Tree::new(Path::new("/"));
        let long = "x".repeat(PATH_BYTES);
        assert!(tree.read(format_args!("{long}"), &mut [0; 1]).is_err());
    }

    #[test]
    fn text_is_bounded_even_where_bytes_grow() {
        assert_eq!(text(b"abc", 2), "ab");
        assert_eq!(text("äö".as_bytes(), 3), "ä");
        assert!(text(&[0xff; 100], 100).len() <= 100);
    }
}
