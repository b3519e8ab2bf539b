//! What a guest has: programs, modules, the tests, and what it is told.
//!
//! Three archives make its root filesystem: the programs (one per
//! architecture), the modules (one per kernel), both kept; and what this boot
//! is about, made anew each time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::vm::{
    apt::Apt,
    arch::Arch,
    archive::Archive,
    closure,
    files::{self, Refresh},
    kernels::{self, Kernel},
};

/// The packages that [`PROGRAMS`] come in.
const PACKAGES: [&str; 16] = [
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
    "mdadm",
    "util-linux",
    "xfsprogs",
];
const MORE_PACKAGES: [&str; 4] =
    ["libgcc-s1", "mount", "thin-provisioning-tools", "util-linux-extra"];

/// Programs that a test may run, beyond those of busybox.
const PROGRAMS: [&str; 62] = [
    "bash",
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

/// Loaded by name at run time, so that no program tells of them.
const LOADED_LATER: [&str; 1] = ["libgcc_s.so.1"];

/// Data that programs read.
const FOLDERS: [&str; 1] = ["usr/share/xfsprogs/mkfs"];

/// Modules that a guest has, with what they depend on. What a kernel lacks, or
/// has built in, is left out.
const MODULES: &str = "\
    ext4 xfs btrfs f2fs fuse overlay nfs nfsd nfsv4 vfat nls_cp437 nls_ascii nls_utf8 \
    bfq kyber-iosched mq-deadline loop brd zram nbd null_blk scsi_debug sd_mod nvme nvme-loop \
    virtio_pci virtio_mmio virtio_blk virtio_scsi virtio_rng \
    dm-mod dm-cache dm-cache-smq dm-clone dm-crypt dm-delay dm-dust dm-era dm-flakey dm-integrity \
    dm-log-writes dm-mirror dm-multipath dm-raid dm-snapshot dm-thin-pool dm-verity \
    dm-writecache dm-zero dm-zoned bcache md-mod raid0 raid1 raid10 raid456 \
    crc32c_generic crc32c_intel crc32c-intel libcrc32c crct10dif_generic xxhash_generic \
    blake2b_generic sha256_generic sha256_ssse3 sha256-arm64 aes_generic aesni-intel aes-arm64 \
    aes-ce-blk xts ecb cbc essiv zstd lz4 lzo lzo-rle";

/// Those that the guest loads before the tests; the others by `modprobe`.
const LOADED: &str = "\
    virtio_pci virtio_blk virtio_rng loop crc32c_generic crc32c_intel ext4 xfs btrfs fuse overlay \
    bfq kyber-iosched mq-deadline";

/// What one boot is about.
pub struct Contents<'a> {
    pub tracer: &'a Path,
    pub tests: &'a Path,
    pub cgroup_v1: bool,
    /// For the tests' environment.
    pub environment: &'a BTreeMap<String, String>,
    /// For the tests' command line.
    pub arguments: &'a [String],
}

/// The kept archive of programs.
pub fn bring_programs(arch: Arch, refresh: Refresh) -> Result<PathBuf> {
    let folder = files::cache().join(arch.name());
    let mut key = DefaultHasher::new();
    (PACKAGES, MORE_PACKAGES, PROGRAMS, LOADED_LATER, FOLDERS).hash(&mut key);
    let archive = folder.join(format!("programs-{:016x}.cpio", key.finish()));
    if archive.exists() && refresh == Refresh::No {
        return Ok(archive);
    }
    let apt = Apt::open(arch, Refresh::No)?;
    let unpacked = folder.join("programs");
    let packages: Vec<_> = PACKAGES.iter().chain(&MORE_PACKAGES).copied().collect();
    apt.unpack_closure(&packages, &unpacked)?;
    files::make_whole(&archive, |path| pack_programs(arch, &unpacked, path))?;
    files::remove(&unpacked)?;
    eprintln!("vm: programs of {} packed into `{}`", arch.name(), files::shown(&archive));
    Ok(archive)
}

