//! A disk's stack changes while it is used: from then on a verdict is about the disk that
//! is below now, and about the processes that use it.

use std::{
    fs::File,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use tracer::session::Session;
use tracer_lab::{cgroup::Cgroup, process::Process, tool::DD};
use tracer_snapshot::SlowSync;

use super::{
    devices::{self, DMSETUP, Device, MDADM, Mounted, NullBlk},
    need, need_guest, write_and_sync,
};
use crate::{
    live::traced,
    matrix::{requests::meet, ways::own_syncs},
};

const MODULES: [&str; 3] = ["configfs", "null_blk", "dm-mod"];
/// The time that every request takes, so that there is something in flight to see.
const DELAY: Duration = Duration::from_millis(20);
const SYNCS: usize = 10;
/// After this time no verdict may be about the old stack.
const SOON: Duration = Duration::from_secs(2);
const NAME: &str = "tracer-moved";

/// A disk, and a process in a cgroup of its own that reads it all the time.
struct Ground {
    // It is ended first.
    _neighbour: Process,
    cgroup: Cgroup,
    disk: Device,
}

fn slow_disk(session: &mut Session) -> Device {
    let wanted = NullBlk { delay: DELAY, size_mib: 64, ..NullBlk::default() };
    let disk = devices::null_blk(wanted).expect("a null_blk of our own");
    meet(session, &disk.name).unwrap();
    disk
}

impl Ground {
    fn on(disk: Device, name: &str) -> Self {
        let cgroup = Cgroup::create(name).unwrap();
        let mut command = DD.command().unwrap();
        command.args([&format!("if={}", disk.path()), "of=/dev/null", "bs=4k", "iflag=direct"]);
        command.args(["count=1000000000", "status=none"]);
        Self { _neighbour: Process::spawn(command, &cgroup).unwrap(), cgroup, disk }
    }
}

/// Polls the tracer ten times a second, so that it looks at the disks.
fn pass(session: &mut Session, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        session.poll(None, &mut Vec::new());
        sleep(Duration::from_millis(50));
    }
}

/// Whether all syncs overlapped with this cgroup's requests, and with nobody else's except
/// their own.
fn are_beside(syncs: &[SlowSync], cgroup: &Cgroup, strangers: &Cgroup) -> bool {
    let has = |cgroup: &Cgroup| {
        let is_its = |sync: &SlowSync| sync.owners.iter().any(|o| o.actor.cgroup == cgroup.path());
        syncs.iter().filter(|sync| is_its(sync)).count()
    };
    // The first of them may be gone before a neighbour's next request.
    has(cgroup) + 2 >= SYNCS && has(strangers) == 0 && syncs.len() == SYNCS
}

fn check(session: &mut Session, path: &Path, here: &Ground, elsewhere: &Ground) {
    let mut file = File::options().create(true).write(true).truncate(false).open(path).unwrap();
    write_and_sync(&mut file, SYNCS).unwrap();
    own_syncs(session);
    session.begin_period();
    write_and_sync(&mut file, SYNCS).unwrap();
    let syncs = own_syncs(session);
    let beside: Vec<_> = syncs.iter().map(|sync| &sync.owners).collect();
    let disk = &here.disk.name;
    assert!(are_beside(&syncs, &here.cgroup, &elsewhere.cgroup), "on {disk}: {beside:#?}");
    let snapshot = session.snapshot();
    let victim = snapshot.victims.iter().find(|victim| Path::new(&victim.path) == path);
    let victim = victim.expect("its file is known");
    let on = victim.disk.map(|at| snapshot.disks[at].name.as_str());
    assert_eq!(on, Some(disk.as_str()), "{victim:?}");
    println!("a verdict on `{}` speaks of {disk}: {:?}", victim.device, victim.verdict);
}

fn linear(disk: &Device) -> String {
    format!("0 {} linear {} 0", (60 << 20) / 512, disk.path())
}

fn dmsetup(args: &[&str]) -> String {
    DMSETUP.run(&[&["--noudevrules", "--noudevsync"], args].concat()).unwrap()
}

/// A volume that is removed when dropped.
struct Volume(String);

