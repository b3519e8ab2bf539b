//! The name by which people know a disk, beside the kernel's.
//!
//! `dm-3` is in no runbook: `vg0/data` is, and so are the alias of a multipath, the file
//! behind a loop device, a pod's volume, a cloud's, and the serial number on the drive. All
//! but the pod's volume are read from sysfs, which asks no disk. They are for people, and
//! no key to anything.

use std::{fs, path::Path};

use crate::{
    devices,
    tree::{Tree, text},
};

/// Longer names are cut.
const NAME_BYTES: usize = 128;

/// The header of a SCSI disk's page of product data.
const PAGE_HEADER: usize = 4;
const PAGE_BYTES: usize = 1024;

/// The controller of Azure's machines that data disks are at, by the beginning of its
/// number on Hyper-V's bus.
const AZURE_DATA: &str = "{f8b3781b-";
/// The places of the disks that come with the machine: two controllers of the first
/// generation, and two numbers at one controller of the second.
const AZURE_OWN: [(&str, Option<u32>, &str); 4] = [
    ("{00000000-0000-", None, "OS disk"),
    ("{00000000-0001-", None, "resource disk"),
    ("{f8b3781a-", Some(0), "OS disk"),
    ("{f8b3781a-", Some(1), "resource disk"),
];
/// Between a disk and the controller's entry on the bus lie its target and its host.
const AZURE_ABOVE: usize = 5;

/// A name for people; empty where nothing is known but the kernel's name. `volume_of` knows
/// the volumes of pods by their device numbers.
pub fn known_as<'a>(root: &Path, name: &str, volume_of: impl Fn(u32) -> Option<&'a str>) -> String {
    let known = known_to_the_kernel(root, name);
    let number = Tree::new(root).read_line(format!("sys/block/{name}/dev"));
    let device = number.and_then(|number| devices::parse(number.trim().as_bytes()));
    match device.and_then(volume_of) {
        Some(volume) if known.is_empty() || known == volume => volume.to_owned(),
        Some(volume) => text(format!("{volume} on {known}").as_bytes(), NAME_BYTES),
        None => known,
    }
}

fn known_to_the_kernel(root: &Path, name: &str) -> String {
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
    match model.as_deref() {
        Some("PersistentDisk") => {
            let page = tree.read_up_to(format!("sys/block/{name}/device/vpd_pg83"), PAGE_BYTES);
            if let Some(id) = page.ok().and_then(|page| google_disk(&page)) {
                return Some(id);
            }
        }
        Some("Virtual Disk") => {
            if let Some(place) = azure_disk(tree, name) {
                return Some(place);
            }
        }
        _ => (),
    }
    match (model, serial) {
        (Some(model), Some(serial)) => Some(format!("{model} {serial}")),
        // A model alone is that of many.
        (_, serial) => serial,
    }
}

/// The name that a disk of Google's has in its machine, which is that of the link
/// `/dev/disk/by-id/google-…`: in the identification by the vendor, behind 8 bytes of the
/// vendor's name and 16 of the product's (SPC-4, "T10 vendor ID based").
fn google_disk(page: &[u8]) -> Option<String> {
    let mut rest = page.get(PAGE_HEADER..)?;
    while let [_, kind, _, length, ..] = *rest {
        let end = 4 + usize::from(length);
        let identifier = rest.get(4..end)?;
        if kind & 0x0f == 1 && identifier.starts_with(b"Google") {
            let name = text(identifier.get(24..)?, NAME_BYTES);
            let name = name.trim_matches(|c: char| c.is_whitespace() || c == '\0');
            return (!name.is_empty()).then(|| format!("google-{name}"));
        }
        rest = rest.get(end..)?;
    }
    None
}

