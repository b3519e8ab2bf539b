//! One container of the DaemonSet, without a cluster: it has its own root, with the
//! mounts, the arguments and the capabilities that the manifests name.
//!
//! All its mounts are in its own mount namespace, and disappear with its process, however
//! that ends. Network, seccomp, AppArmor and limits are those of this machine.

use std::{
    ffi::CString,
    fs,
    io::{self, Error},
    net::SocketAddr,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use caps::{CapSet, Capability};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        prctl::set_no_new_privs,
        resource::{Resource, setrlimit},
    },
    unistd::{chdir, chroot},
};
use serde_json::Value;
use tempfile::TempDir;
use tracer_lab::disk::default_dir;

const DAEMONSET: &str = include_str!("../../../../deploy/kubernetes/base/daemonset.yaml");
const CONFIGMAP: &str = include_str!("../../../../deploy/kubernetes/base/configmap.yaml");

/// The amount of memory that every runtime allows a container to lock.
const MEMLOCK_BYTES: u64 = 64 << 10;

pub struct Pod {
    /// Holds the root, and the directories that replace volumes.
    folder: TempDir,
    spec: Value,
    mounts: Vec<BindMount>,
}

#[derive(Clone)]
struct BindMount {
    from: CString,
    to: CString,
    is_read_only: bool,
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("a manifest is YAML")
}

fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {value}"))
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path has no zero byte")
}

impl Pod {
    /// Lays out its root, with `binary` as the image's only file.
    pub fn create(binary: &Path) -> io::Result<Self> {
        let spec = yaml(DAEMONSET)["spec"]["template"]["spec"].take();
        // The volume for the self-test must be on a disk.
        let folder = tempfile::tempdir_in(default_dir().map_err(Error::other)?)?;
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
        let mut pod = Self { folder, spec, mounts: Vec::new() };
        for place in ["proc", "sys"] {
            fs::create_dir_all(pod.root().join(place))?;
        }
        fs::copy(binary, pod.root().join("tracer"))?;
        let mounts = list(pod.container(), "volumeMounts").to_vec();
        for wanted in &mounts {
            let from = pod.volume(wanted)?;
            let to = pod.root().join(text(wanted, "mountPath").trim_start_matches('/'));
            fs::create_dir_all(&to)?;
            let is_read_only = wanted["readOnly"] == true;
            pod.mounts.push(BindMount { from: c_path(&from), to: c_path(&to), is_read_only });
        }
        Ok(pod)
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn container(&self) -> &Value {
        &list(&self.spec, "containers")[0]
    }

    /// The directory with a volume's files. The pod must not write to the host's own files.
    fn volume(&self, wanted: &Value) -> io::Result<PathBuf> {
        let name = text(wanted, "name");
        let volumes = list(&self.spec, "volumes");
        let volume = volumes.iter().find(|volume| volume["name"] == name).expect("is declared");
        let own = self.folder.path().join(name);
        if let Some(path) = volume["hostPath"]["path"].as_str().map(Path::new)
            && wanted["readOnly"] == true
            && path.exists()
        {
            return Ok(path.to_owned());
        }
        fs::create_dir(&own)?;
        if volume["configMap"].is_object() {
            for (file, content) in yaml(CONFIGMAP)["data"].as_object().expect("has files") {
                fs::write(own.join(file), content.as_str().expect("is text"))?;
            }
        }
        Ok(own)
    }

    /// The capabilities that are added to none.
    pub fn capabilities(&self) -> Vec<Capability> {
        let security = &self.container()["securityContext"];
        assert_eq!(security["runAsUser"], 0, "added capabilities reach only user 0");
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(self.spec["hostPID"], true);
        let capabilities = &security["capabilities"];
        assert_eq!(list(capabilities, "drop"), ["ALL"]);
        let parse = |name: &Value| format!("CAP_{}", name.as_str().unwrap()).parse();
        list(capabilities, "add").iter().map(|name| parse(name).expect("a capability")).collect()
    }

    /// The container's command, with another address to listen on, because it shares the
    /// network.
    pub fn agent(&self, capabilities: &[Capability], address: SocketAddr) -> Command {
        let args = list(self.container(), "args").iter().map(|arg| arg.as_str().unwrap());
        let args = args.filter(|arg| !arg.starts_with("--listen="));
        let mut command = self.command(capabilities);
        command.args(args).arg(format!("--listen={address}")).env("TRACER_PERIOD", "2s");
        command
    }

    /// The image's program with these capabilities and no others.
    pub fn command(&self, capabilities: &[Capability]) -> Command {
        let mut command = Command::new("/tracer");
        command.env_clear();
        let root = c_path(&self.root());
        let [proc, sys] = ["proc", "sys"].map(|place| c_path(&self.root().join(place)));
        let mounts = self.mounts.clone();
        let given_up: Vec<_> =
            caps::all().into_iter().filter(|c| !capabilities.contains(c)).collect();
        // SAFETY: the closure makes system calls with arguments that are ready,
        // and allocates nothing, which is allowed between fork and exec.
        unsafe {
            command.pre_exec(move || {
                unshare(CloneFlags::CLONE_NEWNS)?;
                // Later mounts and unmounts of the host are seen here too, and
                // none of ours are seen there.
                let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
                mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)?;
                let bind = |from: &CString, to: &CString| {
                    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
                    mount(Some(from.as_c_str()), to.as_c_str(), None::<&str>, flags, None::<&str>)
                };
                let make_read_only = |of: &CString| {
                    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                    mount(None::<&str>, of.as_c_str(), None::<&str>, flags, None::<&str>)
                };
                bind(&root, &root)?;
                let none = MsFlags::empty();
                mount(Some("proc"), proc.as_c_str(), Some("proc"), none, None::<&str>)?;
                let read_only = MsFlags::MS_RDONLY;
                mount(Some("sysfs"), sys.as_c_str(), Some("sysfs"), read_only, None::<&str>)?;
                for BindMount { from, to, is_read_only } in &mounts {
                    bind(from, to)?;
                    if *is_read_only {
                        make_read_only(to)?;
                    }
                }
                make_read_only(&root)?;
                chroot(root.as_c_str())?;
                chdir("/")?;
                setrlimit(Resource::RLIMIT_MEMLOCK, MEMLOCK_BYTES, MEMLOCK_BYTES)?;
                // User 0 does not regain capabilities outside of the bounding set by
                // executing a program; runtimes drop them in this way.
                let refused = |_| Error::from_raw_os_error(libc::EPERM);
                for capability in &given_up {
                    caps::drop(None, CapSet::Bounding, *capability).map_err(refused)?;
                }
                caps::clear(None, CapSet::Inheritable).map_err(refused)?;
                caps::clear(None, CapSet::Ambient).map_err(refused)?;
                set_no_new_privs().map_err(Error::from)
            });
        }
        command
    }
}
