//! Writes files to a tar, and a tar to gzip, with the same bytes each time.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
};

use anyhow::{Context as _, Result, bail};
use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};

/// A file, with its path from the root of the archive, without a leading slash.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    pub path: String,
    pub mode: u32,
    pub content: Vec<u8>,
}

impl File {
    /// A file that anybody may read.
    pub fn plain(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode: 0o644, content: content.into() }
    }

    /// A file that anybody may run.
    pub fn program(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode: 0o755, content: content.into() }
    }
}

/// The directories of `files`, each before its contents.
fn folders(files: &[File]) -> BTreeSet<&str> {
    let above = |path: &'_ str| path.rsplit_once('/').map(|(folder, _)| folder.len());
    let mut found = BTreeSet::new();
    for file in files {
        let mut path = file.path.as_str();
        while let Some(length) = above(path) {
            path = &path[..length];
            found.insert(path);
        }
    }
    found
}

/// Writes a tar of `files` and of their directories.
///
/// # Errors
///
/// A path is absolute, leads upwards or occurs twice.
pub fn tar(files: &[File], epoch: u32) -> Result<Vec<u8>> {
    let mut sorted: Vec<_> = files.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    if let Some([twice, _]) = sorted.windows(2).find_map(|pair| match pair {
        [a, b] if a.path == b.path => Some([a, b]),
        _ => None,
    }) {
        bail!("the archive has `{}` twice", twice.path);
    }
    let mut builder = tar::Builder::new(Vec::new());
    for folder in folders(files) {
        let mut header = header(0o755, 0, epoch, EntryType::Directory);
        builder
            .append_data(&mut header, format!("{folder}/"), io::empty())
            .with_context(|| format!("failed to pack the directory `{folder}`"))?;
    }
    for File { path, mode, content } in sorted {
        let mut header = header(*mode, content.len() as u64, epoch, EntryType::Regular);
        builder
            .append_data(&mut header, path, content.as_slice())
            .with_context(|| format!("failed to pack `{path}`"))?;
    }
    builder.into_inner().context("failed to end the archive")
}

fn header(mode: u32, size: u64, epoch: u32, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(epoch.into());
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Compresses the bytes with gzip, without a name and a time.
///
/// # Errors
///
/// None in memory, according to the library's documentation.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes).context("failed to compress")?;
    encoder.finish().context("failed to compress")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn entries(tar: &[u8]) -> Vec<(String, u32, u64, u64, String)> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let header = entry.header();
            let path = entry.path().unwrap().display().to_string();
            let owner = header.uid().unwrap() + header.gid().unwrap();
            (path, header.mode().unwrap(), owner, header.mtime().unwrap(), text)
        });
        entries.collect()
    }

    #[test]
    fn folders_come_before_files_and_all_is_in_order_of_one_time_and_of_user_0() {
        let files = [File::plain("usr/share/b", "text"), File::program("usr/bin/a", "run")];
        let packed = tar(&files, 7).unwrap();
        let entry = |path: &str, mode, text: &str| (path.to_owned(), mode, 0, 7, text.to_owned());
        assert_eq!(
            entries(&packed),
            [
                entry("usr/", 0o755, ""),
                entry("usr/bin/", 0o755, ""),
                entry("usr/share/", 0o755, ""),
                entry("usr/bin/a", 0o755, "run"),
                entry("usr/share/b", 0o644, "text"),
            ]
        );
        let [b, a] = files;
        assert_eq!(packed, tar(&[a, b], 7).unwrap());
    }

    #[test]
    fn a_path_of_any_length_keeps_its_name() {
        let long = format!("a/{}", "x".repeat(300));
        let packed = tar(&[File::plain(&long, "1")], 0).unwrap();
        assert_eq!(entries(&packed).last().unwrap().0, long);
    }

    #[test]
    fn a_path_that_leaves_the_archive_or_is_there_twice_is_refused() {
        for path in ["../a", "a/../../b"] {
            assert!(tar(&[File::plain(path, "")], 0).is_err(), "{path}");
        }
        let twice = [File::plain("a", "1"), File::plain("a", "2")];
        assert!(tar(&twice, 0).unwrap_err().to_string().contains("`a` twice"));
    }

    #[test]
    fn gzip_has_no_time_and_no_name_in_its_head() {
        let packed = gzip(b"text").unwrap();
        // Magic, deflate, no flags, no time: https://www.rfc-editor.org/rfc/rfc1952#page-5
        assert_eq!(packed[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }
}
