//! Kernels made up, with more than one struct of a name.

use tracer_ebpf::config::{ABSENT, Config};

use super::*;
use crate::{
    facts::{Facts, Modules},
    types::draft::{Draft, ENUM, FUNCTION, POINTER, PROTOTYPE, STRUCT, TYPEDEF},
};

/// Types are numbered in the order in which they are added.
struct Kernel {
    draft: Draft,
    types: u32,
}

impl Kernel {
    fn add(&mut self, kind: u32, name: &str, refers_to: u32, entries: &[&[u32]]) -> u32 {
        self.draft.add(kind, name, refers_to, entries);
        self.types += 1;
        self.types
    }

    /// A struct of such fields, with their types, from a place on.
    fn layout(&mut self, name: &str, first: u32, fields: &[(&str, u32)]) -> u32 {
        let fields: Vec<_> = fields
            .iter()
            .enumerate()
            .map(|(at, (field, of))| [self.draft.string(field), *of, (first + at as u32 * 8) * 8])
            .collect();
        let entries: Vec<&[u32]> = fields.iter().map(<[u32; 3]>::as_slice).collect();
        self.add(STRUCT, name, 512, &entries)
    }

    fn pointer(&mut self, to: u32) -> u32 {
        self.add(POINTER, "", to, &[])
    }

    fn prototype(&mut self, args: &[u32]) -> u32 {
        let args: Vec<_> = args.iter().map(|of| [0, *of]).collect();
        let entries: Vec<&[u32]> = args.iter().map(<[u32; 2]>::as_slice).collect();
        self.add(PROTOTYPE, "", 0, &entries)
    }

    fn tracepoint(&mut self, name: &str, arg: u32) {
        let prototype = self.prototype(&[0, arg]);
        let pointer = self.pointer(prototype);
        self.add(TYPEDEF, &format!("btf_trace_{name}"), pointer, &[]);
    }

    fn function(&mut self, name: &str, arg: u32) {
        let prototype = self.prototype(&[arg]);
        self.add(FUNCTION, name, prototype, &[]);
    }

    /// One with all that the block path needs.
    fn new() -> Self {
        let mut kernel = Self { draft: Draft::base(), types: 0 };
        let [ring, task] = ["BPF_MAP_TYPE_RINGBUF", "BPF_FUNC_get_current_task_btf"]
            .map(|n| kernel.draft.string(n));
        kernel.add(ENUM, "", 4, &[&[ring, 27], &[task, 158]]);
        let disk = kernel.layout("gendisk", 0, &[("major", 0), ("first_minor", 0)]);
        let hctx = kernel.layout("blk_mq_hw_ctx", 0, &[("queue_num", 0)]);
        let [disk, hctx] = [disk, hctx].map(|of| kernel.pointer(of));
        let fields = ["q", "cmd_flags", "rq_flags", "__data_len", "tag", "internal_tag", "bio"];
        let mut fields = fields.map(|field| (field, 0)).to_vec();
        fields.extend([("mq_hctx", hctx), ("rq_disk", disk)]);
        let request = kernel.layout("request", 0, &fields);
        let request = kernel.pointer(request);
        kernel.tracepoint("block_rq_issue", request);
        kernel
    }

    /// A file, with an inode and all behind it; a pointer to it.
    fn file(&mut self, inode_at: u32, ino_at: u32) -> u32 {
        let bdev = self.layout("block_device", 0, &[("bd_disk", 0), ("bd_dev", 0)]);
        let bdev = self.pointer(bdev);
        let sb = self.layout("super_block", 0, &[("s_dev", 0), ("s_bdev", bdev)]);
        let mapping = self.layout("address_space", 0, &[("host", 0)]);
        let [sb, mapping] = [sb, mapping].map(|of| self.pointer(of));
        let fields = [("i_ino", 0), ("i_mode", 0), ("i_sb", sb), ("i_mapping", mapping)];
        let inode = self.layout("inode", ino_at, &fields);
        let inode = self.pointer(inode);
        let file = self.layout("file", inode_at, &[("f_inode", inode)]);
        self.pointer(file)
    }

    /// A task whose fields lie from a place on; a pointer to it.
    fn task(&mut self, first: u32) -> u32 {
        let times = [("sum_exec_runtime", 0), ("exec_start", 0)];
        let times = self.layout("sched_entity", 0, &times);
        let fields = ["flags", "group_leader", "comm", "pid", "tgid"].map(|field| (field, 0));
        let fields: Vec<_> = fields.into_iter().chain([("se", times)]).collect();
        let task = self.layout("task_struct", first, &fields);
        self.pointer(task)
    }

    fn facts(&self) -> Facts {
        let (bytes, modules) = (self.draft.bytes(), Modules::new());
        let unknown = || "unknown".to_owned();
        Facts::from_btf(&bytes, &modules, Pointers::Typed, unknown(), unknown())
            .expect("the block path is there")
    }
}

