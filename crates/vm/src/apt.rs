//! Downloads and unpacks Debian packages without installing them, with package lists,
//! a cache and a status of our own.
//!
//! Kernels, QEMU and the programs in a guest come from such packages. apt checks
//! signatures (with the archive's keyring) and checksums; `dpkg-deb` unpacks into a
//! directory of ours. The host's package database is never touched, and no root is
//! needed. This module does not know what the packages are for.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use tracer_step::{self as step, read_output, root::find_program};

use crate::{arch::Arch, files};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The suites that kernels come from, oldest first; everything else comes from [`STABLE`].
const SUITES: [&str; 5] = ["bullseye", "bookworm", STABLE, "trixie-backports", "sid"];

/// The suite of QEMU and of the guests' programs, whatever the host runs.
const STABLE: &str = "trixie";

/// Returns the reason why packages cannot be fetched here, if there is one. It is a reason
/// to skip, not a failure.
pub fn find_obstacle() -> Option<String> {
    for (program, package) in
        [("apt-get", "apt"), ("dpkg-deb", "dpkg"), ("xz", "xz-utils"), ("depmod", "kmod")]
    {
        if find_program(program).is_none() {
            return Some(format!("`{program}` is not installed (Debian package: {package})"));
        }
    }
    if !Path::new(KEYRING).exists() {
        return Some(format!("there is no `{KEYRING}` (package: debian-archive-keyring)"));
    }
    find_mirror().err().map(|error| format!("{error:#}"))
}

/// The Debian mirror that this host uses.
fn find_mirror() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"]);
    let targets = read_output(command.arg("Created-By: Packages")).unwrap_or_default();
    mirror_among(&targets).context("this host's apt sources contain no Debian mirror")
}

/// Finds an archive named `debian` that has a suite of Debian's own. A vendor's repository
/// may use the suite's name, but has no kernels.
fn mirror_among(targets: &str) -> Option<String> {
    let is_suite = |suite: &str| {
        SUITES.contains(&suite)
            || ["forky", "oldstable", "stable", "testing", "unstable"].contains(&suite)
    };
    targets.lines().find_map(|line| {
        let [uri, suite, "main"] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
        let uri = uri.trim_end_matches('/');
        (is_suite(suite) && uri.ends_with("/debian")).then(|| uri.to_owned())
    })
}

/// The package lists of one architecture.
pub struct Apt {
    folder: PathBuf,
    arch: Arch,
}

impl Apt {
    /// Opens the package lists, and fetches them first if there are none or `refresh` asks for it.
    pub fn open(arch: Arch, refresh: files::Refresh) -> Result<Self> {
        let folder = files::cache().join("apt").join(arch.debian());
        let apt = Self { folder, arch };
        let stamp = apt.folder.join("updated");
        if stamp.exists() && refresh == files::Refresh::No {
            return Ok(apt);
        }
        let mirror = find_mirror()?;
        files::create_folder(&apt.folder.join("lists/partial"))?;
        files::create_folder(&apt.folder.join("archives/partial"))?;
        files::create_folder(&apt.folder.join("none"))?;
        files::write(&apt.folder.join("status"), b"")?;
        let sources: String = SUITES
            .iter()
            .map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
            .collect();
        files::write(&apt.folder.join("sources.list"), sources.as_bytes())?;
        let mut update = apt.apt_get();
        let name = format!("vm: package lists ({})", arch.debian());
        // One suite may be missing from the mirror; the others can still be used.
        if let Err(error) = step::run(&name, update.arg("update")) {
            eprintln!("vm: {error:#}");
        }
        files::write(&stamp, b"")?;
        Ok(apt)
    }

    fn apt_get(&self) -> Command {
        self.command("apt-get")
    }

