//! How actors, victims and files are named.
//!
//! The comm is always shown, because other tools print it. Beside it stands
//! what distinguishes two processes of the same comm: the workload, else the
//! systemd unit, else the end of the cgroup path, else the process id. Everything
//! returned here is escaped and at most [`ACTOR_COLUMNS`] wide.

use unicode_width::UnicodeWidthStr as _;

use super::escape::{bounded, bounded_tail};
use tracer_snapshot::{Actor, Disk, FileClass, Victim, Workload};

/// The widest name of a [`Actor`].
pub const ACTOR_COLUMNS: usize = 64;

/// The kernel's own bound is 15 bytes; a kernel worker's name may be longer.
const COMM_COLUMNS: usize = 24;

/// Two components of a cgroup path are shown while they fit here.
const TAIL_COLUMNS: usize = 24;

/// The kernel's own bound is 31 bytes (`DISK_NAME_LEN`).
const DEVICE_COLUMNS: usize = 31;

/// A path in a line that has no end of its own.
const PATH_COLUMNS: usize = 80;

/// This many hexadecimal digits in a row are a container's id, not a word.
const ID_DIGITS: usize = 32;

/// Container ids are shown with this many digits, as docker and crictl do.
const ID_SHOWN: usize = 12;

/// `etcd (kube-system/etcd-node1)`, `fstrim (fstrim.service)`, `fio (demo/noisy)`,
/// `fio (tgid 42)`, `[jbd2/vda1-8]`.
pub fn actor(actor: &Actor) -> String {
    let comm = if actor.comm.is_empty() { "?" } else { &actor.comm };
    let comm = bounded(comm, COMM_COLUMNS);
    if actor.kernel_thread {
        return format!("[{comm}]");
    }
    let place = match (&actor.workload, &actor.unit) {
        (Some(workload), _) => shorten_ids(&workload.name),
        (None, Some(unit)) if !unit.is_empty() => shorten_ids(unit),
        _ => shorten_ids(cgroup_tail(&actor.cgroup)),
    };
    if !place.is_empty() {
        // Two brackets and a space.
        let room = ACTOR_COLUMNS - comm.width() - 3;
        return format!("{comm} ({})", bounded(&place, room));
    }
    match actor.tgid {
        0 => comm.into_owned(),
        tgid => format!("{comm} (tgid {tgid})"),
    }
}

/// `dm-3 (vg0/data)`: a disk, with the name that people know it by.
pub fn disk(disk: &Disk, columns: usize) -> String {
    let name = bounded(&disk.name, DEVICE_COLUMNS);
    let room = columns.saturating_sub(name.width() + 3);
    match disk.known_as.as_deref() {
        Some(known) if room > 3 => format!("{name} ({})", bounded_tail(known, room)),
        _ => name.into_owned(),
    }
}

/// Whether two are the same owner: the process seen last may differ.
pub fn is_same(a: &Actor, b: &Actor) -> bool {
    a.comm == b.comm && a.cgroup == b.cgroup && a.kernel_thread == b.kernel_thread
}

/// Whether any name of the actor or of its file contains the filter, which is
/// in lower case.
pub fn matches(filter: &str, actor: &Actor, class: FileClass, path: &str, device: &str) -> bool {
    let unit = actor.unit.as_deref().unwrap_or_default();
    let fields = [&actor.comm, &actor.cgroup, unit, path, device, self::class(class)];
    let contains = |field: &str| field.to_lowercase().contains(filter);
    fields.iter().any(|field| contains(field))
        || actor.workload.as_ref().is_some_and(|workload| {
            let Workload { name, pod, pod_uid, controller, container, vm, volume, used_by, .. } =
                workload;
            // The pod's full name, also where the workload is called otherwise.
            let full = format!(
                "{}/{}",
                workload.namespace.as_deref().unwrap_or_default(),
                pod.as_deref().unwrap_or_default()
            );
            let parts = [pod_uid, controller, container, vm, volume, used_by];
            contains(name)
                || contains(&full)
                || parts.into_iter().flatten().any(|part| contains(part))
        })
}

/// A class of files in one word.
pub fn class(class: FileClass) -> &'static str {
    match class {
        FileClass::Wal => "wal",
        FileClass::Db => "db",
        FileClass::Snap => "snap",
        FileClass::Filesystem => "fs",
        FileClass::Other => "other",
        FileClass::Unknown => "?",
    }
}

/// `etcd (etcd.service) wal` and where it lives, in one line.
pub fn victim(victim: &Victim, columns: usize) -> String {
    let head = format!("{} ", actor(&victim.actor));
    let tail = format!(" on {}", bounded(&victim.device, DEVICE_COLUMNS));
    let room = columns.saturating_sub(head.width() + tail.width());
    let file = file_within(victim.class, &victim.path, room);
    bounded(&format!("{head}{file}{tail}"), columns).into_owned()
}

