//! Filesystems whose modules are loaded after the tracer's start.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use caps::{CapSet, Capability};
use nix::sys::signal::Signal;
use tracer::session::{Options, Session};
use tracer_kernel::{capability::Capability as Hook, program::Program};
use tracer_lab::{disk::Filesystem, folder::unmount, tool::Tool};
use tracer_snapshot::Phase;

use super::{MODPROBE, need_guest};
use crate::{
    live::{lab_disk, served::Agent, traced, traced_with},
    matrix::ways::own_syncs,
};

const SYNCS: usize = 20;
const MOUNT: Tool = Tool { name: "mount", package: "mount" };

/// Unloads a module. The hooks of an earlier tracer may hold it for a moment.
fn unload(module: &str) -> bool {
    let is_away = || !fs::exists(format!("/sys/module/{module}")).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !is_away() && Instant::now() < until {
        // It prints itself why it fails.
        let _ = MODPROBE.run(&["-r", module]);
        sleep(Duration::from_millis(200));
    }
    is_away()
}

/// The sentences about modules that were loaded late.
fn said(session: &Session) -> Vec<String> {
    let all = session.unsupported().into_iter();
    all.filter(|here| here.what == "module").map(|here| here.sentence).collect()
}

/// Types of modules came in 5.11:
/// <https://github.com/torvalds/linux/commit/36e68442d1af>.
fn has_types() -> bool {
    fs::exists("/sys/kernel/btf/ext4").unwrap()
}

fn strategy(session: &Session, of: Hook) -> Option<&'static str> {
    session.selections().iter().find(|selection| selection.capability == of)?.selected()
}

/// Gives up the capabilities of the calling thread that loading needs, as the agent does.
fn without_rights<T>(work: impl FnOnce() -> T) -> T {
    let rights = [Capability::CAP_SYS_ADMIN, Capability::CAP_PERFMON];
    for right in rights {
        caps::drop(None, CapSet::Effective, right).unwrap();
    }
    let result = work();
    for right in rights {
        caps::raise(None, CapSet::Effective, right).unwrap();
    }
    result
}

/// Loads xfs and btrfs while a tracer runs, and syncs a file on an xfs. Returns the
/// sentences about them, and how many syncs waited for the log.
fn have_them_come(session: &mut Session) -> (Vec<String>, usize) {
    assert_eq!(said(session), [""; 0]);
    assert_eq!(strategy(session, Hook::Log), None);
    for module in ["btrfs", "xfs"] {
        MODPROBE.run(&[module]).unwrap();
    }
    without_rights(|| {
        poll_until(session, |session| {
            strategy(session, Hook::Log).is_some() || !said(session).is_empty()
        });
    });
    let said = said(session);
    let waits = waits_for_the_log(session, Filesystem::Xfs);
    println!("{waits} of {SYNCS} syncs waited for the log; {said:?}");
    (said, waits)
}

/// Lets the session tick until it is as wanted, or for a minute.
fn poll_until(session: &mut Session, is_it: impl Fn(&Session) -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_it(session) && Instant::now() < until {
        sleep(Duration::from_millis(100));
        session.poll(None, &mut Vec::new());
    }
}

/// Syncs a growing file on a new disk; returns how many syncs waited for the
/// filesystem's log.
fn waits_for_the_log(session: &mut Session, filesystem: Filesystem) -> usize {
    let disk = lab_disk(filesystem);
    let mut file = File::create(disk.mountpoint().join("late")).unwrap();
    own_syncs(session);
    for _ in 0..SYNCS {
        // The new size of a growing file is written to the log.
        file.write_all(&[0; 4096]).unwrap();
        file.sync_data().unwrap();
    }
    let syncs = own_syncs(session);
    assert_eq!(syncs.len(), SYNCS);
    syncs.iter().filter(|sync| sync.phases[Phase::Journal] > 0.0).count()
}

/// The sentence about xfs. If functions are hooked, nothing in btrfs's module is missing, so
/// there is no sentence about it.
fn said_of_xfs(session: &Session, said: &[String]) -> String {
    let under_fentry = strategy(session, Hook::Sync) == Some("fentry");
    assert_eq!(said.iter().any(|said| said.starts_with("btrfs")), !under_fentry, "{said:?}");
    let xfs = said.iter().find(|said| said.starts_with("xfs")).expect("something is missing");
    assert!(xfs.contains("`log`"), "{xfs}");
    xfs.clone()
}

