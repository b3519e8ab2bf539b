//! The process of this node that serves a disk.
//!
//! - If a loop device's file lies on FUSE, it is the process that has that connection
//!   open.
//! - For an nbd it is the process that holds the device, or the server at the other end
//!   of its connection.
//! - For an iSCSI disk whose target has an address of this node, it is the process that
//!   listens there; for a Longhorn volume, the volume's engine, known by its arguments.
//!
//! Since Linux 6.16 a FUSE descriptor says to which connection it belongs
//! (`fuse_connection:` in fdinfo, fuse_dev_show_fdinfo in
//! <https://elixir.bootlin.com/linux/v6.16/source/fs/fuse/dev.c>). On older kernels it is
//! the only process that has `/dev/fuse` open, or else the one that names the mount point
//! in its arguments.

use std::{fs, os::unix::ffi::OsStrExt as _, path::Path};

use super::{Place, SMALL_BYTES, sockets};
use crate::{
    devices,
    identity::{Program, find_program, start_ticks},
    mounts,
    tree::{Tree, number, text},
};

const FUSE: &[u8] = b"/dev/fuse";

/// Descriptors of one process that are looked at.
const DESCRIPTORS: usize = 65_536;

/// Longhorn's targets are called so, and then like the volume.
const LONGHORN_TARGET: &str = "iqn.2019-10.io.longhorn:";

/// The processes that serve what a sync at this place waits for.
pub fn find(tree: &Tree, place: Place) -> Vec<u32> {
    let name = place.disk.and_then(|(_, device)| disk_name(tree, device));
    let mut servers = match &name {
        Some(name) if name.starts_with("loop") => file_server(tree, name),
        Some(name) if name.starts_with("nbd") => nbd_server(tree, name),
        Some(name) => iscsi_servers(tree, name),
        None => mounted_fuse(tree, |mount| mount.device == place.device),
    };
    servers.sort_unstable();
    servers.dedup();
    servers
}

/// The name of a disk by its number.
fn disk_name(tree: &Tree, device: u32) -> Option<String> {
    let (major, minor) = (devices::major(device), devices::minor(device));
    let link = fs::read_link(tree.at(format!("sys/dev/block/{major}:{minor}"))).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

fn file_server(tree: &Tree, name: &str) -> Vec<u32> {
    let Ok(file) = tree.read_up_to(format!("sys/block/{name}/loop/backing_file"), SMALL_BYTES)
    else {
        return Vec::new();
    };
    let file = file.trim_ascii_end().to_vec();
    let file = file.strip_suffix(b" (deleted)").map_or(file.clone(), <[u8]>::to_vec);
    let mountinfo = ["1", "self"].into_iter().find_map(|p| mounts::read(tree, p).ok());
    let mountinfo = mountinfo.unwrap_or_default();
    let below = mounts::parse(&mountinfo).filter_map(|mount| {
        let point = mounts::unescape(mount.point);
        let is_below = Path::new(std::ffi::OsStr::from_bytes(&file))
            .starts_with(Path::new(std::ffi::OsStr::from_bytes(&point)));
        is_below.then_some((point.len(), mount))
    });
    // The last of several mounts on one place hides the others.
    let Some((_, mount)) = below.max_by_key(|(length, _)| *length) else { return Vec::new() };
    if is_fuse(&mount) { fuse_server(tree, &mount) } else { Vec::new() }
}

fn mounted_fuse(tree: &Tree, is_it: impl Fn(&mounts::Mount<'_>) -> bool) -> Vec<u32> {
    let mountinfo = ["1", "self"].into_iter().find_map(|p| mounts::read(tree, p).ok());
    let mountinfo = mountinfo.unwrap_or_default();
    let mount = mounts::parse(&mountinfo).find(|mount| is_fuse(mount) && is_it(mount));
    mount.map_or_else(Vec::new, |mount| fuse_server(tree, &mount))
}

fn is_fuse(mount: &mounts::Mount<'_>) -> bool {
    mount.fstype == b"fuse" || mount.fstype == b"fuseblk" || mount.fstype.starts_with(b"fuse.")
}

/// The process that has the connection of this mount open.
fn fuse_server(tree: &Tree, mount: &mounts::Mount<'_>) -> Vec<u32> {
    let (mut its, mut unsaid) = (Vec::new(), Vec::new());
    for tgid in processes(tree) {
        for fd in descriptors(tree, tgid, |target| target == FUSE) {
            let info = tree.read_up_to(format!("proc/{tgid}/fdinfo/{fd}"), SMALL_BYTES);
            match find_connection(&info.unwrap_or_default()) {
                Some(connection) if connection == u64::from(mount.device) => its.push(tgid),
                Some(_) => {}
                None => unsaid.push(tgid),
            }
        }
    }
    if !its.is_empty() {
        // Children may have inherited it; who opened it came first.
        return vec![eldest(tree, &its)];
    }
    unsaid.dedup();
    if let [only] = unsaid[..] {
        return vec![only];
    }
    let point = mounts::unescape(mount.point);
    let names_it = |tgid: &u32| {
        let arguments = tree.read_up_to(format!("proc/{tgid}/cmdline"), SMALL_BYTES);
        arguments.is_ok_and(|all| all.split(|&b| b == 0).any(|one| one == &point[..]))
    };
    let named: Vec<_> = unsaid.into_iter().filter(names_it).collect();
    if named.is_empty() { named } else { vec![eldest(tree, &named)] }
}

/// Reads the line `fuse_connection:\t39` of a descriptor's `fdinfo`.
fn find_connection(info: &[u8]) -> Option<u64> {
    let line = info.split(|&b| b == b'\n').find_map(|l| l.strip_prefix(b"fuse_connection:"))?;
    number(line.trim_ascii())
}

/// The one that was started first.
fn eldest(tree: &Tree, tgids: &[u32]) -> u32 {
    let started = |tgid: &&u32| start_ticks(tree, **tgid).unwrap_or(u64::MAX);
    tgids.iter().min_by_key(started).copied().unwrap_or_default()
}

fn nbd_server(tree: &Tree, name: &str) -> Vec<u32> {
    let Some(tid) = tree.read_number(format!("sys/block/{name}/pid")) else { return Vec::new() };
    let Some(holder) = process_of(tree, tid) else { return Vec::new() };
    let mine: Vec<_> = sockets_of(tree, holder);
    let sockets = sockets::read(tree, &holder.to_string());
    let peers = sockets::peers(&sockets, &mine);
    let others = holders(tree, &peers);
    // qemu-nbd serves what it holds itself.
    if others.is_empty() { vec![holder] } else { others }
}

fn process_of(tree: &Tree, tid: u64) -> Option<u32> {
    let status = tree.read_up_to(format!("proc/{tid}/status"), SMALL_BYTES).ok()?;
    let line = status.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"Tgid:"))?;
    number(line.trim_ascii())
}

