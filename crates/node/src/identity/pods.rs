//! Names of pods, their containers and their volumes, as the kubelet leaves
//! them on the node's disk.
//!
//! Directories are listed and links are read; no file is opened, no link is
//! followed, and nothing below a volume's own directory is touched, since a
//! server that is away would hold us there. The node's own disk may not answer
//! either: all of it is an errand. A uid, a container or a volume that
//! is not known yet leads to one scan of everything, at most every few seconds
//! and a few times for each. What a scan no longer meets is remembered until
//! there is no room for it.
//!
//! Sources (Kubernetes v1.31): `pkg/kubelet/kuberuntime/helpers.go`
//! `BuildPodLogsDirectory` (`<namespace>_<name>_<uid>`), `legacy.go`
//! `logSymlink` (`<pod>_<namespace>_<container>-<id>.log`, cut at 255 bytes),
//! `pkg/kubelet/kubelet_getters.go` and `pkg/volume/csi/csi_mounter.go`,
//! `csi_block.go` (`pods/<uid>/volumes/kubernetes.io~csi/<volume>`,
//! `pods/<uid>/volumeDevices/kubernetes.io~csi/<volume>`); with Docker, its
//! `json-file` log below `/var/lib/docker/containers/<id>/` (v27).

use std::{
    fs::{self, DirEntry},
    num::NonZeroUsize,
    os::unix::ffi::OsStringExt as _,
    path::Path,
};

use lru::LruCache;

use super::cgroup_path::NAME_BYTES;
use crate::{
    errand::{Answer, Errand, Errands},
    tree::{Tree, text},
};

const POD_LOGS: &str = "var/log/pods";
const CONTAINER_LOGS: &str = "var/log/containers";

/// The kubelet's directory: the usual one, that of k0s, that of MicroK8s where
/// the usual one is no link to it.
const KUBELETS: [&str; 3] =
    ["var/lib/kubelet", "var/lib/k0s/kubelet", "var/snap/microk8s/common/var/lib/kubelet"];

const CSI: &str = "kubernetes.io~csi";

/// Entries of one directory that are looked at.
const MAX_ENTRIES: usize = 8192;

const MAX_PODS: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
const MAX_CONTAINERS: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// Between scans, and what each entry met adds to it: at some 10 µs an entry
/// they take about 1 % of one CPU at worst.
const SCAN_EVERY_NS: u64 = 3_000_000_000;
const SCAN_ENTRY_NS: u64 = 1_000_000;

/// A container runs a little before the kubelet makes its link; a pod's own
/// ("pause") never has one.
const SCANS_EACH: u8 = 4;

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pod {
    pub namespace: Box<str>,
    pub name: Box<str>,
}

/// A container of a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    pub pod: Pod,
    pub container: Option<Box<str>>,
}

#[derive(Debug)]
pub struct Pods {
    /// Pods by uid.
    pods: LruCache<Box<str>, Pod>,
    /// Containers by id.
    members: LruCache<Box<str>, Member>,
    /// Uids of pods by the volume that they have.
    users: LruCache<Box<str>, Box<str>>,
    /// Keys that were not found, with the number of scans.
    wanted: LruCache<Box<str>, u8>,
    next_scan_ns: u64,
    /// A scan that the disk does not let end.
    scan: Option<Errand<Scan>>,
    evicted: u64,
}

/// All that a scan met.
#[derive(Debug, Default)]
struct Scan {
    /// With their uids.
    pods: Vec<(String, Pod)>,
    /// With their container ids.
    members: Vec<(String, Member)>,
    /// Volumes, and the uids of the pods that have them.
    users: Vec<(String, String)>,
    entries: u64,
}

impl Default for Pods {
    fn default() -> Self {
        Self {
            pods: LruCache::new(MAX_PODS),
            members: LruCache::new(MAX_CONTAINERS),
            users: LruCache::new(MAX_CONTAINERS),
            wanted: LruCache::new(MAX_PODS),
            next_scan_ns: 0,
            scan: None,
            evicted: 0,
        }
    }
}

impl Pods {
    /// The pod with this uid, and the name of its container with this id.
    pub fn find(
        &mut self,
        tree: &Tree,
        errands: &mut Errands,
        uid: &str,
        container: Option<&str>,
        now_ns: u64,
    ) -> Option<Member> {
        if let Some(id) = container {
            let is_known = self.members.peek(id).is_some();
            if !is_known && self.want(tree, errands, id, now_ns) && self.members.peek(id).is_none()
            {
                self.look_into_logs(tree, errands, uid, id);
            }
            if let Some(member) = self.members.get(id) {
                return Some(member.clone());
            }
        }
        if self.pods.peek(uid).is_none() {
            self.want(tree, errands, uid, now_ns);
        }
        self.pods.get(uid).map(|pod| Member { pod: pod.clone(), container: None })
    }

    /// The pod on this node that has a volume of this name.
    pub fn find_user(
        &mut self,
        tree: &Tree,
        errands: &mut Errands,
        volume: &str,
        now_ns: u64,
    ) -> Option<Pod> {
        if self.users.peek(volume).is_none() {
            self.want(tree, errands, volume, now_ns);
        }
        let uid = self.users.get(volume)?.clone();
        self.find(tree, errands, &uid, None, now_ns).map(|member| member.pod)
    }

