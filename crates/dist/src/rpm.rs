//! Writes a package for Fedora, RHEL, SUSE and similar systems.
//!
//! The library's compressors are C code or a second zlib, so the payload is not
//! compressed.

use anyhow::{Context as _, Result};
use rpm::{BuildConfig, CompressionType, FileOptions, PackageBuilder};

use crate::{Machine, NAME, Release, archive::File};

/// These are the scripts of the Debian package; `$1` is the number of versions that stay installed.
const AFTER_INSTALL: &str = "\
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
";
const BEFORE_REMOVAL: &str = "\
if [ \"$1\" = 0 ] && [ -d /run/systemd/system ]; then
    systemctl disable --now tracer.service || :
fi
";

const RELEASE: &str = "1";

/// `tracer-0.1.0-1.x86_64.rpm`
pub fn file_name(release: &Release, machine: Machine) -> String {
    format!("{NAME}-{}-{RELEASE}.{}.rpm", release.version, machine.linux())
}

/// The package with `files`.
///
/// # Errors
///
/// The library refuses one of the files.
pub fn write(release: &Release, machine: Machine, files: &[File]) -> Result<Vec<u8>> {
    let Release { version, summary, licence, maintainer, epoch } = release;
    let mut builder = PackageBuilder::new(NAME, version, licence, machine.linux(), summary);
    builder
        .using_config(BuildConfig::v4().compression(CompressionType::None).source_date(*epoch))
        .release(RELEASE)
        .packager(maintainer)
        // Otherwise the package would contain the name of the build host.
        .build_host("localhost")
        .description(
            "It watches every fsync and every request on the disks of this node with eBPF, and \
             says for each workload that waits where the time went and who else was on the disk.",
        )
        .post_install_script(AFTER_INSTALL)
        .pre_uninstall_script(BEFORE_REMOVAL)
        .post_uninstall_script(AFTER_INSTALL);
    let mut sorted: Vec<_> = files.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    for File { path, mode, content } in sorted {
        // The modes are ours, and have twelve bits.
        let permissions = u16::try_from(*mode).context("a mode has too many bits")?;
        let mut options = FileOptions::new(format!("/{path}")).permissions(permissions);
        if path.starts_with("usr/share/man/") {
            options = options.doc();
        }
        let cannot = || format!("failed to pack `{path}`");
        builder.with_file_contents(content.as_slice(), options).with_context(cannot)?;
    }
    let package = builder.build().context("failed to make the package")?;
    let mut bytes = Vec::new();
    package.write(&mut bytes).context("failed to end the package")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture::release,
        layout::{Family, installed, tests::parts},
    };

    fn package() -> Vec<u8> {
        let files = installed(&parts(), Family::Fedora).unwrap();
        write(&release(), Machine::Arm, &files).unwrap()
    }

    #[test]
    fn a_package_is_the_same_bytes_each_time() {
        assert_eq!(package(), package());
    }

    #[test]
    fn what_a_package_says_of_itself() {
        let package = rpm::Package::parse(&mut package().as_slice()).unwrap();
        let about = &package.metadata;
        assert_eq!(about.get_name().unwrap(), "tracer");
        assert_eq!(about.get_version().unwrap(), "1.2.3");
        assert_eq!(about.get_arch().unwrap(), "aarch64");
        assert_eq!(about.get_license().unwrap(), "MIT OR Apache-2.0");
        let paths = about.get_file_entries().unwrap();
        let program = paths.iter().find(|file| file.path().ends_with("bin/tracer")).unwrap();
        assert_eq!(program.mode().permissions(), 0o755);
        assert_eq!(file_name(&release(), Machine::Arm), "tracer-1.2.3-1.aarch64.rpm");
    }
}
