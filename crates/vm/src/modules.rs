//! The modules of a guest: those of its kernel that a test may need.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    arch::Arch,
    archive::Archive,
    files,
    kernels::{self, Kernel},
};

/// The modules that a guest gets, besides their dependencies. Those that a kernel lacks, or
/// has built in, are left out.
const MODULES: &str = "\
    ext4 xfs btrfs f2fs fuse overlay nfs nfsd nfsv4 vfat nls_cp437 nls_ascii nls_utf8 \
    bfq kyber-iosched mq-deadline loop brd zram nbd null_blk scsi_debug sd_mod nvme nvme-loop \
    virtio_pci virtio_mmio virtio_blk virtio_scsi virtio_rng \
    dm-mod dm-cache dm-cache-smq dm-clone dm-crypt dm-delay dm-dust dm-era dm-flakey dm-integrity \
    dm-log-writes dm-mirror dm-multipath dm-raid dm-snapshot dm-thin-pool dm-verity \
    dm-writecache dm-zero dm-zoned bcache md-mod raid0 raid1 raid10 raid456 \
    crc32-cryptoapi crc32c-cryptoapi crc32_generic crc32-ce crc32c_generic crc32c_intel crc32c-intel libcrc32c crct10dif_generic xxhash_generic \
    blake2b_generic sha256_generic sha256_ssse3 sha256-arm64 aes_generic aesni-intel aes-arm64 \
    aes-ce-blk xts ecb cbc essiv zstd lz4 lzo lzo-rle";

/// The modules that the guest loads before the tests; it loads all others by `modprobe`.
pub const LOADED: &str = "\
    virtio_pci virtio_blk virtio_rng loop crc32c_generic crc32c_intel ext4 xfs btrfs fuse overlay \
    bfq kyber-iosched mq-deadline";

/// Returns the archive of a kernel's modules, which is kept between runs.
pub fn obtain(arch: Arch, kernel: &Kernel) -> Result<PathBuf> {
    // The key covers the contents and the code that packs them, so that a change of either
    // makes a new archive.
    let mut key = DefaultHasher::new();
    (include_str!("modules.rs"), &kernel.modules).hash(&mut key);
    let name = format!("{}-{:016x}.cpio", kernel.release(), key.finish());
    let archive = files::cache().join(arch.name()).join("modules").join(name);
    if !archive.exists() {
        files::make_whole(&archive, |path| pack(kernel, path))?;
        eprintln!("vm: modules packed into `{}`", files::shown(&archive));
    }
    Ok(archive)
}

fn pack(kernel: &Kernel, path: &Path) -> Result<()> {
    let file = kernel.modules.join("modules.dep");
    let index = fs::read_to_string(&file)
        .with_context(|| format!("failed to read `{}`", file.display()))?;
    let folder = path.with_extension("modules");
    let inside = format!("lib/modules/{}", kernel.release());
    let target = folder.join(&inside);
    for module in with_dependencies(&index, MODULES) {
        let to = target.join(&module);
        files::create_folder(to.parent().unwrap_or(&target))?;
        unpack(&kernel.modules.join(&module), &to)?;
    }
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        // Only the index needs these files, and a kernel without one lacks some of them.
        let _ = fs::copy(kernel.modules.join(name), target.join(name));
    }
    kernels::depmod(&folder, &kernel.release())?;
    let mut archive = Archive::create(path)?;
    archive.folder("usr")?;
    archive.folder("usr/lib")?;
    archive.tree("usr/lib/modules", &folder.join("lib/modules"))?;
    archive.finish()
}

/// The paths of the named modules and of all that they need, from `modules.dep`.
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
        // The list after the colon includes indirect dependencies.
        .flat_map(|(module, needs)| [module].into_iter().chain(needs.split_whitespace()))
        .map(str::to_owned)
        .collect()
}

/// Copies a module and decompresses it, so that the guest needs no decompressor. Its
/// signature stays, because it is a part of the module's file.
fn unpack(from: &Path, to: &Path) -> Result<()> {
    let extension = from.extension().and_then(|extension| extension.to_str());
    let (program, to) = match extension {
        Some("xz") => ("xz", to.with_extension("")),
        Some("zst") => ("zstd", to.with_extension("")),
        Some("gz") => ("gzip", to.with_extension("")),
        _ => {
            let copied = fs::copy(from, to);
            return copied
                .map(drop)
                .with_context(|| format!("failed to copy `{}`", from.display()));
        }
    };
    let file = File::create(&to).with_context(|| format!("failed to create `{}`", to.display()))?;
    let status = Command::new(program).args(["-q", "-d", "-c"]).arg(from).stdout(file).status();
    if !status.with_context(|| format!("failed to run `{program}`"))?.success() {
        bail!("failed to unpack `{}`", from.display());
    }
    Ok(())
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
    fn what_is_loaded_at_the_start_is_there() {
        let there: BTreeSet<_> = MODULES.split_whitespace().collect();
        assert!(LOADED.split_whitespace().all(|module| there.contains(module)));
    }
}
