//! Finds the workload of a program by its arguments: QEMU's virtual machine,
//! Longhorn's volume.
//!
//! The bytes of `/proc/<tgid>/cmdline` go in. A process can choose them freely, so the
//! result is a claim; a workload that the cgroup names takes precedence.
//!
//! Sources: QEMU `qemu-options.hx` `-name`, `util/qemu-option.c` (9.1); libvirt
//! `src/qemu/qemu_command.c` `qemuBuildNameCommandLine` (v10); Proxmox VE
//! `PVE/QemuServer.pm` `config_to_command` (8); longhorn-manager
//! `engineapi/instance_manager.go` `getBinaryAndArgsForEngineProcessCreation`,
//! `getBinaryAndArgsForReplicaProcessCreation` (v1.7).

use super::cgroup_path::NAME_BYTES;
use crate::tree::text;

/// A program that works for somebody else.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Program {
    Qemu { name: Option<String>, id: Option<String> },
    Longhorn { role: &'static str, volume: String },
}

/// Whether a process may work for somebody else, so that its arguments are worth
/// reading: by its name or, where it has given itself another, by its program's.
pub fn may_serve_others(comm: &[u8], exe: impl FnOnce() -> Vec<u8>) -> bool {
    let is_one = |name: &[u8]| is_qemu(name) || name == LONGHORN;
    is_one(comm) || exe().rsplit(|&b| b == b'/').next().is_some_and(is_one)
}

fn is_qemu(program: &[u8]) -> bool {
    program.starts_with(b"qemu-system-") || program == b"qemu-kvm" || program == b"kvm"
}

const LONGHORN: &[u8] = b"longhorn";

/// Reads arguments that are separated by NUL, the last of them perhaps cut off.
pub fn find_program(cmdline: &[u8]) -> Option<Program> {
    let mut arguments = cmdline.split(|&b| b == 0);
    let path = arguments.next()?;
    let program = path.rsplit(|&b| b == b'/').next()?;
    if is_qemu(program) {
        return Some(read_qemu(arguments));
    }
    if program == LONGHORN {
        return read_longhorn(arguments);
    }
    None
}

fn read_qemu<'a>(mut arguments: impl Iterator<Item = &'a [u8]>) -> Program {
    let (mut name, mut id) = (None, None);
    while let Some(argument) = arguments.next() {
        // Either number of dashes is right.
        match argument.strip_prefix(b"-").unwrap_or(argument) {
            b"name" | b"-name" => name = arguments.next().and_then(read_name).or(name),
            // Proxmox's own.
            b"id" => {
                let number = arguments.next().filter(|id| id.iter().all(u8::is_ascii_digit));
                id = number.filter(|id| (1..=10).contains(&id.len())).map(|id| text(id, 10));
            }
            _ => {}
        }
    }
    Program::Qemu { name, id }
}

/// The name in `web,debug-threads=on` or `debug-threads=on,guest=web`, where a
/// comma within is written twice.
fn read_name(value: &[u8]) -> Option<String> {
    let mut first = true;
    let mut rest = value;
    loop {
        let (option, after) = split_option(rest);
        let guest = option.strip_prefix(b"guest=");
        if let Some(name) = guest.or((first && !option.contains(&b'=')).then_some(&option[..])) {
            return (!name.is_empty()).then(|| text(name, NAME_BYTES));
        }
        first = false;
        rest = after?;
    }
}

/// The bytes up to the next single comma, and what follows it.
fn split_option(value: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
    let mut option = Vec::new();
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b',' {
            match rest.strip_prefix(b",") {
                Some(after) => rest = after,
                None => return (option, Some(rest)),
            }
        }
        option.push(byte);
    }
    (option, None)
}

/// `[--volume-name VOLUME] controller VOLUME …`, `… replica DIRECTORY …`,
/// `… sync-agent …`.
fn read_longhorn<'a>(mut arguments: impl Iterator<Item = &'a [u8]>) -> Option<Program> {
    let (mut role, mut volume) = (None, None);
    while let Some(argument) = arguments.next() {
        match argument {
            b"--volume-name" => volume = arguments.next().or(volume),
            b"controller" if role.is_none() => {
                role = Some("engine");
                volume = volume.or(arguments.next());
            }
            b"replica" if role.is_none() => {
                role = Some("replica");
                volume = volume.or(arguments.next().map(volume_of_directory));
            }
            b"sync-agent" if role.is_none() => role = Some("replica"),
            _ => {}
        }
    }
    let volume = volume.filter(|volume| !volume.is_empty() && !volume.starts_with(b"-"))?;
    Some(Program::Longhorn { role: role?, volume: text(volume, NAME_BYTES) })
}