macro_rules! need_modules_to_be_away {
    () => {
        for module in ["xfs", "btrfs"] {
            if !unload(module) {
                crate::skip::skip!("`{module}` is not a module here, or it is in use");
            }
        }
    };
}

/// Hooks in a module that is loaded late are attached if the kernel has types of its modules;
/// otherwise the tracer says that they are missing.
#[test]
fn a_filesystem_that_comes_late_is_seen_or_said_to_be_missing() {
    need_guest!();
    need_modules_to_be_away!();
    traced(|session| {
        let (said, waits) = have_them_come(session);
        if has_types() {
            assert_eq!(strategy(session, Hook::Log), Some("tracepoint"));
            assert_eq!(said, [""; 0]);
            assert!(waits * 2 > SYNCS, "{waits} of {SYNCS}");
        } else {
            assert_eq!((strategy(session, Hook::Log), waits), (None, 0));
            let xfs = said_of_xfs(session, &said);
            assert!(xfs.ends_with("a restart does not help"), "{xfs}");
        }
    });
}

/// Hooks hold a module, as open files hold a filesystem. Without hooks in it the module can
/// go, and the sentence about it goes and comes with it.
#[test]
fn a_filesystem_that_goes_and_comes_again_is_seen_or_said_to_be_missing_again() {
    need_guest!();
    need_modules_to_be_away!();
    traced(|session| {
        let (first, _) = have_them_come(session);
        assert_eq!(unload("xfs"), !has_types(), "a hook holds the module, or there is none");
        if !has_types() {
            let is_said = |session: &Session| said(session).iter().any(|s| s.starts_with("xfs"));
            poll_until(session, |session| !is_said(session));
            assert!(!is_said(session), "{:?}", said(session));
            MODPROBE.run(&["xfs"]).unwrap();
            poll_until(session, is_said);
            assert_eq!(said(session), first);
        }
        let waits = waits_for_the_log(session, Filesystem::Xfs);
        println!("{waits} of {SYNCS} syncs waited for the log");
        assert_eq!(waits * 2 > SYNCS, has_types(), "{waits} of {SYNCS}");
    });
    assert!(unload("xfs"), "a hook is left in it");
}

/// The machine without its own disk, which is an ext4, until this is dropped.
struct Diskless;

impl Diskless {
    const PLACES: [&str; 2] = ["/var/lib", "/var/tmp"];

    fn new() -> Self {
        for place in Self::PLACES {
            unmount(Path::new(place)).unwrap();
        }
        Self
    }
}

impl Drop for Diskless {
    fn drop(&mut self) {
        let [bound, disk] = Self::PLACES;
        MODPROBE.run(&["ext4"]).unwrap();
        MOUNT.run(&["-o", "loop", "/disk.img", disk]).unwrap();
        MOUNT.run(&["--bind", "/var/tmp/lib", bound]).unwrap();
    }
}

/// A node whose own disk is an xfs has jbd2 only from its first ext4 volume on.
#[test]
fn the_journal_of_ext4_that_comes_late_is_seen_or_said_to_be_missing() {
    need_guest!();
    let diskless = Diskless::new();
    if !unload("ext4") || !unload("jbd2") {
        crate::skip::skip!("`ext4` is no module here, or in use");
    }
    traced(|session| {
        assert_eq!(said(session), [""; 0]);
        assert_eq!(strategy(session, Hook::Journal), None);
        MODPROBE.run(&["ext4"]).unwrap();
        without_rights(|| {
            poll_until(session, |session| {
                strategy(session, Hook::Journal).is_some() || !said(session).is_empty()
            });
        });
        drop(diskless);
        let said = said(session);
        let waits = waits_for_the_log(session, Filesystem::Ext4);
        println!("{waits} of {SYNCS} syncs waited for the journal; {said:?}");
        if has_types() {
            assert_eq!(strategy(session, Hook::Journal), Some("tracepoint"));
            assert_eq!(said, [""; 0]);
            assert!(waits * 2 > SYNCS, "{waits} of {SYNCS}");
        } else {
            assert_eq!((strategy(session, Hook::Journal), waits), (None, 0));
            let jbd2 = said.iter().find(|said| said.starts_with("jbd2"));
            let jbd2 = jbd2.expect("something is missing");
            assert!(jbd2.contains("`journal`"), "{jbd2}");
            assert!(jbd2.ends_with("a restart does not help"), "{jbd2}");
        }
    });
}

