//! Requests, bios and their disks.

use tracer_ebpf::{
    config::ABSENT,
    record::{DISK_NAME_WORDS, NO_NAME},
};

use super::{Kernel, cgroup_below_root, config};

/// `struct request`.
#[derive(Clone, Copy)]
pub struct Request(pub Kernel);

impl Request {
    #[inline(always)]
    pub fn cmd_flags(self) -> u32 {
        self.0.load(config!(request_cmd_flags))
    }

    /// Whether it is between the steps of a flush sequence.
    #[inline(always)]
    pub fn in_flush_sequence(self) -> bool {
        let flags: u32 = self.0.load(config!(request_rq_flags));
        flags >> config!(flush_seq_bit) & 1 == 1
    }

    #[inline(always)]
    pub fn bytes(self) -> u32 {
        self.0.load(config!(request_data_len))
    }

    /// When it was given to the driver, in ns, on the clock of [`now_ns`]; 0 where
    /// its queue keeps no statistics. The kernel notes it after block_rq_issue
    /// (blk_mq_start_request, <https://elixir.bootlin.com/linux/v6.12/source/block/blk-mq.c>). From
    /// 6.9 on the time may be that of an earlier request of the same plug:
    /// <https://github.com/torvalds/linux/commit/da4c8c3d0975>.
    ///
    /// [`now_ns`]: crate::clock::now_ns
    #[inline(always)]
    pub fn noted_issue_ns(self) -> u64 {
        let field = config!(request_io_start);
        if field == ABSENT { 0 } else { self.0.load(field) }
    }

    /// Its first bio; null for a flush of the flush machinery.
    #[inline(always)]
    pub fn bio(self) -> Kernel {
        self.0.follow(config!(request_bio))
    }

    /// Its tag, unique among the live requests of one hardware queue: the
    /// scheduler's where one is in charge.
    #[inline(always)]
    pub fn tag(self) -> u32 {
        let internal: i32 = self.0.load(config!(request_internal_tag));
        if internal >= 0 { internal as u32 } else { self.0.load(config!(request_tag)) }
    }

    #[inline(always)]
    pub fn hardware_queue(self) -> u32 {
        let hctx = self.0.follow(config!(request_hctx));
        if hctx.is_null() { 0 } else { hctx.load(config!(hctx_queue_num)) }
    }

    /// The device number of its whole disk; 0 where it has none.
    #[inline(always)]
    pub fn device(self) -> u32 {
        disk_device(self.disk())
    }

    /// The name of its whole disk, as the kernel has it.
    #[inline(always)]
    pub fn disk_name(self) -> [u32; DISK_NAME_WORDS] {
        let mut name = NO_NAME;
        let disk = self.disk();
        if !disk.is_null() && config!(disk_name) != ABSENT {
            for (at, word) in name.iter_mut().enumerate() {
                *word = disk.load(config!(disk_name) + 4 * at as u32);
            }
        }
        name
    }

    /// Its whole disk, a `struct gendisk`; may be null.
    #[inline(always)]
    fn disk(self) -> Kernel {
        if config!(request_disk) != ABSENT {
            return self.0.follow(config!(request_disk));
        }
        let queue = self.0.follow(config!(request_queue));
        if queue.is_null() { queue } else { queue.follow(config!(queue_disk)) }
    }
}

/// `struct bio`.
#[derive(Clone, Copy)]
pub struct Bio(pub Kernel);

impl Bio {
    /// Its address: no two bios that are alive share one.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0.0 as u64
    }

    #[inline(always)]
    pub fn flags(self) -> u32 {
        self.0.load(config!(bio_flags))
    }

    /// While it is being submitted: what has been done of it is taken away.
    #[inline(always)]
    pub fn bytes(self) -> u32 {
        self.0.load(config!(bio_bytes))
    }

    /// The device number of the whole disk that it is submitted to; 0 where it has none.
    #[inline(always)]
    pub fn device(self) -> u32 {
        if self.0.is_null() {
            return 0;
        }
        if config!(bio_disk) != ABSENT {
            return disk_device(self.0.follow(config!(bio_disk)));
        }
        let bdev = self.0.follow(config!(bio_bdev));
        if bdev.is_null() { 0 } else { disk_device(bdev.follow(config!(bdev_disk))) }
    }
}

/// The device number of a `struct gendisk`.
#[inline(always)]
pub(super) fn disk_device(disk: Kernel) -> u32 {
    if disk.is_null() {
        return 0;
    }
    let major: u32 = disk.load(config!(disk_major));
    let minor: u32 = disk.load(config!(disk_first_minor));
    major << 20 | minor
}

/// The cgroup that a bio is charged to; 0 if it names none, or one of cgroup v1, whose
/// numbers are not those of v2.
#[inline(always)]
pub fn bio_cgroup(bio: Kernel) -> u64 {
    if config!(bio_blkg) == ABSENT || bio.is_null() {
        return 0;
    }
    let group = bio.follow(config!(bio_blkg));
    if group.is_null() {
        return 0;
    }
    cgroup_below_root(group.follow(config!(blkg_blkcg)), config!(blkcg_cgroup))
}
