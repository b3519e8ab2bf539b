//! Writes a package for Debian, Ubuntu and similar systems: an `ar` of three members.
//!
//! <https://manpages.debian.org/bookworm/dpkg-dev/deb.5.en.html>

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::{
    Machine, NAME, Release,
    archive::{File, gzip, tar},
};

/// systemd is called only if it runs, and not if the package is installed into a directory
/// (`dpkg --root`). The service is neither enabled nor started, because a user may want only
/// `tracer top`.
const AFTER_INSTALL: &str = "\
#!/bin/sh
set -e
if [ -z \"${DPKG_ROOT:-}\" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
";

const BEFORE_REMOVAL: &str = "\
#!/bin/sh
set -e
if [ \"$1\" = remove ] && [ -z \"${DPKG_ROOT:-}\" ] && [ -d /run/systemd/system ]; then
    systemctl disable --now tracer.service || true
fi
";

/// A service with a dynamic user keeps its state in `private`, with a link to it.
const AFTER_REMOVAL: &str = "\
#!/bin/sh
set -e
if [ \"$1\" = purge ]; then
    rm -rf \"${DPKG_ROOT:-}/var/lib/tracer\" \"${DPKG_ROOT:-}/var/lib/private/tracer\"
fi
if [ -z \"${DPKG_ROOT:-}\" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
";

/// `tracer_0.1.0_amd64.deb`
pub fn file_name(release: &Release, machine: Machine) -> String {
    format!("{NAME}_{}_{}.deb", release.version, machine.debian())
}

/// The package with `files`.
///
/// # Errors
///
/// One of the paths cannot be packed.
pub fn write(release: &Release, machine: Machine, files: &[File]) -> Result<Vec<u8>> {
    let mut files = files.to_vec();
    files.push(File::plain("usr/share/doc/tracer/copyright", copyright(release)));
    let control = [
        File::plain("control", control(release, machine, &files)),
        File::program("postinst", AFTER_INSTALL),
        File::program("prerm", BEFORE_REMOVAL),
        File::program("postrm", AFTER_REMOVAL),
    ];
    let members = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", gzip(&tar(&control, release.epoch)?)?),
        ("data.tar.gz", gzip(&tar(&files, release.epoch)?)?),
    ];
    let mut builder = ar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = ar::Header::new(name.as_bytes().to_vec(), content.len() as u64);
        header.set_mode(0o100_644);
        header.set_mtime(release.epoch.into());
        let cannot = || format!("failed to pack `{name}`");
        builder.append(&header, content.as_slice()).with_context(cannot)?;
    }
    builder.into_inner().context("failed to end the package")
}

fn control(release: &Release, machine: Machine, files: &[File]) -> String {
    let bytes: usize = files.iter().map(|file| file.content.len()).sum();
    let Release { version, summary, maintainer, .. } = release;
    let mut text = format!(
        "Package: {NAME}\nVersion: {version}\nArchitecture: {}\nMaintainer: {maintainer}\n",
        machine.debian()
    );
    // The programs are static, so the package depends on no other. Writing to a string cannot
    // fail.
    let _ = write!(
        text,
        "Installed-Size: {}\nSection: admin\nPriority: optional\nDescription: {summary}\n \
         It watches every fsync and every request on the disks of this node with eBPF, and\n \
         says for each workload that waits where the time went and who else was on the disk.\n",
        bytes.div_ceil(1024)
    );
    text
}

fn copyright(release: &Release) -> String {
    format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: {NAME}\n\nFiles: *\nCopyright: the authors of {NAME}\nLicense: {}\n \
         The texts are LICENSE-MIT and LICENSE-APACHE in this folder; THIRD-PARTY has those of\n \
         the libraries that are linked into the programs.\n",
        release.licence.replace(" OR ", " or ")
    )
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::{
        fixture::release,
        layout::{Family, installed, tests::parts},
    };

    fn package() -> Vec<u8> {
        let files = installed(&parts(), Family::Debian).unwrap();
        write(&release(), Machine::X86, &files).unwrap()
    }

    #[test]
    fn a_package_is_three_members_in_this_order() {
        let package = package();
        let mut archive = ar::Archive::new(package.as_slice());
        let mut members = Vec::new();
        while let Some(entry) = archive.next_entry() {
            let mut entry = entry.unwrap();
            let name = String::from_utf8(entry.header().identifier().to_vec()).unwrap();
            assert_eq!(entry.header().mtime(), 1_767_225_600);
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            members.push((name, content));
        }
        let names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["debian-binary", "control.tar.gz", "data.tar.gz"]);
        assert_eq!(members[0].1, b"2.0\n");
    }

    #[test]
    fn a_package_is_the_same_bytes_each_time() {
        assert_eq!(package(), package());
    }

    #[test]
    fn what_a_package_says_of_itself() {
        let files = [File::plain("a", vec![0; 1025])];
        let control = control(&release(), Machine::Arm, &files);
        let begin = "Package: tracer\nVersion: 1.2.3\nArchitecture: arm64\n\
                     Maintainer: Somebody <somebody@example.org>\nInstalled-Size: 2\n";
        assert!(control.starts_with(begin), "{control}");
        assert!(control.contains("\nDescription: Says who it is\n It watches"), "{control}");
        // A line that goes on begins with a space, and none is empty.
        let (_, description) = control.split_once("Description: ").unwrap();
        assert!(description.lines().skip(1).all(|line| line.starts_with(' ')), "{control}");
        assert_eq!(file_name(&release(), Machine::Arm), "tracer_1.2.3_arm64.deb");
    }
}