/// The places of a file's inode and of its number, and why there are none.
fn check(kernel: &Kernel, expected: Option<(u32, u32)>) {
    let facts = kernel.facts();
    let Config { file_inode, inode_ino, sb_dev, bdev_dev, .. } = facts.config;
    let (inode, ino) = expected.unwrap_or((ABSENT, ABSENT));
    assert_eq!((file_inode, inode_ino), (inode, ino), "{:?}", facts.doubts);
    assert_eq!((sb_dev == ABSENT, bdev_dev == ABSENT), (expected.is_none(), expected.is_none()));
    let is_doubted = facts.doubts.iter().any(|why| why.contains("`struct file`"));
    assert_eq!(is_doubted, expected.is_none(), "{:?}", facts.doubts);
}

#[test]
fn of_equal_structs_any_will_do() {
    let mut kernel = Kernel::new();
    kernel.file(32, 64);
    check(&kernel, Some((32, 64)));
    kernel.file(32, 64);
    check(&kernel, Some((32, 64)));
}

#[test]
fn structs_that_differ_further_on_differ() {
    let mut kernel = Kernel::new();
    kernel.file(32, 64);
    kernel.file(32, 72);
    check(&kernel, None);
}

#[test]
fn of_different_structs_the_one_that_is_handed_out_is_taken() {
    for is_second in [false, true] {
        let mut kernel = Kernel::new();
        let files = [kernel.file(32, 64), kernel.file(40, 64)];
        check(&kernel, None);
        kernel.function("vfs_fsync_range", files[usize::from(is_second)]);
        check(&kernel, Some((if is_second { 40 } else { 32 }, 64)));
    }
    let mut kernel = Kernel::new();
    kernel.file(32, 64);
    let file = kernel.file(40, 64);
    kernel.tracepoint("ext4_sync_file_enter", file);
    check(&kernel, Some((40, 64)));
}

#[test]
fn another_struct_of_the_name_that_lacks_the_fields_needs_a_hook_beside_it() {
    let mut kernel = Kernel::new();
    kernel.layout("file", 0, &[("of_a_driver", 0)]);
    let file = kernel.file(32, 64);
    check(&kernel, None);
    kernel.function("vfs_fsync_range", file);
    check(&kernel, Some((32, 64)));
}

#[test]
fn a_struct_that_is_not_there_ends_no_start() {
    check(&Kernel::new(), None);
}

#[test]
fn tasks_are_those_that_a_switch_hands_out() {
    let check = |kernel: &Kernel, flags: u32, switch_prev: u32| {
        let facts = kernel.facts();
        let found = (facts.config.task_flags, facts.config.switch_prev_arg);
        assert_eq!(found, (flags, switch_prev), "{:?}", facts.doubts);
        let is_doubted = facts.doubts.iter().any(|why| why.contains("`struct task_struct`"));
        assert_eq!(is_doubted, flags == ABSENT, "{:?}", facts.doubts);
    };
    let mut kernel = Kernel::new();
    kernel.task(16);
    let second = kernel.task(16);
    check(&kernel, 16, ABSENT);
    kernel.tracepoint("sched_switch", second);
    check(&kernel, 16, 0);

    let mut kernel = Kernel::new();
    kernel.task(16);
    let second = kernel.task(24);
    check(&kernel, ABSENT, ABSENT);
    kernel.tracepoint("sched_switch", second);
    check(&kernel, 24, 0);
}

/// The position of the pause among the arguments of balance_dirty_pages, in both prototypes and in
/// others.
#[test]
fn a_pause_is_the_signed_one_that_only_one_argument_follows() {
    enum Arg {
        Writeback,
        Control,
        Number,
        Pause,
    }
    use Arg::{Control, Number, Pause, Writeback};
    let check = |args: &[Arg], pause: u32, global: u32| {
        let mut kernel = Kernel::new();
        let bdi = kernel.layout("backing_dev_info", 0, &[("id", 0)]);
        let bdi = kernel.pointer(bdi);
        let wb = kernel.layout("bdi_writeback", 8, &[("bdi", bdi)]);
        let control = kernel.layout("dirty_throttle_control", 16, &[("gdtc", 0)]);
        let [wb, control] = [wb, control].map(|of| kernel.pointer(of));
        let [number, signed] = [("unsigned long", false), ("long", true)].map(|(name, signed)| {
            kernel.draft.add_integer(name, signed);
            kernel.types += 1;
            kernel.types
        });
        let args = args.iter().map(|arg| match arg {
            Writeback => wb,
            Control => control,
            Number => number,
            Pause => signed,
        });
        let args: Vec<_> = std::iter::once(0).chain(args).collect();
        let prototype = kernel.prototype(&args);
        let pointer = kernel.pointer(prototype);
        kernel.add(TYPEDEF, "btf_trace_balance_dirty_pages", pointer, &[]);
        let Config { pause_arg, dtc_global, wb_bdi, .. } = kernel.facts().config;
        assert_eq!((pause_arg, dtc_global), (pause, global));
        assert_eq!(wb_bdi, 8);
    };
    const NEW: [Arg; 8] = [Writeback, Control, Number, Number, Number, Number, Pause, Number];
    const OLD: [Arg; 12] = [
        Writeback, Number, Number, Number, Number, Number, Number, Number, Number, Number, Pause,
        Number,
    ];
    check(&NEW, 6, 16);
    check(&OLD, 10, ABSENT);
    // Nobody knows what this is.
    check(&[Writeback, Number, Pause, Number, Number], ABSENT, ABSENT);
    check(&[Writeback, Number, Number, Number], ABSENT, ABSENT);
}