    /// Names evicted to make room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Scans for an unknown key, if that may be worth it; returns whether it did.
    fn want(&mut self, tree: &Tree, errands: &mut Errands, key: &str, now_ns: u64) -> bool {
        if now_ns < self.next_scan_ns {
            return false;
        }
        let answer = match self.scan.take() {
            // It may have been made for somebody else.
            Some(scan) => scan.look(),
            None => {
                let scans = match self.wanted.get_mut(key) {
                    Some(scans) => scans,
                    None => self.wanted.get_or_insert_mut(key.into(), || 0),
                };
                if *scans >= SCANS_EACH {
                    return false;
                }
                *scans += 1;
                let tree = tree.clone();
                errands.run(move || Scan::of(&tree))
            }
        };
        self.next_scan_ns = now_ns.saturating_add(SCAN_EVERY_NS);
        match answer {
            Answer::Done(scan) => {
                self.next_scan_ns = self.next_scan_ns.saturating_add(scan.entries * SCAN_ENTRY_NS);
                self.learn(scan);
                true
            }
            Answer::Late(scan) => {
                self.scan = Some(scan);
                false
            }
            Answer::None => false,
        }
    }

    fn learn(&mut self, scan: Scan) {
        for (uid, pod) in scan.pods {
            self.evicted += put(&mut self.pods, &uid, pod);
        }
        for (id, member) in scan.members {
            self.evicted += put(&mut self.members, &id, member);
        }
        for (volume, uid) in scan.users {
            self.evicted += put(&mut self.users, &volume, uid.into());
        }
    }

    /// A container without a link of its own name: by what its log links to
    /// (Docker), else it is the only one of its pod.
    fn look_into_logs(&mut self, tree: &Tree, errands: &mut Errands, uid: &str, id: &str) {
        let Some(pod) = self.pods.get(uid).cloned() else { return };
        let directory = format!("{}_{}_{uid}", pod.namespace, pod.name);
        let directory = tree.at(POD_LOGS).join(directory);
        let wanted = id.to_owned();
        let found = errands.run(move || find_container(&directory, &wanted));
        if let Answer::Done(Some(name)) = found {
            let member = Member { pod, container: Some(name.into()) };
            self.evicted += put(&mut self.members, id, member);
        }
    }
}

impl Scan {
    /// Lists all that the kubelet keeps.
    fn of(tree: &Tree) -> Self {
        let mut scan = Self::default();
        for name in list(&tree.at(POD_LOGS)) {
            scan.entries += 1;
            let pod = parse_pod_directory(&name);
            scan.pods.extend(pod.map(|(pod, uid)| (uid.to_owned(), pod)));
        }
        for name in list(&tree.at(CONTAINER_LOGS)) {
            scan.entries += 1;
            let member = parse_container_log(&name);
            scan.members.extend(member.map(|(id, member)| (id.to_owned(), member)));
        }
        for kubelet in KUBELETS {
            let pods = tree.at(kubelet).join("pods");
            for uid in list(&pods) {
                scan.entries += 1;
                for kind in ["volumes", "volumeDevices"] {
                    for volume in list(&pods.join(&uid).join(kind).join(CSI)) {
                        scan.entries += 1;
                        scan.users.push((volume, uid.clone()));
                    }
                }
            }
        }
        scan
    }
}

/// The container with this id, of those that have logs in this directory.
fn find_container(directory: &Path, id: &str) -> Option<String> {
    let mut containers = list(directory);
    let linked = containers.iter().position(|name| links_to(&directory.join(name), id));
    match (linked, containers.len()) {
        (Some(at), _) => Some(containers.swap_remove(at)),
        (None, 1) => containers.pop(),
        (None, _) => None,
    }
}

/// Puts an entry in front; gives the number of those that had to go for it.
fn put<V>(cache: &mut LruCache<Box<str>, V>, key: &str, value: V) -> u64 {
    let replaced = cache.push(key.into(), value);
    u64::from(replaced.is_some_and(|(old, _)| *old != *key))
}

/// Names in a directory, those that are text and of use; none where it cannot
/// be read.
fn list(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let name = |entry: DirEntry| entry.file_name().into_string().ok();
    entries.take(MAX_ENTRIES).flatten().filter_map(name).collect()
}

/// Whether a log in this directory is a link to one of this container.
fn links_to(logs: &Path, id: &str) -> bool {
    list(logs).iter().any(|log| {
        let Ok(target) = fs::read_link(logs.join(log)) else { return false };
        let target = target.into_os_string().into_vec();
        target.split(|&b| b == b'/').any(|component| component == id.as_bytes())
    })
}

/// `<namespace>_<name>_<uid>`.
fn parse_pod_directory(directory: &str) -> Option<(Pod, &str)> {
    let (namespace, rest) = directory.split_once('_')?;
    let (name, uid) = rest.rsplit_once('_')?;
    Some((pod(namespace, name)?, uid))
}

/// `<pod>_<namespace>_<container>-<id>.log`.
fn parse_container_log(log: &str) -> Option<(&str, Member)> {
    let (name, id) = log.strip_suffix(".log")?.rsplit_once('-')?;
    let mut parts = name.splitn(3, '_');
    let (name, namespace, container) = (parts.next()?, parts.next()?, parts.next()?);
    // A name that was cut has lost a part of its id.
    let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let container = text(container.as_bytes(), NAME_BYTES);
    let member = Member { pod: pod(namespace, name)?, container: Some(container.into()) };
    is_id.then_some((id, member))
}

fn pod(namespace: &str, name: &str) -> Option<Pod> {
    let bounded = |part: &str| -> Box<str> { text(part.as_bytes(), NAME_BYTES).into() };
    let is_named = !namespace.is_empty() && !name.is_empty();
    is_named.then(|| Pod { namespace: bounded(namespace), name: bounded(name) })
}
