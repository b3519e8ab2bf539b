//! The paths of a release's files on a machine.
//!
//! The families of distributions differ in only two directories: that of zsh's completions,
//! and that of licences.

use anyhow::{Result, bail};

use crate::{
    NAME, Release,
    archive::{File, gzip},
};

/// All parts of a release, whatever it is packed into.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    pub tracer: Vec<u8>,
    /// The program that `tracer demo` becomes; it lies beside the tracer.
    pub demo: Vec<u8>,
    /// Manual pages: `tracer.1`, `tracer-top.1`, …
    pub pages: Vec<(String, Vec<u8>)>,
    pub bash: Vec<u8>,
    pub zsh: Vec<u8>,
    pub fish: Vec<u8>,
    /// The unit for a tracer that is installed by hand.
    pub unit: String,
    /// The profile for container engines that refuse `bpf()`.
    pub seccomp: String,
    /// Name and text: `LICENSE-MIT`, …
    pub licences: Vec<(String, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    Debian,
    Fedora,
}

const BY_HAND: &str = "/usr/local/bin/tracer";
pub const INSTALLED: &str = "/usr/bin/tracer";
pub const UNIT: &str = "usr/lib/systemd/system/tracer.service";

/// The files that a package installs, by their paths from the root.
///
/// # Errors
///
/// The unit does not start the program from the expected path.
pub fn installed(parts: &Parts, family: Family) -> Result<Vec<File>> {
    let (zsh, licences) = match family {
        Family::Debian => ("usr/share/zsh/vendor-completions", "usr/share/doc/tracer"),
        Family::Fedora => ("usr/share/zsh/site-functions", "usr/share/licenses/tracer"),
    };
    let mut files = vec![
        File::program(INSTALLED.trim_start_matches('/'), parts.tracer.as_slice()),
        File::program("usr/bin/tracer-demo", parts.demo.as_slice()),
        File::plain("usr/share/bash-completion/completions/tracer", parts.bash.as_slice()),
        File::plain(format!("{zsh}/_tracer"), parts.zsh.as_slice()),
        File::plain("usr/share/fish/vendor_completions.d/tracer.fish", parts.fish.as_slice()),
        File::plain(UNIT, packaged_unit(&parts.unit)?),
        File::plain("usr/share/tracer/seccomp/tracer.json", parts.seccomp.as_bytes()),
    ];
    for (name, page) in &parts.pages {
        files.push(File::plain(format!("usr/share/man/man1/{name}.gz"), gzip(page)?));
    }
    let texts = parts.licences.iter();
    files.extend(
        texts.map(|(name, text)| File::plain(format!("{licences}/{name}"), text.as_slice())),
    );
    Ok(files)
}

/// The unit for a tracer that a package has installed: without the lines that say
/// how to put it in place by hand.
fn packaged_unit(unit: &str) -> Result<String> {
    if !unit.contains(&format!("ExecStart={BY_HAND} ")) {
        bail!("the unit has no line `ExecStart={BY_HAND} …`: see deploy/systemd/tracer.service");
    }
    let is_by_hand = |line: &&str| {
        let Some(command) = line.strip_prefix("#     ") else { return false };
        command.starts_with("install ") || command.starts_with("systemctl daemon-reload")
    };
    let lines = unit.lines().filter(|line| !is_by_hand(line));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    Ok(text.replace(BY_HAND, INSTALLED))
}

/// The files of the archive for any Linux, below a directory named after the release.
pub fn portable(parts: &Parts, release: &Release, machine: &str) -> Vec<File> {
    let folder = folder(release, machine);
    let path = |name: &str| format!("{folder}/{name}");
    let mut files = vec![
        File::program(path("tracer"), parts.tracer.as_slice()),
        File::program(path("tracer-demo"), parts.demo.as_slice()),
        File::plain(path("completions/tracer.bash"), parts.bash.as_slice()),
        File::plain(path("completions/_tracer"), parts.zsh.as_slice()),
        File::plain(path("completions/tracer.fish"), parts.fish.as_slice()),
        File::plain(path("systemd/tracer.service"), parts.unit.as_bytes()),
        File::plain(path("seccomp/tracer.json"), parts.seccomp.as_bytes()),
    ];
    let pages = parts.pages.iter();
    files.extend(
        pages.map(|(name, page)| File::plain(path(&format!("man/{name}")), page.as_slice())),
    );
    let texts = parts.licences.iter();
    files.extend(texts.map(|(name, text)| File::plain(path(name), text.as_slice())));
    files
}

