//! An NVMe namespace with two paths: the requests are those of the paths, which are
//! hidden disks, and before Linux 6.1 no file has their numbers (diskstats_show,
//! <https://elixir.bootlin.com/linux/v6.1/source/block/genhd.c>).

use std::{
    fs::{self, File},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use tracer_ebpf::dropped::Dropped;
use tracer_snapshot::Phase;

use super::{devices::Mounted, need, need_guest, write_and_sync};
use crate::{
    live::{block::dropped, traced},
    matrix::ways::own_syncs,
};

const SYNCS: usize = 20;

/// The namespace that a hidden disk belongs to: `nvme1n1` of `nvme1c0n1`.
fn head_of(path: &str) -> Option<String> {
    let (subsystem, rest) = path.strip_prefix("nvme")?.split_once('c')?;
    let (_, namespace) = rest.split_once('n')?;
    Some(format!("nvme{subsystem}n{namespace}"))
}

/// A namespace and the hidden disks below it, once its driver has found them.
fn await_paths() -> Option<(String, Vec<String>)> {
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        let entries = fs::read_dir("/sys/block").expect("sysfs is mounted").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let paths: Vec<_> = names.filter(|name| head_of(name).is_some()).collect();
        let head = paths.first().and_then(|path| head_of(path));
        if let Some(head) = head.filter(|head| Path::new("/dev").join(head).exists())
            && paths.len() > 1
        {
            return Some((head, paths));
        }
        sleep(Duration::from_millis(100));
    }
    None
}

#[test]
fn requests_of_hidden_paths_are_those_of_the_disk_above() {
    need_guest!();
    need!(&["nvme"], &[]);
    let Some((head, paths)) = await_paths() else {
        crate::skip::skip!("this machine or this kernel has no NVMe with several paths");
    };
    let mounted = Mounted::ext4(&format!("/dev/{head}")).unwrap();
    let path = mounted.path().join("data");
    let mut file = File::options().create(true).write(true).truncate(true).open(&path).unwrap();
    traced(|session| {
        write_and_sync(&mut file, SYNCS).unwrap();
        // The first of them made the tracer find the paths.
        own_syncs(session);
        let before = dropped(&session.snapshot(), Dropped::DiskUnknown);
        session.begin_period();
        write_and_sync(&mut file, SYNCS).unwrap();
        let syncs = own_syncs(session);
        assert_eq!(syncs.len(), SYNCS);
        let snapshot = session.snapshot();
        let unknown = dropped(&snapshot, Dropped::DiskUnknown);
        println!("{unknown} requests were unknown on {paths:?}");
        assert_eq!(unknown, before, "of {paths:?}");
        let victim = snapshot.victims.iter().find(|victim| Path::new(&victim.path) == path);
        let victim = victim.expect("its file is known");
        let disk = victim.disk.map(|at| &snapshot.disks[at]).expect("it waits for a disk");
        println!("{head} lies on {paths:?}; a sync on it waits for {}", disk.name);
        assert!(paths.contains(&disk.name), "{}", disk.name);
        let below = snapshot.disks.iter().filter(|disk| paths.contains(&disk.name));
        let served: u64 = below.flat_map(|d| &d.latencies).map(|latency| latency.count).sum();
        assert!(served as usize >= SYNCS, "{served} requests");
        // And the syncs saw their own requests there.
        let in_device = syncs.iter().filter(|sync| sync.phases[Phase::Device] > 0.0);
        assert!(in_device.count() * 2 > SYNCS, "{syncs:?}");
    });
}