/// `Azure data disk, LUN 3`, as the portal and `az vm disk` number them.
fn azure_disk(tree: &Tree, name: &str) -> Option<String> {
    let device = tree.at(format!("sys/block/{name}/device"));
    // A link within sysfs: `…/<controller>/host1/target1:0:0/1:0:0:3`.
    let place = fs::canonicalize(device).ok()?;
    let lun = place.file_name()?.to_str()?.rsplit(':').next()?.parse::<u32>().ok()?;
    let number = |folder: &Path| fs::read(folder.join("device_id")).ok();
    let controller = place.ancestors().skip(1).take(AZURE_ABOVE).find_map(number)?;
    let controller = text(&controller, NAME_BYTES).to_lowercase();
    if controller.starts_with(AZURE_DATA) {
        return Some(format!("Azure data disk, LUN {lun}"));
    }
    let is_it = |own: &&(&str, Option<u32>, &str)| {
        controller.starts_with(own.0) && own.1.is_none_or(|number| number == lun)
    };
    AZURE_OWN.iter().find(is_it).map(|(.., kind)| format!("Azure {kind}"))
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
        assert_eq!(known_as(node.path(), "disk", |_| None), expected);
    }

    #[test]
    fn a_pod_s_volume_is_named_before_the_drive_that_it_is_on() {
        let node = tempfile::tempdir().unwrap();
        let block = node.path().join("sys/block/sdc");
        fs::create_dir_all(&block).unwrap();
        fs::write(block.join("dev"), "8:32\n").unwrap();
        let volume = |device| (device == devices::join(8, 32)).then_some("pvc-0a");
        assert_eq!(known_as(node.path(), "sdc", volume), "pvc-0a");
        fs::write(block.join("serial"), "beaf11\n").unwrap();
        assert_eq!(known_as(node.path(), "sdc", volume), "pvc-0a on beaf11");
        assert_eq!(known_as(node.path(), "sdd", volume), "");
    }

    /// Page 0x83 of a disk of Google's: two identifiers, of which the vendor's is the first.
    #[test]
    fn a_disk_of_google_s_is_called_as_its_link_is() {
        let identifier = b"Google  PersistentDisk  pgdata-3";
        let mut page = vec![0, 0x83, 0, 48, 0x02, 0x01, 0, identifier.len() as u8];
        page.extend(identifier);
        page.extend([0x01, 0x03, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        let model = ("device/model", &b"PersistentDisk  \n"[..]);
        check(&[model, ("device/vpd_pg83", &page)], "google-pgdata-3");
        // The other order, and pages that end too early.
        let other = [&page[..4], &page[40..], &page[4..40]].concat();
        check(&[model, ("device/vpd_pg83", &other)], "google-pgdata-3");
        for length in [0, 3, 4, 7, 20, 30] {
            check(&[model, ("device/vpd_pg83", &page[..length])], "");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_disk_of_azure_s_is_called_by_its_place() {
        let node = tempfile::tempdir().unwrap();
        let name = |controller: &str, disk: &str| {
            let bus = node.path().join("sys/devices").join(&controller[1..9]);
            let device = bus.join("host1/target1:0:0").join(disk);
            fs::create_dir_all(&device).unwrap();
            fs::write(bus.join("device_id"), format!("{controller}\n")).unwrap();
            fs::write(device.join("model"), "Virtual Disk    \n").unwrap();
            let block = node.path().join("sys/block/sdc");
            fs::create_dir_all(&block).unwrap();
            let _ = fs::remove_file(block.join("device"));
            std::os::unix::fs::symlink(&device, block.join("device")).unwrap();
            known_as(node.path(), "sdc", |_| None)
        };
        let data = "{f8b3781b-1e82-4818-a1c3-63d806ec15bb}";
        assert_eq!(name(data, "1:0:0:3"), "Azure data disk, LUN 3");
        let second = "{f8b3781a-1e82-4818-a1c3-63d806ec15bb}";
        assert_eq!(name(second, "0:0:0:0"), "Azure OS disk");
        assert_eq!(name(second, "0:0:0:1"), "Azure resource disk");
        assert_eq!(name(second, "0:0:0:2"), "");
        assert_eq!(
            name("{00000000-0001-8899-0000-000000000000}", "1:0:1:0"),
            "Azure resource disk"
        );
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
