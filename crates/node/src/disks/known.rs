//! The name by which people know a disk, beside the kernel's.
//!
//! `dm-3` is in no runbook: `vg0/data` is, and so are the alias of a multipath, the file
//! behind a loop device, a cloud's volume, and the serial number on the drive. All
//! of them are read from sysfs, which asks no disk. They are for people, and no
//! key to anything.

use std::path::Path;

use crate::tree::{Tree, text};

/// Longer names are cut.
const NAME_BYTES: usize = 128;

/// The header of a SCSI disk's page with its serial number.
const PAGE_HEADER: usize = 4;

/// A name for people; empty where nothing is known but the kernel's name.
pub fn known_as(root: &Path, name: &str) -> String {
    let tree = Tree::new(root);
    let line = |path: &str| {
        let line = tree.read_line(format!("sys/block/{name}/{path}"))?;
        let line = line.trim().to_owned();
        (!line.is_empty()).then_some(line)
    };
    let found = mapped(&line)
        .or_else(|| line("loop/backing_file"))
        .or_else(|| drive(&line, &tree, name))
        .or_else(|| line("wwid").or_else(|| line("device/wwid")));
    text(found.unwrap_or_default().as_bytes(), NAME_BYTES)
}

/// A volume of device mapper, as the tool that made it calls it.
fn mapped(line: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let name = line("dm/name")?;
    let uuid = line("dm/uuid").unwrap_or_default();
    Some(if uuid.starts_with("LVM-") { volume(&name) } else { name })
}

/// `vg0/data` of `vg0-data`. LVM joins the two with a hyphen, and doubles those within.
fn volume(name: &str) -> String {
    let mut shown = String::new();
    let mut rest = name;
    let mut is_first = true;
    while let Some(at) = rest.find('-') {
        shown.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let doubled = rest.strip_prefix('-');
        if let Some(after) = doubled {
            rest = after;
        }
        let joins = doubled.is_none() && is_first;
        is_first &= !joins;
        shown.push(if joins { '/' } else { '-' });
    }
    shown + rest
}

/// Model and serial number; of a volume of EBS its id.
fn drive(line: &impl Fn(&str) -> Option<String>, tree: &Tree, name: &str) -> Option<String> {
    let model = line("device/model");
    let serial = line("serial")
        .or_else(|| line("device/serial"))
        .or_else(|| scsi_serial(&tree.read_up_to(page(name), NAME_BYTES).ok()?));
    if model.as_deref() == Some("Amazon Elastic Block Store")
        && let Some(id) = serial.as_deref().and_then(|serial| serial.strip_prefix("vol"))
    {
        return Some(format!("vol-{}", id.trim_start_matches('-')));
    }
    match (model, serial) {
        (Some(model), Some(serial)) => Some(format!("{model} {serial}")),
        // A model alone is that of many.
        (_, serial) => serial,
    }
}

fn page(name: &str) -> String {
    format!("sys/block/{name}/device/vpd_pg80")
}

fn scsi_serial(page: &[u8]) -> Option<String> {
    let length = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
    let serial = page.get(PAGE_HEADER..)?;
    let serial = text(&serial[..length.min(serial.len())], NAME_BYTES);
    let serial = serial.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!serial.is_empty()).then(|| serial.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &[u8])], expected: &str) {
        let node = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = node.path().join("sys/block/disk").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        assert_eq!(known_as(node.path(), "disk"), expected);
    }

    #[test]
    fn a_volume_of_device_mapper_is_called_as_its_tool_calls_it() {
        let lvm = |name: &'static str| [("dm/name", name.as_bytes()), ("dm/uuid", b"LVM-x1\n")];
        check(&lvm("vg0-data\n"), "vg0/data");
        check(&lvm("ubuntu--vg-ubuntu--lv\n"), "ubuntu-vg/ubuntu-lv");
        check(&lvm("vg-thin-tpool\n"), "vg/thin-tpool");
        check(&lvm("vg--\n"), "vg-");
        check(&lvm("-\n"), "/");
        check(&[("dm/name", b"mpatha\n"), ("dm/uuid", b"mpath-3600\n")], "mpatha");
        let luks = [("dm/name", &b"luks-a-b\n"[..]), ("dm/uuid", b"CRYPT-LUKS2-x\n")];
        check(&luks, "luks-a-b");
    }

    #[test]
    fn a_drive_is_called_by_its_serial_number() {
        let page = [&[0, 0x80, 0, 12][..], b"  ZC1ABC42  "].concat();
        check(
            &[("device/model", b"ST4000NM0035\n"), ("device/vpd_pg80", &page)],
            "ST4000NM0035 ZC1ABC42",
        );
        let nvme = [("device/model", &b"PM9A3   \n"[..]), ("device/serial", b"S64G\n")];
        check(&nvme, "PM9A3 S64G");
        check(&[("serial", b"volume-77\n")], "volume-77");
        // One model is that of many drives.
        check(&[("device/model", b"QEMU HARDDISK\n")], "");
        check(&[("device/wwid", b"naa.5000c500\n")], "naa.5000c500");
        check(&[], "");
    }

    #[test]
    fn a_cloud_s_volume_is_called_by_its_id() {
        let model = ("device/model", &b"Amazon Elastic Block Store              \n"[..]);
        check(&[model, ("device/serial", b"vol0a1b2c3d4e5f67890\n")], "vol-0a1b2c3d4e5f67890");
        let local = ("device/model", &b"Amazon EC2 NVMe Instance Storage\n"[..]);
        check(&[local, ("device/serial", b"AWS1\n")], "Amazon EC2 NVMe Instance Storage AWS1");
    }

    #[test]
    fn a_loop_device_is_called_by_its_file() {
        check(&[("loop/backing_file", b"/var/lib/disk.img\n")], "/var/lib/disk.img");
    }

    #[test]
    fn nonsense_is_cut_and_makes_nothing_panic() {
        check(&[("serial", "é".repeat(200).as_bytes())], &"é".repeat(NAME_BYTES / 2));
        for page in [&b""[..], &[0, 0x80], &[0, 0x80, 255, 255], &[0, 0x80, 0, 9, 65, 66]] {
            let expected = if page.len() > 4 { "AB" } else { "" };
            check(&[("device/vpd_pg80", page)], expected);
        }
    }
}
