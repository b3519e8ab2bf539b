//! Processes in the root of cgroup v2, where all are if version 1 is in use: each is
//! identified by its cgroup of version 1.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    thread::sleep,
    time::{Duration, Instant},
};

use tracer_lab::{
    cgroup::Cgroup,
    disk::Filesystem,
    process::Process,
    tool::{DD, Tool},
};
use tracer_snapshot::Op;

use super::{lab_disk, need_live, traced};
use crate::{matrix::requests::settle, skip::skip};

const LONG: Duration = Duration::from_secs(60);
const BASH: Tool = Tool { name: "bash", package: "bash" };
const ROOT: &str = "/sys/fs/cgroup/memory";

/// A cgroup of version 1; it is removed after its last process has ended.
struct V1(PathBuf);

impl V1 {
    fn create(name: &str) -> Self {
        let folder = Path::new(ROOT).join(format!("tracer-test-{}-{name}", process::id()));
        fs::create_dir(&folder).expect("can make a cgroup");
        Self(folder)
    }

    fn path(&self) -> String {
        let below = self.0.strip_prefix(ROOT).expect("it lies there");
        format!("/{}", below.display())
    }
}

impl Drop for V1 {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < end {
            sleep(Duration::from_millis(50));
        }
    }
}

/// A `dd` in a cgroup of version 1 that syncs each write.
fn writer(cgroup: &V1, file: &Path) -> Process {
    let script = r#"echo $$ > "$0/cgroup.procs" && exec dd if=/dev/zero of="$1" bs=4k \
                    count=100000 oflag=dsync conv=notrunc"#;
    let mut command: Command = BASH.command().unwrap();
    command.arg("-c").arg(script).arg(&cgroup.0).arg(file);
    Process::spawn(command, &Cgroup::none()).expect("it starts")
}

#[test]
fn two_of_one_name_in_two_cgroups_of_version_1_are_two() {
    need_live!();
    if !Path::new(ROOT).join("memory.limit_in_bytes").exists() {
        skip!("there is no cgroup v1 hierarchy for memory");
    }
    if DD.find().is_none() || BASH.find().is_none() {
        skip!("`dd` or `bash` is not installed");
    }
    let disk = lab_disk(Filesystem::Ext4);
    traced(|session| {
        if session.unsupported().iter().any(|here| here.what == "cgroup") {
            skip!("this kernel does not let programs read cgroups of version 1");
        }
        settle(session, disk.name()).unwrap();
        let cgroups = ["one", "two"].map(V1::create);
        let _writers = ["one", "two"].map(|name| {
            let cgroup = &cgroups[usize::from(name == "two")];
            writer(cgroup, &disk.mountpoint().join(name))
        });
        let end = Instant::now() + LONG;
        loop {
            sleep(Duration::from_millis(100));
            session.poll(None, &mut Vec::new());
            let snapshot = session.snapshot();
            let own = snapshot.disks.iter().find(|one| one.name == disk.name()).unwrap();
            let is_seen = |cgroup: &V1| {
                let path = cgroup.path();
                let is_it = |comm: &str, of: &str| comm == "dd" && of == path;
                let owns = own.owners.iter().any(|owner| {
                    owner.op == Op::Write && is_it(&owner.actor.comm, &owner.actor.cgroup)
                });
                let mut victims = snapshot.victims.iter();
                owns && victims.any(|victim| is_it(&victim.actor.comm, &victim.actor.cgroup))
            };
            if cgroups.iter().all(is_seen) {
                return;
            }
            assert!(Instant::now() < end, "{:#?} {:#?}", own.owners, snapshot.victims);
        }
    });
}