fn iscsi_servers(tree: &Tree, name: &str) -> Vec<u32> {
    let Ok(device) = fs::canonicalize(tree.at(format!("sys/block/{name}/device"))) else {
        return Vec::new();
    };
    let number_of = |part: &str| part.strip_prefix("session").and_then(|n| n.parse::<u32>().ok());
    let mut parts = device.components().rev().filter_map(|part| part.as_os_str().to_str());
    let Some(session) = parts.find_map(number_of) else { return Vec::new() };
    let mut servers = Vec::new();
    let target = tree.read_line(format!("sys/class/iscsi_session/session{session}/targetname"));
    if let Some(volume) = target.as_deref().and_then(|t| t.strip_prefix(LONGHORN_TARGET)) {
        servers.extend(longhorn_engines(tree, volume));
    }
    let connection = format!("sys/class/iscsi_connection/connection{session}:0");
    let address = tree.read_line(format!("{connection}/address")).unwrap_or_default();
    let port = tree.read_number(format!("{connection}/port"));
    let fib_trie = tree.read_up_to("proc/1/net/fib_trie", 1 << 20).unwrap_or_default();
    if !sockets::is_local(address.trim(), &fib_trie) {
        return servers;
    }
    let listening = sockets::read(tree, "1")
        .into_iter()
        .filter(|socket| socket.listens && socket.port().map(u64::from) == port && port.is_some());
    servers.extend(holders(tree, &listening.map(|socket| socket.inode).collect::<Vec<_>>()));
    servers
}

/// The engines of a Longhorn volume.
fn longhorn_engines(tree: &Tree, volume: &str) -> Vec<u32> {
    let is_engine = |tgid: &u32| {
        let comm = tree.read_up_to(format!("proc/{tgid}/comm"), 64).unwrap_or_default();
        comm.starts_with(b"longhorn") && {
            let arguments = tree.read_up_to(format!("proc/{tgid}/cmdline"), SMALL_BYTES);
            matches!(
                find_program(&arguments.unwrap_or_default()),
                Some(Program::Longhorn { role: "engine", volume: its }) if its == volume
            )
        }
    };
    processes(tree).filter(is_engine).collect()
}

/// Whoever has one of these sockets open.
fn holders(tree: &Tree, inodes: &[u64]) -> Vec<u32> {
    if inodes.is_empty() {
        return Vec::new();
    }
    let is_one = |target: &[u8]| socket_inode(target).is_some_and(|one| inodes.contains(&one));
    processes(tree).filter(|tgid| !descriptors(tree, *tgid, is_one).is_empty()).collect()
}

fn sockets_of(tree: &Tree, tgid: u32) -> Vec<u64> {
    let mut inodes = Vec::new();
    descriptors(tree, tgid, |target| {
        inodes.extend(socket_inode(target));
        false
    });
    inodes
}

/// Reads `socket:[1234]`.
fn socket_inode(target: &[u8]) -> Option<u64> {
    number(target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?)
}

fn processes(tree: &Tree) -> impl Iterator<Item = u32> + use<> {
    let all = fs::read_dir(tree.at("proc")).into_iter().flatten().flatten();
    all.filter_map(|entry| number(entry.file_name().as_bytes()))
}

/// The descriptors of a process that lead to something.
fn descriptors(tree: &Tree, tgid: u32, mut is_it: impl FnMut(&[u8]) -> bool) -> Vec<String> {
    let folder = tree.at(format!("proc/{tgid}/fd"));
    let all = fs::read_dir(folder).into_iter().flatten().flatten().take(DESCRIPTORS);
    all.filter(|entry| {
        fs::read_link(entry.path()).is_ok_and(|target| is_it(target.as_os_str().as_bytes()))
    })
    .map(|entry| text(entry.file_name().as_bytes(), 16))
    .collect()
}
