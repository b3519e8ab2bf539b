//! containerd, as Kubernetes' nodes have it: it imports the image, and runs it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Instant,
};

use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tracer_lab::disk::default_dir;

use super::{MEETING, SECOND, image_archive, need_live, podman::said};
use crate::{deploy::workspace, skip::skip};

/// A daemon that keeps everything in a directory of its own; it ends with the test.
struct Containerd {
    daemon: Child,
    ctr: PathBuf,
    folder: TempDir,
}

impl Containerd {
    /// Starts it, or returns the reason why it does not run here.
    fn start() -> Result<Self, String> {
        let roots = [workspace().join(".tools/podman"), PathBuf::from("/")];
        let is_there = |root: &PathBuf| {
            ["containerd", "ctr"].iter().all(|name| root.join("usr/bin").join(name).is_file())
        };
        let root = roots.into_iter().find(is_there);
        let programs = root.ok_or("no containerd is here: `cargo xtask setup test` unpacks it")?;
        let programs = programs.join("usr/bin");
        let parent = default_dir().map_err(|error| format!("{error:#}"))?;
        let folder = tempfile::Builder::new().prefix("tracer-engine-").tempdir_in(parent);
        let folder = folder.map_err(|error| error.to_string())?;
        // The plugin that the kubelet asks is not needed, and wants a network.
        let config = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        fs::write(folder.path().join("config.toml"), config).map_err(|error| error.to_string())?;
        let mut command = Command::new(programs.join("containerd"));
        for (option, place) in [("config", "config.toml"), ("root", "root"), ("state", "state")] {
            command.arg(format!("--{option}")).arg(folder.path().join(place));
        }
        command.arg("--address").arg(folder.path().join("socket"));
        let log = fs::File::create(folder.path().join("log")).map_err(|error| error.to_string())?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let daemon = command.spawn().map_err(|error| error.to_string())?;
        let started = Self { daemon, ctr: programs.join("ctr"), folder };
        let end = Instant::now() + MEETING;
        while !started.ctr(&["version"]).output().is_ok_and(|output| output.status.success()) {
            if Instant::now() > end {
                return Err(format!("containerd does not answer: {}", started.log()));
            }
            sleep(SECOND / 5);
        }
        Ok(started)
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.lines().last().unwrap_or_default().to_owned()
    }

    fn ctr(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.ctr);
        command.arg("--address").arg(self.folder.path().join("socket"));
        command.args(["--namespace", "k8s.io"]).args(args).stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let output = self.ctr(args).output().unwrap();
        assert!(output.status.success(), "ctr {args:?}: {}; {}", said(&output), self.log());
        said(&output)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.daemon.id().cast_signed()), Signal::SIGTERM);
        let _ = self.daemon.wait();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| Path::new(point).starts_with(self.folder.path())) {
            let _ = umount2(point, MntFlags::MNT_DETACH);
        }
    }
}

#[test]
fn containerd_imports_the_image_under_the_name_that_the_manifests_have() {
    need_live!();
    let containerd = match Containerd::start() {
        Ok(containerd) => containerd,
        Err(why) => skip!("{why}"),
    };
    let archive = containerd.folder.path().join("image.tar");
    fs::write(&archive, image_archive()).unwrap();
    containerd.run(&["images", "import", archive.to_str().unwrap()]);
    let listed = containerd.run(&["images", "list", "--quiet"]);
    assert_eq!(listed, concat!("docker.io/library/tracer:", env!("CARGO_PKG_VERSION")));
    // The index has both machines; their digests are checked.
    let checked = containerd.run(&["images", "check"]);
    let line = checked.lines().find(|line| line.starts_with(&listed)).expect(&checked);
    assert!(
        line.contains("complete") && line.contains("application/vnd.oci.image.index"),
        "{line}"
    );
}
