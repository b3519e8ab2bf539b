//! A bio enters a carrying disk (dm-crypt, dm-thin, most arrays), and ends.
//!
//! Kernel threads submit the requests below such a disk, so its bios stand for its
//! requests. Every bio of the machine runs the first program, so both are attached
//! only while such a disk is there.
//!
//! It feeds the metrics of block requests on a carrying disk, and who is blamed for
//! them.

use anyhow::{Context as _, Result, ensure};
use tracer_ebpf::config::{ABSENT, Config};

use crate::{
    hook::{Hook, Layout, Strategy, on_demand, step},
    program::Program,
    types::KernelTypes,
};

pub const HOOK: Hook = Hook {
    name: "bio",
    purpose: "whose requests the kernel threads of dm-crypt, dm-thin and arrays submit \
              (attached only if there are such disks)",
    is_required: false,
    without: "on dm-crypt, dm-thin and arrays the kernel threads that submit requests are \
              named, because their owners are not known",
    strategies: &[Strategy {
        name: "tracepoint",
        steps: &[
            on_demand(step(Program::StackBioComplete)),
            on_demand(step(Program::StackBioQueue)),
        ],
    }],
    find_fields,
    is_usable: |_, config| config.bio_queue_arg != ABSENT,
    ..Hook::PLAIN
};

fn find_fields(layout: &Layout<'_>, config: &mut Config) -> Result<()> {
    let mut found = *config;
    if layout.doubt(fields(layout.types, &mut found)).is_some() {
        *config = found;
    }
    Ok(())
}

fn fields(types: &KernelTypes<'_>, config: &mut Config) -> Result<()> {
    let args = |name| {
        types
            .tracepoint_args(name)
            .with_context(|| format!("this kernel has no tracepoint `{name}` in its BTF"))
    };
    let (queue, complete) = (args("block_bio_queue")?, args("block_bio_complete")?);
    ensure!(complete.len() == 2, "`block_bio_complete` passes {} arguments", complete.len());
    let last = queue.last().context("`block_bio_queue` passes no argument")?;
    let bio = types.pointee(*last).context("`block_bio_queue` passes no struct bio")?;
    config.bio_flags = types.required(bio, "bio", "bi_opf")?;
    config.bio_bytes = types.required(bio, "bio", "bi_iter.bi_size")?;
    config.bio_disk = types.offset(bio, "bi_disk");
    if config.bio_disk == ABSENT {
        config.bio_bdev = types.required(bio, "bio", "bi_bdev")?;
        let bdev = types.follow(bio, "bi_bdev")?;
        config.bdev_disk = types.required(bdev, "block_device", "bd_disk")?;
    }
    config.bio_queue_arg = queue.len() as u32 - 1;
    Ok(())
}
