//! The root filesystem with which a guest starts.
//!
//! It consists of three archives: the programs (one per architecture) and the
//! modules (one per kernel), which are both kept between runs, and the files of this
//! boot, which are written each time.

use std::{collections::BTreeMap, fs::File, io, path::Path};

use anyhow::{Context as _, Result};

use crate::{arch::Arch, archive::Archive, files, modules};

/// The files of one boot.
pub struct Contents<'a> {
    pub tracer: &'a Path,
    pub tests: Option<&'a Path>,
    /// `v1` or `v2`.
    pub cgroup: &'a str,
    /// The tests' environment.
    pub environment: &'a BTreeMap<String, String>,
    /// The tests' command line.
    pub arguments: &'a [String],
    /// A script that is run instead of the tests.
    pub script: Option<&'a Path>,
}

/// Writes the root filesystem of one boot.
pub fn write_root(
    arch: Arch,
    archives: &[&Path],
    contents: &Contents<'_>,
    to: &Path,
) -> Result<()> {
    let own = to.with_extension("own");
    let mut archive = Archive::create(&own)?;
    archive.file("init", 0o755, include_bytes!("init.sh"))?;
    for folder in ["usr", "usr/local", "usr/local/bin", "root"] {
        archive.folder(folder)?;
    }
    archive.file("usr/local/bin/mkfs.xfs", 0o755, include_bytes!("mkfs.xfs.sh"))?;
    archive.copy("root/tracer", contents.tracer)?;
    if let Some(tests) = contents.tests {
        archive.copy("root/tests", tests)?;
    }
    if let Some(script) = contents.script {
        archive.copy("root/script", script)?;
    }
    let arguments =
        contents.arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let plan: String = [
        ("SERIAL", arch.serial()),
        ("CGROUP", contents.cgroup),
        ("MODULES", modules::LOADED),
        ("ARGUMENTS", &arguments),
    ]
    .map(|(name, value)| format!("{name}={}\n", quoted(value)))
    .concat();
    archive.file("root/plan", 0o644, plan.as_bytes())?;
    let environment: String = contents
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={}\n", quoted(value)))
        .collect();
    archive.file("root/environment", 0o644, environment.as_bytes())?;
    archive.finish()?;

    let mut whole =
        File::create(to).with_context(|| format!("failed to create `{}`", to.display()))?;
    for part in archives.iter().copied().chain([own.as_path()]) {
        let mut file =
            File::open(part).with_context(|| format!("failed to open `{}`", part.display()))?;
        let length = io::copy(&mut file, &mut whole).context("failed to write the guest's root")?;
        // The kernel expects the next archive at the beginning of a word.
        let padding = length.next_multiple_of(4) - length;
        io::copy(&mut io::Read::take(io::repeat(0), padding), &mut whole)
            .context("failed to write the guest's root")?;
    }
    files::remove(&own)
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(quoted("it's a b"), r"'it'\''s a b'");
    }
}
