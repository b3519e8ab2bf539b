//! A Podman that keeps everything in a directory of its own.
//!
//! `cargo xtask setup test` unpacks it, with runc, into `.tools/podman`; an installed one
//! is used as well. Containers have the host's network, and cgroups are made without
//! systemd, so it needs no service and no daemon.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;
use tracer_dist::archive::{File, tar};
use tracer_lab::disk::default_dir;

use crate::deploy::workspace;

/// The image that [`Podman::import_pause`] makes.
const PAUSE: &str = "localhost/pause";

pub struct Podman {
    /// The root directory that its program files are in.
    root: PathBuf,
    /// The directory of its configuration and its storage, on a disk.
    folder: TempDir,
}

impl Podman {
    /// Finds a Podman that runs here, or returns the reason why there is none.
    pub fn find() -> Result<Self, String> {
        let roots = [workspace().join(".tools/podman"), PathBuf::from("/")];
        let has = |root: &PathBuf, file: &str| root.join(file).is_file();
        let all = ["usr/bin/podman", "usr/bin/conmon", "usr/sbin/runc"];
        let Some(root) = roots.into_iter().find(|root| all.iter().all(|file| has(root, file)))
        else {
            return Err("no podman with runc is here: `cargo xtask setup test` unpacks it".into());
        };
        let parent = default_dir().map_err(|error| format!("{error:#}"))?;
        let folder = tempfile::Builder::new().prefix("tracer-engine-").tempdir_in(parent);
        let podman = Self { root, folder: folder.map_err(|error| error.to_string())? };
        podman.configure().map_err(|error| error.to_string())?;
        let info = podman.command(&["info"]).output().map_err(|error| error.to_string())?;
        if !info.status.success() {
            return Err(format!("podman does not work here: {}", said(&info)));
        }
        Ok(podman)
    }

    fn configure(&self) -> std::io::Result<()> {
        let (root, own) = (self.root.display(), self.folder.path().display());
        // A container may raise no limit of files here, and crun wants cgroups of one version.
        let containers = format!(
            "[containers]\n\
             default_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n\
             netns = \"host\"\n\
             [engine]\n\
             cgroup_manager = \"cgroupfs\"\n\
             events_logger = \"none\"\n\
             runtime = \"runc\"\n\
             conmon_path = [\"{root}/usr/bin/conmon\"]\n\
             tmp_dir = \"{own}/tmp\"\n\
             [engine.runtimes]\n\
             runc = [\"{root}/usr/sbin/runc\"]\n\
             [network]\n\
             network_config_dir = \"{own}/networks\"\n"
        );
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{own}/storage\"\nrunroot = \"{own}/run\"\n"
        );
        // Images come only from our own file.
        let policy = "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}";
        for (name, text) in [
            ("containers.conf", containers.as_str()),
            ("storage.conf", &storage),
            ("registries.conf", "unqualified-search-registries = [\"docker.io\"]\n"),
            ("policy.json", policy),
        ] {
            fs::write(self.path(name), text)?;
        }
        Ok(())
    }

    /// The path of a file or directory of its own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The engine's own seccomp profile.
    pub fn default_profile(&self) -> PathBuf {
        self.root.join("usr/share/containers/seccomp.json")
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.root.join("usr/bin/podman"));
        let library = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        command.args(args).stdin(Stdio::null());
        command.env("LD_LIBRARY_PATH", self.root.join(library));
        for (variable, file) in [
            ("CONTAINERS_CONF", "containers.conf"),
            ("CONTAINERS_STORAGE_CONF", "storage.conf"),
            ("CONTAINERS_REGISTRIES_CONF", "registries.conf"),
        ] {
            command.env(variable, self.path(file));
        }
        command
    }

    /// Runs a command that must succeed, and returns its output.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("podman can be started");
        assert!(output.status.success(), "podman {args:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Loads an image from a file, and returns its name.
    pub fn load(&self, archive: &Path) -> String {
        let policy = format!("--signature-policy={}", self.path("policy.json").display());
        let said = self.run(&["load", &policy, "--input", archive.to_str().unwrap()]);
        let (_, name) = said.rsplit_once(": ").expect("it names what it loaded");
        name.trim().to_owned()
    }

    /// Makes the image of a pod's first container, which only waits. Returns the reason where
    /// its program is not there.
    pub fn import_pause(&self) -> Result<(), String> {
        let roots = [self.root.clone(), PathBuf::from("/")];
        let files = roots.map(|root| root.join("usr/bin/catatonit"));
        let Some(program) = files.iter().find_map(|file| fs::read(file).ok()) else {
            return Err("no catatonit is here: `cargo xtask setup test` unpacks it".to_owned());
        };
        let archive = self.path("pause.tar");
        fs::write(&archive, tar(&[File::program("catatonit", program)], 0).unwrap()).unwrap();
        let policy = format!("--signature-policy={}", self.path("policy.json").display());
        let entry = "--change=ENTRYPOINT [\"/catatonit\", \"-P\"]";
        self.run(&["import", &policy, entry, archive.to_str().unwrap(), PAUSE]);
        Ok(())
    }

    /// Makes a pod by hand. Its name is also the host's name in it, by which it is known.
    #[track_caller]
    pub fn create_pod(&self, name: &str) {
        let (name, first) = (format!("--name={name}"), format!("--infra-image={PAUSE}"));
        self.run(&["pod", "create", &name, "--network=host", &first]);
    }

    /// A root for containers that run this machine's programs: `/usr` is mounted into it.
    pub fn bare_root(&self, name: &str) -> PathBuf {
        let root = self.path(name);
        for folder in ["usr", "proc", "sys", "dev", "etc", "tmp", "data", "tools"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for folder in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{folder}"), root.join(folder)).unwrap();
        }
        root
    }
}

pub fn said(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    text.concat().trim().to_owned()
}

impl Drop for Podman {
    /// Ends its pods and containers, and unmounts what its storage has mounted.
    fn drop(&mut self) {
        for all in [
            ["pod", "rm", "--all", "--force", "--time", "0"].as_slice(),
            &["rm", "--all", "--force", "--time", "0"],
        ] {
            let ended = self.command(all).output();
            if !ended.as_ref().is_ok_and(|output| output.status.success()) {
                eprintln!("podman: {}", ended.map_or_else(|error| error.to_string(), |o| said(&o)));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| Path::new(point).starts_with(self.folder.path())) {
            if let Err(error) = umount2(point, MntFlags::MNT_DETACH) {
                eprintln!("podman: `{point}`: {error}");
            }
        }
        // The cgroups of its pods, and those above its containers'; those of somebody else's
        // containers are not empty.
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        for hierarchy in hierarchies.map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]) {
            let parent = hierarchy.join("libpod_parent");
            let pods = fs::read_dir(&parent).into_iter().flatten().flatten();
            for folder in pods.map(|entry| entry.path()).chain([parent]) {
                let _ = fs::remove_dir(folder);
            }
        }
    }
}