fn pack_programs(arch: Arch, root: &Path, path: &Path) -> Result<()> {
    let places = ["usr/bin", "usr/sbin"];
    let mut programs = Vec::new();
    for name in PROGRAMS {
        let mut candidates = places.iter().map(|place| format!("{place}/{name}"));
        let found = candidates.find(|file| root.join(file).exists());
        programs.push(found.with_context(|| format!("no package has the program `{name}`"))?);
    }
    let by_name = index_libraries(arch, root)?;
    let find = |name: &str| match name.strip_prefix('/') {
        // The dynamic linker, by its path.
        Some(path) => Some(format!("usr/{path}")).filter(|path| root.join(path).is_file()),
        None => by_name.get(name).cloned(),
    };
    let mut wanted = programs.clone();
    for name in LOADED_LATER {
        wanted.push(find(name).with_context(|| format!("no package has `{name}`"))?);
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

/// Where libraries are, by the names that others ask for them with.
fn index_libraries(arch: Arch, root: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    // Private folders first: what is in the common one wins.
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
            // Its target is elsewhere when a package is missing.
            let is_library = name.contains(".so") && root.join(&place).join(&name).is_file();
            if is_library {
                found.insert(name.clone(), format!("{place}/{name}"));
            }
        }
    }
    Ok(found)
}

/// Folders above `file` that are not there yet.
fn make_parents(archive: &mut Archive, folders: &mut BTreeSet<String>, file: &str) -> Result<()> {
    for (at, _) in file.match_indices('/') {
        if folders.insert(file[..at].to_owned()) {
            archive.folder(&file[..at])?;
        }
    }
    Ok(())
}

/// The kept archive of a kernel's modules.
pub fn bring_modules(arch: Arch, kernel: &Kernel) -> Result<PathBuf> {
    let mut key = DefaultHasher::new();
    (MODULES, &kernel.modules).hash(&mut key);
    let name = format!("{}-{:016x}.cpio", kernel.release(), key.finish());
    let archive = files::cache().join(arch.name()).join("modules").join(name);
    if !archive.exists() {
        files::make_whole(&archive, |path| pack_modules(kernel, path))?;
        eprintln!("vm: modules packed into `{}`", files::shown(&archive));
    }
    Ok(archive)
}

fn pack_modules(kernel: &Kernel, path: &Path) -> Result<()> {
    let file = kernel.modules.join("modules.dep");
    let index =
        fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let folder = path.with_extension("modules");
    let inside = format!("lib/modules/{}", kernel.release());
    let target = folder.join(&inside);
    for module in with_dependencies(&index, MODULES) {
        let to = target.join(&module);
        files::create_folder(to.parent().unwrap_or(&target))?;
        unpack_module(&kernel.modules.join(&module), &to)?;
    }
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        // Only for the index; a kernel without one has none to tell.
        let _ = fs::copy(kernel.modules.join(name), target.join(name));
    }
    kernels::depmod(&folder, &kernel.release())?;
    let mut archive = Archive::create(path)?;
    archive.folder("usr")?;
    archive.folder("usr/lib")?;
    archive.tree("usr/lib/modules", &folder.join("lib/modules"))?;
    archive.finish()
}

/// Paths of the named modules and of all that these need, from `modules.dep`.
fn with_dependencies(index: &str, names: &str) -> BTreeSet<String> {
    // A hyphen and an underscore are the same to the kernel.
    let names: BTreeSet<_> = names.split_whitespace().map(|name| name.replace('-', "_")).collect();
    let name_of = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or_default();
        file.split(".ko").next().unwrap_or_default().replace('-', "_")
    };
    let lines = index.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(module, _)| names.contains(&name_of(module)))
        // The list after the colon is complete.
        .flat_map(|(module, needs)| [module].into_iter().chain(needs.split_whitespace()))
        .map(str::to_owned)
        .collect()
}