/// `tracer-0.1.0-x86_64-linux`
pub fn folder(release: &Release, machine: &str) -> String {
    format!("{NAME}-{}-{machine}-linux", release.version)
}

/// The files of the image: the program, and the terms that it comes under.
pub fn image(parts: &Parts) -> Vec<File> {
    let mut files = vec![File::program(NAME, parts.tracer.as_slice())];
    let texts = parts.licences.iter();
    files
        .extend(texts.map(|(name, text)| File::plain(format!("licenses/{name}"), text.as_slice())));
    files
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fixture::release;

    /// Small files that say what they are.
    pub fn parts() -> Parts {
        let pairs = |names: &[&str]| {
            names.iter().map(|name| ((*name).to_owned(), name.as_bytes().to_vec())).collect()
        };
        Parts {
            tracer: b"#!/bin/sh\necho tracer 1.2.3\n".to_vec(),
            demo: b"#!/bin/sh\necho demo\n".to_vec(),
            pages: pairs(&["tracer.1", "tracer-top.1"]),
            bash: b"bash".to_vec(),
            zsh: b"zsh".to_vec(),
            fish: b"fish".to_vec(),
            unit: "# A unit.\n#     install -m 0755 tracer /usr/local/bin/\n[Service]\n\
                   ExecStart=/usr/local/bin/tracer agent\n"
                .to_owned(),
            seccomp: "{}".to_owned(),
            licences: pairs(&["LICENSE-MIT", "LICENSE-APACHE"]),
        }
    }

    fn names(files: &[File]) -> Vec<&str> {
        let mut names: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_package_of_debian_has_these_files() {
        assert_eq!(
            names(&installed(&parts(), Family::Debian).unwrap()),
            [
                "usr/bin/tracer",
                "usr/bin/tracer-demo",
                "usr/lib/systemd/system/tracer.service",
                "usr/share/bash-completion/completions/tracer",
                "usr/share/doc/tracer/LICENSE-APACHE",
                "usr/share/doc/tracer/LICENSE-MIT",
                "usr/share/fish/vendor_completions.d/tracer.fish",
                "usr/share/man/man1/tracer-top.1.gz",
                "usr/share/man/man1/tracer.1.gz",
                "usr/share/tracer/seccomp/tracer.json",
                "usr/share/zsh/vendor-completions/_tracer",
            ]
        );
    }

    #[test]
    fn fedoras_folders_for_zsh_and_licences_are_others() {
        let files = installed(&parts(), Family::Fedora).unwrap();
        let names = names(&files);
        for name in
            ["usr/share/zsh/site-functions/_tracer", "usr/share/licenses/tracer/LICENSE-MIT"]
        {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("vendor-completions")));
    }

    #[test]
    fn a_packages_unit_starts_the_packages_program() {
        let unit = packaged_unit(&parts().unit).unwrap();
        assert_eq!(unit, "# A unit.\n[Service]\nExecStart=/usr/bin/tracer agent\n");
        let other = "[Service]\nExecStart=/opt/tracer agent\n";
        assert!(packaged_unit(other).unwrap_err().to_string().contains("ExecStart"));
    }

    #[test]
    fn the_archive_lies_in_a_folder_of_its_own() {
        let files = portable(&parts(), &release(), "x86_64");
        assert!(files.iter().all(|file| file.path.starts_with("tracer-1.2.3-x86_64-linux/")));
        let path = |name: &str| format!("tracer-1.2.3-x86_64-linux/{name}");
        for name in ["tracer", "tracer-demo", "man/tracer-top.1", "systemd/tracer.service"] {
            assert!(files.iter().any(|file| file.path == path(name)), "{name}");
        }
    }

    #[test]
    fn the_image_has_the_program_and_its_licences() {
        let files = image(&parts());
        assert_eq!(names(&files), ["licenses/LICENSE-APACHE", "licenses/LICENSE-MIT", "tracer"]);
    }
}
