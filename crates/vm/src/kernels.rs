//! Finds Debian's kernels, and unpacks one of them.
//!
//! A kernel is selected by the beginning of its version (`6.1`, `7`), with `-rt` for
//! the one with PREEMPT_RT. The newest one that can be fetched is used, because package
//! lists name kernels that the archive no longer has. The choice is remembered, so a
//! second run needs no network.

use std::{
    fmt, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::Apt,
    arch::Arch,
    files::{self, Refresh},
};

/// The version that selects a kernel.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Series {
    /// The first numbers of the version.
    numbers: Vec<u64>,
    realtime: bool,
}

impl FromStr for Series {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (version, realtime) = match text.strip_suffix("-rt") {
            Some(version) => (version, true),
            None => (text, false),
        };
        let numbers: Result<Vec<u64>, _> = version.split('.').map(str::parse).collect();
        match numbers {
            Ok(numbers) => Ok(Self { numbers, realtime }),
            Err(_) => bail!("`{text}` is not a kernel version such as `6.1`, `7` or `6.12-rt`"),
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.numbers.iter().map(u64::to_string).collect();
        write!(f, "{}{}", numbers.join("."), if self.realtime { "-rt" } else { "" })
    }
}

/// A kernel on this disk.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub vmlinuz: PathBuf,
    /// The directory that is named after the kernel's release, and contains `modules.dep`.
    pub modules: PathBuf,
}