/// Copies a module without its compression, which the guest need not know.
/// Its signature stays: it stands behind the module's own bytes.
fn unpack_module(from: &Path, to: &Path) -> Result<()> {
    let extension = from.extension().and_then(|extension| extension.to_str());
    let (program, to) = match extension {
        Some("xz") => ("xz", to.with_extension("")),
        Some("zst") => ("zstd", to.with_extension("")),
        Some("gz") => ("gzip", to.with_extension("")),
        _ => {
            let copied = fs::copy(from, to);
            return copied.map(drop).with_context(|| format!("cannot copy `{}`", from.display()));
        }
    };
    let file = File::create(&to).with_context(|| format!("cannot create `{}`", to.display()))?;
    let status = Command::new(program).args(["-q", "-d", "-c"]).arg(from).stdout(file).status();
    if !status.with_context(|| format!("cannot run `{program}`"))?.success() {
        bail!("failed to unpack `{}`", from.display());
    }
    Ok(())
}

/// Writes the root filesystem of one boot.
pub fn write_root(
    arch: Arch,
    archives: &[&Path],
    contents: &Contents<'_>,
    to: &Path,
) -> Result<()> {
    let own = to.with_extension("own");
    let mut archive = Archive::create(&own)?;
    archive.file("init", 0o755, include_bytes!("init.sh"))?;
    for folder in ["usr", "usr/local", "usr/local/bin", "root"] {
        archive.folder(folder)?;
    }
    archive.file("usr/local/bin/mkfs.xfs", 0o755, include_bytes!("mkfs.xfs.sh"))?;
    archive.copy("root/tracer", contents.tracer)?;
    archive.copy("root/tests", contents.tests)?;
    let cgroup = if contents.cgroup_v1 { "v1" } else { "v2" };
    let arguments =
        contents.arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let plan: String = [
        ("SERIAL", arch.serial()),
        ("CGROUP", cgroup),
        ("MODULES", LOADED),
        ("ARGUMENTS", &arguments),
    ]
    .map(|(name, value)| format!("{name}={}\n", quoted(value)))
    .concat();
    archive.file("root/plan", 0o644, plan.as_bytes())?;
    let environment: String = contents
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={}\n", quoted(value)))
        .collect();
    archive.file("root/environment", 0o644, environment.as_bytes())?;
    archive.finish()?;

    let mut whole =
        File::create(to).with_context(|| format!("cannot create `{}`", to.display()))?;
    for part in archives.iter().copied().chain([own.as_path()]) {
        let mut file =
            File::open(part).with_context(|| format!("cannot open `{}`", part.display()))?;
        let length = io::copy(&mut file, &mut whole).context("cannot write the guest's root")?;
        // The kernel looks for the next archive where a word begins.
        let padding = length.next_multiple_of(4) - length;
        io::copy(&mut io::Read::take(io::repeat(0), padding), &mut whole)
            .context("cannot write the guest's root")?;
    }
    files::remove(&own)
}

/// One word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "\
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/lib/crc16.ko.xz:
kernel/drivers/md/dm-thin-pool.ko.xz: kernel/drivers/md/dm-mod.ko.xz
kernel/drivers/md/dm-mod.ko.xz:
kernel/net/foo.ko.xz:
";

    #[test]
    fn modules_come_with_what_they_need() {
        let found: Vec<_> =
            with_dependencies(INDEX, "ext4 dm_thin_pool absent").into_iter().collect();
        assert_eq!(
            found,
            [
                "kernel/drivers/md/dm-mod.ko.xz",
                "kernel/drivers/md/dm-thin-pool.ko.xz",
                "kernel/fs/ext4/ext4.ko.xz",
                "kernel/fs/jbd2/jbd2.ko.xz",
                "kernel/lib/crc16.ko.xz",
            ]
        );
    }

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(quoted("it's a b"), r"'it'\''s a b'");
    }

    #[test]
    fn what_is_loaded_at_the_start_is_there() {
        let there: BTreeSet<_> = MODULES.split_whitespace().collect();
        assert!(LOADED.split_whitespace().all(|module| there.contains(module)));
    }
}
