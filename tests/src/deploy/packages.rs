//! Packages of a small program, installed and removed by the tools that people use.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tracer_dist::{
    Machine,
    archive::File,
    deb, elf,
    layout::{self, Family, Parts},
    rpm,
};

use super::{find_program, read, release, run, workspace};
use crate::skip::skip;

/// The architecture that runs the test, on which no other's package can be installed.
fn machine() -> Machine {
    if std::env::consts::ARCH == "aarch64" { Machine::Arm } else { Machine::X86 }
}

fn files(family: Family) -> Vec<File> {
    let text = |text: &str| text.as_bytes().to_vec();
    let parts = Parts {
        tracer: text("#!/bin/sh\necho tracer of a package\n"),
        demo: text("#!/bin/sh\n"),
        pages: vec![("tracer.1".to_owned(), text(".TH tracer 1\n"))],
        bash: text("complete tracer\n"),
        zsh: text("#compdef tracer\n"),
        fish: text("complete -c tracer\n"),
        unit: read("deploy/systemd/tracer.service"),
        seccomp: read("deploy/seccomp/tracer.json"),
        licences: vec![("LICENSE-MIT".to_owned(), text("MIT\n"))],
    };
    layout::installed(&parts, family).unwrap()
}

/// The regular files and links below `root`, without the package manager's own.
fn found(root: &Path) -> BTreeSet<String> {
    let mut folders = vec![root.to_owned()];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let path = entry.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if entry.is_dir() && !entry.is_symlink() {
                folders.push(entry);
            } else if !path.starts_with("var/lib/dpkg/") && !path.starts_with("var/lib/rpm/") {
                found.insert(path);
            }
        }
    }
    found
}

fn paths(files: &[File]) -> BTreeSet<String> {
    files.iter().map(|file| file.path.clone()).collect()
}

/// Writes a package next to an empty root.
fn package(name: &str, content: &[u8]) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let file = folder.path().join(name);
    fs::write(&file, content).unwrap();
    (folder, root, file)
}

/// Skips if a tool is not installed, or if we may not create files of other owners.
macro_rules! need {
    ($tool:literal) => {{
        let Some(tool) = find_program($tool) else {
            skip!("no {} is here", $tool);
        };
        if !nix::unistd::geteuid().is_root() {
            skip!("only root may install into a folder");
        }
        tool
    }};
}

#[test]
fn dpkg_installs_the_package_and_takes_all_of_it_away() {
    let dpkg = need!("dpkg");
    let files = files(Family::Debian);
    let bytes = deb::write(&release(), machine(), &files).unwrap();
    let (_folder, root, file) = package(&deb::file_name(&release(), machine()), &bytes);
    for folder in ["info", "updates"] {
        fs::create_dir_all(root.join("var/lib/dpkg").join(folder)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let dpkg = |args: &[&str]| {
        let mut command = Command::new(dpkg.get_program());
        command.arg(format!("--root={}", root.display()));
        // The root has no shell, and the package must not touch this machine's services.
        command.args(["--force-script-chrootless", "--force-bad-path"]).args(args);
        run(command.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    dpkg(&["--install", file.to_str().unwrap()]);
    let mut expected = paths(&files);
    expected.insert("usr/share/doc/tracer/copyright".to_owned());
    assert_eq!(found(&root), expected);
    let said = run(&mut Command::new(root.join("usr/bin/tracer")));
    assert_eq!(said, "tracer of a package\n");
    let status = dpkg(&["--status", "tracer"]);
    let version = format!("Version: {}", env!("CARGO_PKG_VERSION"));
    for line in ["Status: install ok installed", &version] {
        assert!(status.lines().any(|other| other == line), "{line} is not in {status}");
    }
    let unit = fs::read_to_string(root.join(layout::UNIT)).unwrap();
    assert!(unit.contains("\nExecStart=/usr/bin/tracer agent\n"), "{unit}");
    assert!(!unit.contains("/usr/local"), "{unit}");

    // The state of a service stays after the package is removed, until it is purged.
    let state = root.join("var/lib/private/tracer");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("disks"), "").unwrap();
    dpkg(&["--remove", "tracer"]);
    assert_eq!(found(&root), BTreeSet::from(["var/lib/private/tracer/disks".to_owned()]));
    dpkg(&["--purge", "tracer"]);
    assert_eq!(found(&root), BTreeSet::new());
}

#[test]
fn rpm_reads_the_package_installs_it_and_takes_it_away() {
    let rpm_program = need!("rpm");
    let files = files(Family::Fedora);
    let bytes = rpm::write(&release(), machine(), &files).unwrap();
    let (_folder, root, file) = package(&rpm::file_name(&release(), machine()), &bytes);
    let file = file.to_str().unwrap();
    let rpm = |args: &[&str]| run(Command::new(rpm_program.get_program()).args(args));
    let about = rpm(&["-qp", "--queryformat", "%{NAME} %{VERSION} %{ARCH} %{LICENSE}", file]);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(about, format!("tracer {version} {} MIT OR Apache-2.0", machine().linux()));
    let listed: BTreeSet<_> =
        rpm(&["-qpl", file]).lines().map(|line| line.trim_start_matches('/').to_owned()).collect();
    assert_eq!(listed, paths(&files));
    // The digests of its header and of its payload.
    let checked = rpm(&["-K", "--nosignature", file]);
    assert!(checked.contains("digests OK"), "{checked}");
    // The programs are static: the package needs a shell for its scripts, an rpm that can
    // read it, and no library.
    let needs = rpm(&["-qp", "--requires", file]);
    let others = needs.lines().filter(|need| !need.starts_with("rpmlib(") && *need != "/bin/sh");
    assert_eq!(others.collect::<Vec<_>>(), [""; 0]);

    let root_is = format!("--root={}", root.display());
    // The root has no shell for scripts.
    let into =
        [root_is.as_str(), "--dbpath=/var/lib/rpm", "--force-debian", "--noscripts", "--nodeps"];
    rpm(&[&into[..], &["-i", file]].concat());
    assert_eq!(found(&root), paths(&files));
    rpm(&[&into[..], &["-e", "tracer"]].concat());
    assert_eq!(found(&root), BTreeSet::new());
}

/// Checks the release in `target/dist`, if there is one: each package contains the programs
/// for its architecture, also the package that this machine cannot install.
#[test]
fn the_packages_of_a_release_hold_programs_of_their_machines() {
    let Some(dpkg_deb) = find_program("dpkg-deb") else { skip!("no dpkg-deb is here") };
    let mut checked = 0;
    for machine in [Machine::X86, Machine::Arm] {
        let file = workspace().join("target/dist").join(deb::file_name(&release(), machine));
        if !file.is_file() {
            continue;
        }
        let root = tempfile::tempdir().unwrap();
        let mut extract = Command::new(dpkg_deb.get_program());
        run(extract.arg("--extract").arg(&file).arg(root.path()));
        for name in ["tracer", "tracer-demo"] {
            let program = fs::read(root.path().join("usr/bin").join(name)).unwrap();
            if let Err(error) = elf::check(&program, machine) {
                panic!("{name} in {file:?}: {error:#}");
            }
        }
        let mut field = Command::new(dpkg_deb.get_program());
        let field = run(field.arg("--field").arg(&file).arg("Architecture"));
        assert_eq!(field.trim(), machine.debian(), "{file:?}");
        checked += 1;
    }
    if checked == 0 {
        skip!("no release is in target/dist: `cargo xtask dist` makes one");
    }
}
