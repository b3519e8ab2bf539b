//! From an empty root to a screen: dpkg installs the package, and the tracer in it traces
//! this node.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tracer_dist::{Machine, deb, layout};

use super::need_live;
use crate::{
    deploy::{find_program, read, release, run},
    skip::skip,
    subject::{Tracer, tracer_bin},
};

const LONG: Duration = Duration::from_secs(90);

/// The waiting from the package to the first screen. A minute is promised for typing and
/// waiting, and two commands are typed in twenty seconds.
const WAITING: Duration = Duration::from_secs(40);

/// Makes a root with only what dpkg and a running system need.
fn bare_root(root: &Path) {
    for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/tmp", "proc", "sys", "root"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
}

/// Runs a program of the root, with the node's `/proc` and `/sys` mounted in it; the mounts
/// disappear with its mount namespace.
fn within(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=slave", "sh", "-c"]);
    command.arg("mount --rbind /proc \"$0/proc\" && mount --rbind /sys \"$0/sys\" && exec chroot \"$0\" \"$@\"");
    command.arg(root).args(args);
    command
}

#[test]
fn a_package_in_a_bare_root_is_all_that_a_screen_takes() {
    need_live!();
    let Some(dpkg) = find_program("dpkg") else { skip!("`dpkg` is not installed") };
    let machine = if std::env::consts::ARCH == "aarch64" { Machine::Arm } else { Machine::X86 };
    let parts = layout::Parts {
        tracer: fs::read(tracer_bin()).unwrap(),
        unit: read("deploy/systemd/tracer.service"),
        ..layout::Parts::default()
    };
    let files = layout::installed(&parts, layout::Family::Debian).unwrap();
    // The self-test syncs a file in the root's own directory, which must be on a disk.
    let folder = tempfile::tempdir_in(tracer_lab::disk::default_dir().unwrap()).unwrap();
    let (root, package) = (folder.path().join("root"), folder.path().join("tracer.deb"));
    bare_root(&root);
    fs::write(&package, deb::write(&release(), machine, &files).unwrap()).unwrap();
    let begin = Instant::now();
    let mut install = Command::new(dpkg.get_program());
    install.arg(format!("--root={}", root.display())).arg("--force-script-chrootless");
    run(install.args(["--force-bad-path", "--install"]).arg(&package));
    let installed = begin.elapsed();

    let version = within(&root, &["/usr/bin/tracer", "--version"]).output().unwrap();
    if !version.status.success() {
        skip!(
            "the tracer under test is not the static one: `cargo xtask build --static` builds it"
        );
    }
    let said = String::from_utf8_lossy(&version.stdout);
    assert_eq!(said.trim(), concat!("tracer ", env!("CARGO_PKG_VERSION")));
    let begin = Instant::now();
    let mut top = Tracer::spawn(within(&root, &["/usr/bin/tracer", "top", "--batch", "-n", "1"]));
    assert_eq!(top.wait(LONG).code(), Some(0), "{}", top.transcript());
    let waited = installed + begin.elapsed();
    println!("dpkg took {installed:.1?}, and the first screen came after {waited:.1?}");
    assert!(waited < WAITING, "{waited:?}, of which dpkg took {installed:?}");
    let screen = top.transcript();
    assert!(screen.contains("watched") && !screen.contains("unproven"), "{screen}");
}