impl Kernel {
    /// The release that `uname -r` will print.
    pub fn release(&self) -> String {
        self.modules.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A kernel that was built elsewhere.
    pub fn given(vmlinuz: &Path, modules: &Path) -> Result<Self> {
        let modules = modules
            .canonicalize()
            .with_context(|| format!("there is no directory `{}`", modules.display()))?;
        if !vmlinuz.is_file() {
            bail!("there is no kernel `{}`", vmlinuz.display());
        }
        if !modules.join("modules.dep").exists() {
            bail!("`{}` has no `modules.dep`: run depmod", modules.display());
        }
        Ok(Self { vmlinuz: vmlinuz.into(), modules })
    }

    /// Finds the kernel in an unpacked directory, if all its parts are there.
    fn find_in(folder: &Path) -> Option<Self> {
        let modules = ["usr/lib/modules", "lib/modules"]
            .iter()
            .find_map(|place| fs::read_dir(folder.join(place)).ok()?.next()?.ok())?
            .path();
        if !modules.join("kernel").is_dir() {
            return None;
        }
        let release = modules.file_name()?.to_str()?;
        let beside = folder.join(format!("boot/vmlinuz-{release}"));
        let vmlinuz = [beside, modules.join("vmlinuz")].into_iter().find(|file| file.is_file())?;
        Some(Self { vmlinuz, modules })
    }
}

/// Finds or fetches a kernel; `None` when the archive has no such kernel.
pub fn obtain(series: &Series, arch: Arch, refresh: Refresh) -> Result<Option<Kernel>> {
    let folder = files::cache().join(arch.name()).join("kernels");
    let chosen = folder.join("chosen").join(series.to_string());
    if refresh == Refresh::No
        && let Some(kernel) = chosen.canonicalize().ok().and_then(|it| Kernel::find_in(&it))
    {
        return Ok(Some(kernel));
    }
    let apt = Apt::open(arch, Refresh::No)?;
    let names = apt.names("linux-")?;
    for version in versions(&names, series, arch) {
        let unpacked = folder.join(&version);
        if !unpacked.exists() {
            let packages = packages(&names, &version);
            if let Err(error) = apt.unpack(&packages, &unpacked) {
                eprintln!("vm: kernel {version} is not available: {error:#}");
                continue;
            }
        }
        let Some(kernel) = Kernel::find_in(&unpacked) else {
            eprintln!(
                "vm: kernel {version} is not available: its packages lack the image or the modules"
            );
            files::remove(&unpacked)?;
            continue;
        };
        index(&unpacked, &kernel)?;
        files::create_folder(&folder.join("chosen"))?;
        files::remove(&chosen)?;
        symlink(&unpacked, &chosen)
            .with_context(|| format!("failed to create `{}`", chosen.display()))?;
        return Ok(Some(kernel));
    }
    Ok(None)
}

/// The versions of a series, newest first, as they are in package names.
fn versions(names: &[String], series: &Series, arch: Arch) -> Vec<String> {
    let suffix = format!("-{}", arch.debian());
    let mut found: Vec<_> = names
        .iter()
        .filter_map(|name| {
            let version = name.strip_prefix("linux-image-")?;
            let bare = version.strip_suffix(&suffix)?;
            let bare = if series.realtime { bare.strip_suffix("-rt")? } else { bare };
            // The names of other flavours (cloud, unsigned) have another word here.
            let is_bare = bare.split(['.', '+', '-']).all(|part| {
                part.trim_start_matches("deb").trim_start_matches("bpo").parse::<u64>().is_ok()
            });
            // If a kernel is split into packages, one of them has only its modules, and
            // the archive removes that one first.
            let has = |part: &str| names.contains(&format!("linux-{part}-{version}"));
            let is_whole = !has("binary") || has("modules");
            let numbers = numbers(bare);
            (is_bare && is_whole && numbers.starts_with(&series.numbers))
                .then(|| (numbers, version.to_owned()))
        })
        .collect();
    found.sort();
    found.dedup();
    found.into_iter().rev().map(|(_, version)| version).collect()
}

/// All numbers in a version, in order. They suffice to find the newer of two versions.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The packages of a version: Debian has one for each, and several for 6.19 and later.
fn packages(names: &[String], version: &str) -> Vec<String> {
    ["image", "binary", "modules", "base"]
        .map(|part| format!("linux-{part}-{version}"))
        .into_iter()
        .filter(|name| names.contains(name))
        .collect()
}

/// Makes `modules.dep`, which a package would make when it is installed.
fn index(root: &Path, kernel: &Kernel) -> Result<()> {
    if kernel.modules.join("modules.dep").exists() {
        return Ok(());
    }
    // depmod reads `lib`, even if the package has it below `usr`.
    if !root.join("lib").exists() {
        symlink("usr/lib", root.join("lib"))
            .with_context(|| format!("failed to create `{}`", root.join("lib").display()))?;
    }
    depmod(root, &kernel.release())
}

/// Indexes the modules of `release` below `root`.
pub fn depmod(root: &Path, release: &str) -> Result<()> {
    let program = tracer_step::root::find_program("depmod").context("there is no `depmod` here")?;
    let status = Command::new(program).arg("-b").arg(root).arg(release).status();
    if !status.context("failed to run `depmod`")?.success() {
        bail!("failed to index the modules in `{}`", root.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 18] = [
        "linux-image-5.10.0-30-amd64",
        "linux-image-5.10.0-32-amd64",
        "linux-image-6.1.0-50-amd64",
        "linux-image-6.1.0-50-cloud-amd64",
        "linux-image-6.1.0-50-amd64-dbg",
        "linux-image-6.12.95+deb12-amd64",
        "linux-image-6.12.107+deb13-amd64",
        "linux-image-6.12.107+deb13-amd64-unsigned",
        "linux-image-6.12.107+deb13-rt-amd64",
        "linux-image-6.18.15+deb13-amd64",
        "linux-image-6.19.14+deb13-amd64",
        "linux-binary-6.19.14+deb13-amd64",
        "linux-image-7.2.12+deb13-amd64",
        "linux-image-7.2.12+deb14-amd64",
        "linux-image-amd64",
        "linux-image-6.12.107+deb13-arm64-16k",
        "linux-binary-7.2.12+deb14-amd64",
        "linux-modules-7.2.12+deb14-amd64",
    ];

    fn check(series: &str, expected: &[&str]) {
        let names = NAMES.map(str::to_owned);
        assert_eq!(versions(&names, &series.parse().unwrap(), Arch::X86), expected, "{series}");
    }

    #[test]
    fn the_newest_comes_first_and_other_flavours_not_at_all() {
        check("5.10", &["5.10.0-32-amd64", "5.10.0-30-amd64"]);
        check("6.1", &["6.1.0-50-amd64"]);
        check("6.12", &["6.12.107+deb13-amd64", "6.12.95+deb12-amd64"]);
        check("6.12-rt", &["6.12.107+deb13-rt-amd64"]);
        check("7", &["7.2.12+deb14-amd64", "7.2.12+deb13-amd64"]);
        check("4.19", &[]);
    }

    #[test]
    fn a_kernel_without_its_modules_is_none() {
        check("6.19", &[]);
    }

    #[test]
    fn a_whole_major_version_has_all_its_minors() {
        let newest = versions(&NAMES.map(str::to_owned), &"6".parse().unwrap(), Arch::X86);
        assert_eq!(newest[0], "6.18.15+deb13-amd64");
        assert_eq!(newest.len(), 4);
    }

    #[test]
    fn a_page_size_of_its_own_is_another_flavour() {
        let names = NAMES.map(str::to_owned);
        assert!(versions(&names, &"6.12".parse().unwrap(), Arch::Arm).is_empty());
    }

    #[test]
    fn a_kernel_is_made_of_the_packages_that_there_are() {
        let names = NAMES.map(str::to_owned);
        let of = |version| packages(&names, version);
        assert_eq!(of("6.1.0-50-amd64"), ["linux-image-6.1.0-50-amd64"]);
        assert_eq!(
            of("7.2.12+deb14-amd64"),
            ["image", "binary", "modules"].map(|p| format!("linux-{p}-7.2.12+deb14-amd64"))
        );
    }

    #[test]
    fn a_series_reads_as_it_is_written() {
        for text in ["6.1", "7", "6.12-rt"] {
            assert_eq!(text.parse::<Series>().unwrap().to_string(), text);
        }
        assert!("latest".parse::<Series>().is_err());
        assert!("6.x".parse::<Series>().is_err());
    }
}
