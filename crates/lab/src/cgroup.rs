//! Cgroups for the actors, so that the tracer has somebody to name.
//!
//! They are created at the top of the v2 hierarchy, below one cgroup per run
//! (`tracer-lab-<pid>/etcd`). No controller is turned on, and only our own
//! children are put there. The run's cgroup is removed when the last process that
//! was started in it has ended; empty cgroups of runs that no longer exist are
//! removed when a new one is created.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    mounts::{self, Mount},
    process::born_in,
};

const PREFIX: &str = "tracer-lab-";

/// The run's cgroup is shared by the cgroups below it. Without this lock, one could
/// create it while another, which was the last, removes it.
static RUN: Mutex<()> = Mutex::new(());

/// A cgroup of ours; the last clone removes it. It is none if the machine has no
/// cgroup2.
#[derive(Clone, Debug)]
pub struct Cgroup(Option<Arc<Folder>>);

#[derive(Debug)]
struct Folder {
    folder: PathBuf,
    path: String,
    id: u64,
}

impl Cgroup {
    /// Creates a cgroup, with a number after the name if the name is in use. It is none if
    /// there is no writable cgroup2.
    pub fn create(name: &str) -> Result<Cgroup> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            bail!("`{name}` cannot be the name of a cgroup");
        }
        let mounts = mounts::read()?;
        let Some(hierarchy) = mounts.iter().find(|mount| mount.fstype == "cgroup2") else {
            return Ok(Cgroup::none());
        };
        let _run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
        sweep(&hierarchy.mountpoint);

        let run = format!("{PREFIX}{}", process::id());
        match fs::create_dir(hierarchy.mountpoint.join(&run)) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
                ) =>
            {
                return Ok(Cgroup::none());
            }
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| {
                    format!("failed to make a cgroup in `{}`", hierarchy.mountpoint.display())
                });
            }
            _ => {}
        }
        make(hierarchy, &run, name)
    }

    /// Stands for no cgroup: processes stay where they are.
    pub fn none() -> Cgroup {
        Cgroup(None)
    }

    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The kernel's id of the cgroup, 0 for none.
    pub fn id(&self) -> u64 {
        self.0.as_ref().map_or(0, |cgroup| cgroup.id)
    }

    /// The path as `/proc/<pid>/cgroup` shows it, empty for none.
    pub fn path(&self) -> &str {
        self.0.as_ref().map_or("", |cgroup| &cgroup.path)
    }

    /// Moves a process into it.
    pub fn add(&self, pid: u32) -> Result<()> {
        let Some(cgroup) = &self.0 else { return Ok(()) };
        fs::write(cgroup.procs(), pid.to_string())
            .with_context(|| format!("failed to move pid {pid} into cgroup `{}`", cgroup.path))
    }

    /// Writes one of its files.
    pub fn set(&self, file: &str, value: &str) -> Result<()> {
        let Some(cgroup) = &self.0 else { return Ok(()) };
        let path = cgroup.folder.join(file);
        fs::write(&path, value)
            .with_context(|| format!("failed to write `{value}` to `{}`", path.display()))
    }

    /// Makes `command` start in the cgroup.
    pub fn enter(&self, command: &mut Command) -> Result<()> {
        let Some(cgroup) = &self.0 else { return Ok(()) };
        let procs = fs::File::options()
            .write(true)
            .open(cgroup.procs())
            .with_context(|| format!("failed to open `{}`", cgroup.procs().display()))?;
        born_in(command, procs);
        Ok(())
    }
}

impl Folder {
    fn procs(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            match fs::remove_dir(&self.folder) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                // A process that has just ended may still be counted.
                Err(_) if Instant::now() < until => thread::sleep(Duration::from_millis(20)),
                Err(error) => {
                    eprintln!("lab: failed to remove `{}`: {error}", self.folder.display());
                    break;
                }
            }
        }
        if let Some(run) = self.folder.parent() {
            // This fails while other cgroups of ours are below it; the last of them removes it.
            let _ = fs::remove_dir(run);
        }
    }
}

fn make(hierarchy: &Mount, run: &str, name: &str) -> Result<Cgroup> {
    for number in 1..100 {
        let name = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        let below = Path::new(run).join(name);
        let folder = hierarchy.mountpoint.join(&below);
        match fs::create_dir(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("failed to make cgroup `{}`", folder.display()));
            }
        }
        let path = hierarchy.root.join(&below).to_string_lossy().into_owned();
        // From here on a guard removes it, in case the next step fails.
        let mut cgroup = Folder { folder, path, id: 0 };
        cgroup.id = fs::metadata(&cgroup.folder)
            .with_context(|| format!("failed to read the metadata of cgroup `{}`", cgroup.path))?
            .ino();
        return Ok(Cgroup(Some(Arc::new(cgroup))));
    }
    bail!("a hundred cgroups called `{name}` exist already: drop some")
}

/// Removes the cgroups of runs that no longer exist. The kernel refuses if a process is
/// left in one, so no running process is affected; a later sweep tries again.
fn sweep(hierarchy: &Path) {
    let Ok(runs) = fs::read_dir(hierarchy) else { return };
    for run in runs.flatten() {
        let name = run.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        let Some(pid) = pid else { continue };
        if Path::new(&format!("/proc/{pid}")).exists() {
            continue;
        }
        for cgroup in fs::read_dir(run.path()).into_iter().flatten().flatten() {
            if cgroup.file_type().is_ok_and(|kind| kind.is_dir()) {
                let _ = fs::remove_dir(cgroup.path());
            }
        }
        let _ = fs::remove_dir(run.path());
    }
}