/// A replica's directory is called after its volume, with eight random digits.
fn volume_of_directory(directory: &[u8]) -> &[u8] {
    let name = directory.rsplit(|&b| b == b'/').next().unwrap_or(directory);
    match name.len().checked_sub(9).map(|at| name.split_at(at)) {
        Some((volume, [b'-', digits @ ..])) if digits.iter().all(u8::is_ascii_hexdigit) => volume,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Program> {
        find_program(line.replace(' ', "\0").as_bytes())
    }

    fn qemu(name: Option<&str>, id: Option<&str>) -> Option<Program> {
        Some(Program::Qemu { name: name.map(str::to_owned), id: id.map(str::to_owned) })
    }

    #[test]
    fn arguments_are_worth_reading_of_a_program_that_may_serve_others() {
        let check = |comm: &str, exe: &str, expected| {
            let is = may_serve_others(comm.as_bytes(), || exe.as_bytes().to_vec());
            assert_eq!(is, expected, "{comm} {exe}");
        };
        check("qemu-system-x86", "", true);
        check("kvm", "", true);
        check("longhorn", "", true);
        // QEMU is called so with `-name process=web`.
        check("web", "/usr/bin/qemu-system-x86_64", true);
        check("CPU 0/KVM", "/usr/libexec/qemu-kvm", true);
        check("etcd", "/usr/bin/etcd", false);
        check("qemu-img", "/usr/bin/qemu-img", false);
        check("etcd", "", false);
    }

    #[test]
    fn a_guest_is_named_by_qemus_argument() {
        let table = [
            ("/usr/bin/qemu-system-x86_64 -name guest=web,debug-threads=on -S", Some("web"), None),
            ("/usr/bin/kvm -id 101 -name web,debug-threads=on", Some("web"), Some("101")),
            ("/usr/libexec/qemu-kvm -name debug-threads=on,guest=a_b", Some("a_b"), None),
            ("qemu-system-aarch64 --name x -m 1", Some("x"), None),
            ("qemu-system-x86_64 -name a,,b,process=c", Some("a,b"), None),
            ("qemu-system-x86_64 -name process=c", None, None),
            ("qemu-system-x86_64 -name", None, None),
            ("kvm -id ten", None, None),
        ];
        for (line, name, id) in table {
            assert_eq!(read(line), qemu(name, id), "{line}");
        }
        assert_eq!(read("qemu-img convert -name x"), None);
        assert_eq!(read("etcd --name x"), None);
    }

    #[test]
    fn a_volume_is_named_by_longhorns_arguments() {
        let pvc = "pvc-89c15dec-0a4c-4a2b-9d3f-0123456789ab";
        let table = [
            (format!("/engine-binaries/i/longhorn controller {pvc} --frontend tgt"), "engine"),
            (
                format!("longhorn --volume-name {pvc} --engine-instance-name e controller {pvc}"),
                "engine",
            ),
            (
                format!("longhorn replica /host/var/lib/longhorn/replicas/{pvc}-0a1b2c3d --size 1"),
                "replica",
            ),
            (
                format!("longhorn --volume-name {pvc} replica /host/d/replicas/x-0a1b2c3d"),
                "replica",
            ),
            (format!("longhorn replica /d/x --volume-name {pvc}"), "replica"),
            (format!("longhorn --volume-name {pvc} sync-agent --listen :1"), "replica"),
        ];
        for (line, role) in table {
            let volume = pvc.to_owned();
            assert_eq!(read(&line), Some(Program::Longhorn { role, volume }), "{line}");
        }
        for line in
            ["longhorn", "longhorn --version", "longhorn replica", "longhorn controller --x"]
        {
            assert_eq!(read(line), None, "{line}");
        }
        assert_eq!(read("longhorn-instance-manager daemon --volume-name x"), None);
    }
}