#[test]
fn without_a_loader_a_restart_is_advised_and_helps() {
    need_guest!();
    need_modules_to_be_away!();
    if !has_types() {
        crate::skip::skip!("this kernel has no types of its modules");
    }
    traced_with(&Options { loads_later: false, ..Options::default() }, |session| {
        let (said, waits) = have_them_come(session);
        assert_eq!((strategy(session, Hook::Log), waits), (None, 0));
        let xfs = said_of_xfs(session, &said);
        assert!(xfs.ends_with(": restart the tracer"), "{xfs}");
    });
    traced(|session| assert_eq!(strategy(session, Hook::Log), Some("tracepoint")));
}

/// The children of a process that have this name.
fn children(parent: u32, name: &str) -> Vec<u32> {
    let list = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(list).unwrap();
    let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
    let is_named = |pid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| comm.trim() == name)
    };
    children.filter(is_named).collect()
}

/// A field of a process in /proc.
fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
}

#[test]
fn an_agent_without_rights_has_them_in_a_process_that_can_do_nothing_else() {
    need_guest!();
    need_modules_to_be_away!();
    if !has_types() {
        crate::skip::skip!("this kernel has no types of its modules");
    }
    let config = tempfile::NamedTempFile::new().unwrap();
    fs::write(&config, "period = \"1s\"\n").unwrap();
    let mut agent = Agent::start(config.path());
    let [loader] = children(agent.tracer.id(), "tracer-loader")[..] else {
        panic!("one process; it said:\n{}", agent.tracer.transcript());
    };
    let rights = |pid| u64::from_str_radix(&field(pid, "CapEff:"), 16).unwrap();
    let [admin, perfmon, bpf] = [21, 38, 39].map(|number| 1_u64 << number);
    assert_eq!(rights(agent.tracer.id()) & (admin | perfmon), 0);
    assert_eq!(rights(loader), admin | perfmon | bpf);
    assert_eq!([field(loader, "Seccomp:"), field(loader, "NoNewPrivs:")], ["2", "1"]);
    for fd in fs::read_dir(format!("/proc/{loader}/fd")).unwrap() {
        let target = fs::read_link(fd.unwrap().path()).unwrap();
        let target = target.to_str().unwrap();
        let is_known = ["anon_inode:bpf-map", "pipe:", "socket:"];
        assert!(is_known.iter().any(|known| target.starts_with(known)), "{target}");
    }
    let is_hooked = || agent.metrics().contains("{capability=\"log\",strategy=\"tracepoint\"");
    assert!(!is_hooked());
    MODPROBE.run(&["xfs"]).unwrap();
    agent.wait_until("xfs's log has a hook", is_hooked);
    println!("the loader had {} at most", field(loader, "VmHWM:"));
    agent.tracer.signal(Signal::SIGTERM);
    assert_eq!(agent.tracer.wait(Duration::from_secs(30)).code(), Some(0));
    assert!(!fs::exists(format!("/proc/{loader}")).unwrap());
    assert!(unload("xfs"), "a hook is left in it");
}

/// These programs need constants that only the module's types contain.
#[test]
fn hooks_that_read_what_a_late_module_hands_out_join_too() {
    need_guest!();
    need_modules_to_be_away!();
    if !has_types() {
        crate::skip::skip!("this kernel has no types of its modules");
    }
    let forced = vec!["sync=tracepoint".parse().unwrap()];
    traced_with(&Options { forced, ..Options::default() }, |session| {
        let (said, _) = have_them_come(session);
        assert_eq!(said, [""; 0]);
        let sync = session.selections().iter().find(|s| s.capability == Hook::Sync).unwrap();
        for program in [Program::XfsFileFsync, Program::BtrfsSyncFile] {
            assert!(sync.attached.contains(&program), "{sync:?}");
        }
        // Without such a hook nothing shows that a write is a sync.
        let disk = lab_disk(Filesystem::Xfs);
        let mut options = File::options();
        options.create(true).append(true).custom_flags(libc::O_DSYNC);
        let mut file = options.open(disk.mountpoint().join("dsync")).unwrap();
        own_syncs(session);
        for _ in 0..SYNCS {
            file.write_all(&[1; 4096]).unwrap();
        }
        let syncs = own_syncs(session);
        let writes = syncs.iter().filter(|sync| sync.kind == "o_dsync write").count();
        assert_eq!(writes, SYNCS, "{syncs:?}");
    });
}