impl Volume {
    fn over(disk: &Device) -> Self {
        dmsetup(&["create", NAME, "--table", &linear(disk)]);
        let name = dmsetup(&["info", "--columns", "--noheadings", "-o", "blkdevname", NAME]);
        devices::await_node(&name).unwrap();
        Self(format!("/dev/{name}"))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        dmsetup(&["remove", "--retry", NAME]);
    }
}

fn copy(from: &Device, to: &Device) {
    let (from, to) = (format!("if={}", from.path()), format!("of={}", to.path()));
    DD.run(&[&from, &to, "bs=1M", "iflag=direct", "oflag=direct", "status=none"]).unwrap();
}

#[test]
fn a_table_that_is_loaded_anew() {
    need_guest!();
    need!(&MODULES, &[DMSETUP, DD]);
    traced(|session| {
        let [one, other] = [slow_disk(session), slow_disk(session)];
        let volume = Volume::over(&one);
        let mounted = Mounted::ext4(&volume.0).unwrap();
        let path = mounted.path().join("data");
        let ends = [(one, "one"), (other, "other")].map(|(disk, name)| Ground::on(disk, name));
        let [one, other] = &ends;
        pass(session, SOON);
        check(session, &path, one, other);

        dmsetup(&["suspend", NAME]);
        copy(&one.disk, &other.disk);
        dmsetup(&["load", NAME, "--table", &linear(&other.disk)]);
        dmsetup(&["resume", NAME]);
        pass(session, SOON);
        check(session, &path, other, one);
        drop(mounted);
        drop(volume);
    });
}

#[test]
fn a_volume_that_is_removed_and_made_on_another_disk() {
    need_guest!();
    need!(&MODULES, &[DMSETUP, DD]);
    traced(|session| {
        let [one, other] = [slow_disk(session), slow_disk(session)];
        let volume = Volume::over(&one);
        let mounted = Mounted::ext4(&volume.0).unwrap();
        let ends = [(one, "one"), (other, "other")].map(|(disk, name)| Ground::on(disk, name));
        let [one, other] = &ends;
        pass(session, SOON);
        check(session, &mounted.path().join("first"), one, other);
        drop(mounted);
        let name = volume.0.clone();
        drop(volume);

        let volume = Volume::over(&other.disk);
        assert_eq!(volume.0, name, "the kernel gives the number again");
        let mounted = Mounted::ext4(&volume.0).unwrap();
        pass(session, SOON);
        check(session, &mounted.path().join("second"), other, one);
        drop(mounted);
        drop(volume);
    });
}

/// An array that is stopped when dropped.
struct Array(String);

impl Drop for Array {
    fn drop(&mut self) {
        MDADM.run(&["--stop", &self.0]).unwrap();
    }
}

/// In a mirror, a spare replaces a disk.
#[test]
fn a_spare_that_takes_the_place_of_a_member() {
    need_guest!();
    need!(&["configfs", "null_blk", "md-mod", "raid1"], &[MDADM, DD]);
    traced(|session| {
        let [first, one, other] = [(); 3].map(|()| slow_disk(session));
        let array = Array("/dev/md127".into());
        let disks = [first.path(), one.path(), other.path()];
        let options = ["--run", "--metadata=1.0", "--level=1", "--raid-devices=2"];
        let more = ["--assume-clean", "--bitmap=none", "--spare-devices=1"];
        let members = [disks[1].as_str(), &disks[0], &disks[2]];
        MDADM.run(&[&["--create", &array.0][..], &options, &more, &members].concat()).unwrap();
        let mounted = Mounted::ext4(&array.0).unwrap();
        let path = mounted.path().join("data");
        let ends = [(one, "one"), (other, "other")].map(|(disk, name)| Ground::on(disk, name));
        let [one, other] = &ends;
        pass(session, SOON);
        check(session, &path, one, other);

        MDADM.run(&[&array.0, "--fail", &one.disk.path()]).unwrap();
        // It ends with an error if there is nothing left to wait for.
        let _ = MDADM.run(&["--wait", &array.0]);
        pass(session, SOON);
        check(session, &path, other, one);
        drop(mounted);
        drop(array);
    });
}