/// The file of one sync: its class, its path and its device.
pub fn file(class: FileClass, path: &str, device: &str) -> String {
    let device = bounded(device, DEVICE_COLUMNS);
    format!("{} on {device}", file_within(class, path, PATH_COLUMNS))
}

/// `wal /var/lib/etcd/member/wal`, or the path alone if its class says nothing about it.
/// A long path loses its beginning, because the end distinguishes files.
fn file_within(class: FileClass, path: &str, columns: usize) -> String {
    let word = class_in_words(class, path);
    let room = columns.saturating_sub(word.width() + usize::from(!word.is_empty()));
    if path.is_empty() || room == 0 {
        return word.to_owned();
    }
    format!("{word} {}", bounded_tail(path, room)).trim_start().to_owned()
}

/// A class of files in a sentence that has the path, too, if it is known.
pub fn class_in_words(class: FileClass, path: &str) -> &'static str {
    match class {
        FileClass::Other if !path.is_empty() => "",
        FileClass::Unknown => "unknown file",
        class => self::class(class),
    }
}

/// The last component of a cgroup path, or the last two when they are short;
/// empty for the root.
fn cgroup_tail(cgroup: &str) -> &str {
    let cgroup = cgroup.trim_matches('/');
    let mut slashes = cgroup.rmatch_indices('/').map(|(at, _)| at + 1);
    let one = slashes.next().unwrap_or(0);
    let two = slashes.next().unwrap_or(0);
    if cgroup.len() - two <= TAIL_COLUMNS { &cgroup[two..] } else { &cgroup[one..] }
}

/// Cuts the ids of containers to what people know them by.
fn shorten_ids(name: &str) -> String {
    let mut short = String::new();
    let mut rest = name;
    while let Some(begin) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let run = &rest[begin..];
        let length = run.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(run.len());
        let shown = if length >= ID_DIGITS { ID_SHOWN } else { length };
        short.push_str(&rest[..begin]);
        short.push_str(&run[..shown]);
        rest = &run[length..];
    }
    short + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(comm: &str, cgroup: &str, unit: Option<&str>, shown: &str) {
        let comm = comm.to_owned();
        let cgroup = cgroup.to_owned();
        let unit = unit.map(str::to_owned);
        let somebody = Actor { comm, tgid: 42, cgroup, unit, ..Actor::default() };
        assert_eq!(actor(&somebody), shown);
        assert!(actor(&somebody).width() <= ACTOR_COLUMNS);
    }

    #[test]
    fn the_unit_comes_before_the_cgroup_and_the_cgroup_before_the_process() {
        check("fstrim", "/system.slice/a.service", Some("a.service"), "fstrim (a.service)");
        check("fio", "/demo/noisy", None, "fio (demo/noisy)");
        check("fio", "/a/demo/noisy/", None, "fio (demo/noisy)");
        check("fio", "/some-long-slice-name/another-name", None, "fio (another-name)");
        check("fio", "/", None, "fio (tgid 42)");
        check("", "", None, "? (tgid 42)");
    }

    #[test]
    fn a_container_is_known_by_twelve_digits() {
        let scope = format!("cri-containerd-{}.scope", "0123456789abcdef".repeat(4));
        check("etcd", "/kubepods", Some(&scope), "etcd (cri-containerd-0123456789ab.scope)");
    }

    #[test]
    fn a_name_is_escaped_and_bounded() {
        check("\x1b[2J", "/", None, "\\x1b[2J (tgid 42)");
        let long = "x".repeat(500);
        let shown = format!("{}… ({}…)", &long[..23], &long[..36]);
        check(&long, "/", Some(&long), &shown);
    }

    #[test]
    fn a_disk_is_shown_with_the_name_that_people_know() {
        let mut one = super::super::fixture::trimmed().disks[0].clone();
        let shown = |one: &Disk| disk(one, 32);
        one.name = "dm-3".into();
        assert_eq!(shown(&one), "dm-3");
        one.known_as = Some("vg0/data".into());
        assert_eq!(shown(&one), "dm-3 (vg0/data)");
        one.known_as = Some(format!("\u{1b}{}end", "x".repeat(200)));
        assert!(shown(&one).ends_with("end)") && shown(&one).width() <= 32, "{}", shown(&one));
        one.known_as = Some("\u{202e}".into());
        assert_eq!(shown(&one), "dm-3 (\\u{202e})");
    }

    #[test]
    fn a_kernel_thread_is_shown_as_one() {
        let jbd2 = Actor { comm: "jbd2/vda1-8".into(), kernel_thread: true, ..Actor::default() };
        assert_eq!(actor(&jbd2), "[jbd2/vda1-8]");
    }
}
