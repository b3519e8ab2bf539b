//! The programs of a guest: taken from Debian's packages for its architecture, with the
//! libraries that they need and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    apt::Apt,
    arch::Arch,
    archive::Archive,
    closure,
    files::{self, Refresh},
};

/// The packages that contain [`PROGRAMS`].
const PACKAGES: [&str; 17] = [
    "busybox-static",
    "bash",
    "btrfs-progs",
    "coreutils",
    "cryptsetup-bin",
    "dmsetup",
    "e2fsprogs",
    "etcd-client",
    "etcd-server",
    "f2fs-tools",
    "fio",
    "fuse2fs",
    "kmod",
    "libbpf-tools",
    "mdadm",
    "util-linux",
    "xfsprogs",
];
const MORE_PACKAGES: [&str; 4] =
    ["libgcc-s1", "mount", "thin-provisioning-tools", "util-linux-extra"];

/// The programs that a test or a bench may run, besides those of busybox.
const PROGRAMS: [&str; 65] = [
    "bash",
    "biolatency-libbpf",
    "biosnoop-libbpf",
    "blkdiscard",
    "blkzone",
    "blockdev",
    "btrfs",
    "busybox",
    "chrt",
    "cryptsetup",
    "dd",
    "depmod",
    "dmsetup",
    "dumpe2fs",
    "e2fsck",
    "etcd",
    "etcdctl",
    "fallocate",
    "findmnt",
    "fio",
    "flock",
    "fsfreeze",
    "fstrim",
    "fuse2fs",
    "insmod",
    "ionice",
    "kmod",
    "losetup",
    "lsblk",
    "lsmod",
    "mdadm",
    "mkfs.btrfs",
    "mkfs.ext2",
    "mkfs.ext3",
    "mkfs.ext4",
    "mkfs.f2fs",
    "mkfs.xfs",
    "mke2fs",
    "modinfo",
    "modprobe",
    "mount",
    "nice",
    "nsenter",
    "prlimit",
    "resize2fs",
    "rmmod",
    "setpriv",
    "sha256sum",
    "sleep",
    "stat",
    "stdbuf",
    "stty",
    "swapoff",
    "swapon",
    "sync",
    "taskset",
    "thin_check",
    "timeout",
    "truncate",
    "tune2fs",
    "umount",
    "unshare",
    "wipefs",
    "xfs_io",
    "xfs_growfs",
];

/// Libraries that are loaded by name at run time, so no program lists them.
const LOADED_LATER: [&str; 1] = ["libgcc_s.so.1"];

/// Data that programs read.
const FOLDERS: [&str; 1] = ["usr/share/xfsprogs/mkfs"];

/// Returns the archive of programs, which is kept between runs.
pub fn obtain(arch: Arch, refresh: Refresh) -> Result<PathBuf> {
    let folder = files::cache().join(arch.name());
    // The key covers the contents and the code that packs them, so that a change of either
    // makes a new archive.
    let mut key = DefaultHasher::new();
    include_str!("programs.rs").hash(&mut key);
    let archive = folder.join(format!("programs-{:016x}.cpio", key.finish()));
    if archive.exists() && refresh == Refresh::No {
        return Ok(archive);
    }
    let apt = Apt::open(arch, Refresh::No)?;
    let unpacked = folder.join("programs");
    let packages: Vec<_> = PACKAGES.iter().chain(&MORE_PACKAGES).copied().collect();
    apt.unpack_closure(&packages, &unpacked)?;
    files::make_whole(&archive, |path| pack(arch, &unpacked, path))?;
    files::remove(&unpacked)?;
    eprintln!("vm: programs of {} packed into `{}`", arch.name(), files::shown(&archive));
    Ok(archive)
}

fn pack(arch: Arch, root: &Path, path: &Path) -> Result<()> {
    let places = ["usr/bin", "usr/sbin"];
    let mut programs = Vec::new();
    for name in PROGRAMS {
        let mut candidates = places.iter().map(|place| format!("{place}/{name}"));
        let found = candidates.find(|file| root.join(file).exists());
        programs.push(found.with_context(|| format!("no package contains the program `{name}`"))?);
    }
    let by_name = index_libraries(arch, root)?;
    let find = |name: &str| match name.strip_prefix('/') {
        // The dynamic linker is named by its path.
        Some(path) => Some(format!("usr/{path}")).filter(|path| root.join(path).is_file()),
        None => by_name.get(name).cloned(),
    };
    let mut wanted = programs.clone();
    for name in LOADED_LATER {
        wanted.push(find(name).with_context(|| format!("no package contains `{name}`"))?);
    }
    let read = |file: &str| closure::read_needs(&fs::read(root.join(file))?);
    let libraries = closure::libraries(&wanted, read, find)?;

    let everything: BTreeSet<_> = wanted.into_iter().chain(libraries).collect();
    let mut archive = Archive::create(path)?;
    let mut folders = BTreeSet::new();
    for place in ["dev", "proc", "root", "sys", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"] {
        make_parents(&mut archive, &mut folders, &format!("{place}/x"))?;
    }
    for (name, target) in
        [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
    {
        archive.link(name, target)?;
    }
    // The shell must run the programs above, and not its applets of the same name.
    archive.link("usr/bin/sh", "bash")?;
    for file in everything {
        make_parents(&mut archive, &mut folders, &file)?;
        archive.copy(&file, &root.join(&file))?;
    }
    for name in FOLDERS {
        make_parents(&mut archive, &mut folders, name)?;
        archive.tree(name, &root.join(name))?;
    }
    archive.finish()
}

/// The paths of libraries, by the names that programs need them under.
fn index_libraries(arch: Arch, root: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    // Private directories come first, so that the common one wins.
    let mut places = vec!["usr/lib".to_owned(), "usr/lib64".to_owned()];
    let common = arch.library_folder();
    for entry in fs::read_dir(root.join(common)).with_context(|| format!("no `{common}`"))? {
        let entry = entry?;
        if entry.path().is_dir() {
            places.push(format!("{common}/{}", entry.file_name().display()));
        }
    }
    places.push(common.to_owned());
    for place in places {
        let Ok(entries) = fs::read_dir(root.join(&place)) else { continue };
        for entry in entries {
            let name = entry?.file_name().display().to_string();
            // If a package is missing, the target of a link is missing.
            let is_library = name.contains(".so") && root.join(&place).join(&name).is_file();
            if is_library {
                found.insert(name.clone(), format!("{place}/{name}"));
            }
        }
    }
    Ok(found)
}

/// Adds the directories above `file` that the archive does not have yet.
fn make_parents(archive: &mut Archive, folders: &mut BTreeSet<String>, file: &str) -> Result<()> {
    for (at, _) in file.match_indices('/') {
        if folders.insert(file[..at].to_owned()) {
            archive.folder(&file[..at])?;
        }
    }
    Ok(())
}