    fn command(&self, program: &str) -> Command {
        let arch = self.arch.debian();
        let at = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new(program);
        command.arg("-qq").env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        for (key, value) in [
            ("Dir::Etc::sourcelist", at("sources.list")),
            ("Dir::Etc::sourceparts", at("none")),
            // The host's configuration may prefer certain suites.
            ("Dir::Etc::preferences", at("none")),
            ("Dir::Etc::preferencesparts", at("none")),
            ("Dir::State::lists", at("lists")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache", at(".")),
            ("Dir::Cache::archives", at("archives")),
            ("APT::Architecture", arch.into()),
            ("APT::Architectures", arch.into()),
            ("APT::Default-Release", STABLE.into()),
            ("APT::Install-Recommends", "false".into()),
            // apt's own user may have no access to our directories.
            ("APT::Sandbox::User", "root".into()),
            ("Acquire::Languages", "none".into()),
            ("Acquire::Retries", "3".into()),
            // The caller holds the lock of the whole cache.
            ("Debug::NoLocking", "true".into()),
        ] {
            command.arg("-o").arg(format!("{key}={value}"));
        }
        command
    }

    /// The names of packages that begin with `prefix`. Some are only mentioned by other
    /// packages, and cannot be fetched.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let text = read_output(self.command("apt-cache").args(["pkgnames", prefix]))
            .with_context(|| format!("failed to list the packages `{prefix}*`"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Unpacks exactly these packages into `folder`, which exists only if it is complete.
    pub fn unpack(&self, packages: &[String], folder: &Path) -> Result<()> {
        self.unpack_with("download", packages, folder)
    }

    /// Unpacks these packages of [`STABLE`], and all that they depend on.
    pub fn unpack_closure(&self, packages: &[&str], folder: &Path) -> Result<()> {
        let packages: Vec<_> = packages.iter().map(|&package| package.to_owned()).collect();
        self.unpack_with("install", &packages, folder)
    }

    fn unpack_with(&self, how: &str, packages: &[String], folder: &Path) -> Result<()> {
        files::make_whole(folder, |whole| {
            let scratch = tempfile::Builder::new().prefix("debs").tempdir_in(&self.folder)?;
            files::create_folder(&scratch.path().join("partial"))?;
            let mut fetch = self.apt_get();
            fetch.current_dir(scratch.path());
            fetch.arg("-o").arg(format!("Dir::Cache::archives={}", scratch.path().display()));
            // With `download`, neither option has an effect.
            fetch.args(["--download-only", "--yes", how]).args(packages);
            step::run(&format!("vm: fetch {}", shortened(packages)), &mut fetch)?;
            let mut count = 0;
            for entry in fs::read_dir(scratch.path())? {
                let file = entry?.path();
                if file.extension().is_some_and(|extension| extension == "deb") {
                    unpack_one(&file, whole)?;
                    count += 1;
                }
            }
            eprintln!("vm: {count} packages unpacked into `{}`", files::shown(folder));
            Ok(())
        })
    }
}

fn unpack_one(archive: &Path, folder: &Path) -> Result<()> {
    let status = Command::new("dpkg-deb").arg("-x").arg(archive).arg(folder).status();
    if !status.context("failed to run `dpkg-deb`")?.success() {
        bail!("failed to unpack `{}`", archive.display());
    }
    Ok(())
}

fn shortened(packages: &[String]) -> String {
    match packages {
        [a, b, c, d, rest @ ..] if !rest.is_empty() => {
            format!("{a} {b} {c} {d} and {} more", rest.len())
        }
        few => few.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_debians_own_archive() {
        let targets = "\
https://apt.example.org/php/ bookworm main
http://mirror.example.net/debian-security/ bookworm-security main
http://mirror.example.net/debian/ bookworm contrib
http://mirror.example.net/debian/ bookworm main
";
        assert_eq!(mirror_among(targets).as_deref(), Some("http://mirror.example.net/debian"));
    }

    #[test]
    fn a_host_without_debian_has_no_mirror() {
        assert_eq!(mirror_among("http://archive.example.com/ubuntu/ noble main\n"), None);
        assert_eq!(mirror_among(""), None);
    }
}
