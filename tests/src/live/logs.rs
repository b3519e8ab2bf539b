//! Filesystems' logs, and the processes that fill them.

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use tracer::session::Session;
use tracer_kernel::capability::Capability;
use tracer_lab::{
    cgroup::Cgroup,
    disk::Filesystem,
    process::Process,
    tool::{Tool, last_line},
};
use tracer_node::mounts;

use super::{lab_disk, need_live, traced_through};
use crate::matrix::requests::settle;

const TOUCH: Tool = Tool { name: "touch", package: "coreutils" };

/// The number of files that are created.
const FILES: u32 = 300;

#[test]
fn who_creates_files_fills_the_log_of_an_xfs() {
    need_live!();
    // The log counts bytes. Each creation logs an inode's core, which has 176.
    who_creates_files_fills_the_log(Filesystem::Xfs, Capability::Tickets, FILES * 176);
}

fn who_creates_files_fills_the_log(filesystem: Filesystem, by: Capability, least: u32) {
    let disk = lab_disk(filesystem);
    // Asked for by name, its hooks are attached though nothing waits for the log.
    let wish = format!("{by}=tracepoint").parse().expect("a strategy");
    traced_through(vec![wish], |session| {
        if session.unsupported().iter().any(|unsupported| unsupported.what == by.name()) {
            crate::skip::skip!("this kernel does not show which process fills a log");
        }
        settle(session, disk.name()).unwrap();
        let tenant = Cgroup::create("creator").unwrap();
        create_files(&disk.mountpoint().join("many"), &tenant);
        let amount = amount_of("touch", &tenant, filesystem_of(disk.mountpoint()), session);
        assert!(amount >= u64::from(least), "{amount} for {FILES} files, not {least}");
    });
}

fn create_files(folder: &Path, cgroup: &Cgroup) {
    fs::create_dir(folder).unwrap();
    let mut command = TOUCH.command().unwrap();
    command.args((0..FILES).map(|number| folder.join(number.to_string())));
    let ended = Process::spawn(command, cgroup).unwrap().wait(Duration::from_secs(60)).unwrap();
    assert!(ended.status.success(), "{}", last_line(&ended.stderr));
}

/// The device number that the kernel uses: on btrfs `stat` shows that of a subvolume.
fn filesystem_of(mountpoint: &Path) -> u32 {
    let mountinfo = fs::read("/proc/self/mountinfo").unwrap();
    let point = mountpoint.to_str().unwrap().as_bytes();
    mounts::parse(&mountinfo).find(|mount| mount.point == point).unwrap().device
}

/// The amount that a process put into a filesystem's log in these seconds.
fn amount_of(comm: &str, cgroup: &Cgroup, filesystem: u32, session: &mut Session) -> u64 {
    let (mut amount, mut last_ns) = (0, 0);
    let end = Instant::now() + Duration::from_millis(2500);
    while Instant::now() < end {
        sleep(Duration::from_millis(50));
        session.poll(None, &mut Vec::new());
        let around = session.last_tick();
        if around.at_ns == last_ns {
            continue;
        }
        last_ns = around.at_ns;
        for work in around.journals.iter().filter(|work| work.device == filesystem) {
            let key = session.owner(work.owner);
            if key.comm.strip_prefix(comm.as_bytes()).is_some_and(|rest| rest.starts_with(b"\0")) {
                assert!(cgroup.is_none() || key.cgroup == cgroup.id(), "{key:?}");
                amount += work.blocks;
            }
        }
    }
    amount
}
