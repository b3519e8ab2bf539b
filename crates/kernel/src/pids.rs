//! The PID namespace whose process ids the kernel programs hand out.
//!
//! A process has a number in each PID namespace around it. The kernel's own is that of
//! the first; the tracer shows those of the namespace whose `/proc` it reads, for with
//! them it finds names. In a container that namespace may be another, and then the
//! programs translate, as far as this kernel lets them.

use serde::Serialize;
use tracer_ebpf::config::{ABSENT, Config};

use crate::types::{KernelTypes, Pointers};

/// A PID namespace, by its file below `/proc`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PidNamespace {
    pub inode: u32,
    /// The device of that file, as the kernel numbers it.
    pub device: u32,
}

/// How ids come to be those that are shown.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Translation {
    /// Ids are shown as the kernel has them.
    #[default]
    None,
    /// All processes that have an id in the namespace go by it.
    Whole,
    /// Only processes in that same namespace do, and not those in namespaces below it.
    OwnOnly,
    /// The ids in that namespace cannot be read.
    Impossible,
}

/// Finds the ids of a task in `struct pid`; absent as a whole where typed programs may
/// not read them.
pub fn find_fields(types: &KernelTypes<'_>, pointers: Pointers, task: u32, config: &mut Config) {
    let _ = ids_by_level(types, pointers, task, config);
}

fn ids_by_level(
    types: &KernelTypes<'_>,
    pointers: Pointers,
    task: u32,
    config: &mut Config,
) -> Option<()> {
    let thread_pid = types.field(task, "thread_pid")?;
    let pid = types.pointee(thread_pid.type_id)?;
    let numbers = types.field(pid, "numbers")?;
    let (upid, count) = types.array(numbers.type_id)?;
    // The verifier lets programs read an array up to its declared length, which was one
    // element before 6.5: <https://github.com/torvalds/linux/commit/b69f0aeb0689>.
    if pointers == Pointers::Typed && count != 0 {
        return None;
    }
    let namespace = types.field(upid, "ns")?;
    let inode = types.field(types.pointee(namespace.type_id)?, "ns.inum")?;
    let found = [
        thread_pid.offset_bytes,
        types.field(pid, "level")?.offset_bytes,
        numbers.offset_bytes,
        types.size_bytes(upid)?,
        types.field(upid, "nr")?.offset_bytes,
        namespace.offset_bytes,
        inode.offset_bytes,
    ];
    [
        config.task_thread_pid,
        config.pid_level,
        config.pid_numbers,
        config.upid_bytes,
        config.upid_nr,
        config.upid_ns,
        config.pid_ns_inode,
    ] = found;
    Some(())
}

/// Has the programs hand out the ids of a namespace that is not the kernel's first;
/// `has_helper` says whether this kernel hands a program the ids of who runs.
pub fn show(namespace: PidNamespace, has_helper: bool, config: &mut Config) -> Translation {
    (config.pid_namespace, config.pid_namespace_device) = (namespace.inode, namespace.device);
    match config.task_thread_pid {
        ABSENT if has_helper => Translation::OwnOnly,
        ABSENT => Translation::Impossible,
        _ => Translation::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::draft::{Draft, POINTER, STRUCT};

    const INT: u32 = 1;

    /// A task whose `struct pid` has an array of `count` ids; returns its number too.
    fn kernel(count: u32) -> (Vec<u8>, u32) {
        let mut draft = Draft::base();
        draft.add(INT, "int", 4, &[]);
        // The bits of an integer follow it.
        draft.words(&[32]);
        let [nr, ns, inum] = ["nr", "ns", "inum"].map(|name| draft.string(name));
        draft.add(STRUCT, "ns_common", 16, &[&[inum, 1, 64]]); // 2
        draft.add(STRUCT, "pid_namespace", 64, &[&[ns, 2, 256]]); // 3
        draft.add(POINTER, "", 3, &[]); // 4
        draft.add(STRUCT, "upid", 16, &[&[nr, 1, 0], &[ns, 4, 64]]); // 5
        draft.add_array(5, count); // 6
        let [level, numbers, thread_pid] =
            ["level", "numbers", "thread_pid"].map(|name| draft.string(name));
        draft.add(STRUCT, "pid", 112, &[&[level, 1, 32], &[numbers, 6, 896]]); // 7
        draft.add(POINTER, "", 7, &[]); // 8
        draft.add(STRUCT, "task_struct", 4096, &[&[thread_pid, 8, 1600]]); // 9
        (draft.bytes(), 9)
    }

    fn check(count: u32, pointers: Pointers, expected: Option<[u32; 7]>) {
        let (bytes, task) = kernel(count);
        let types = KernelTypes::parse(&bytes).expect("is BTF");
        let mut config = Config::ABSENT;
        find_fields(&types, pointers, task, &mut config);
        let found = [
            config.task_thread_pid,
            config.pid_level,
            config.pid_numbers,
            config.upid_bytes,
            config.upid_nr,
            config.upid_ns,
            config.pid_ns_inode,
        ];
        assert_eq!(found, expected.unwrap_or([ABSENT; 7]), "{count} {pointers:?}");
    }

    #[test]
    fn ids_below_the_first_are_read_only_where_the_verifier_lets_programs() {
        let fields = Some([200, 4, 112, 16, 0, 8, 40]);
        check(0, Pointers::Typed, fields);
        check(1, Pointers::Typed, None);
        // A verifier that knows no types sees no end of the array.
        check(1, Pointers::Untyped, fields);
    }

    #[test]
    fn a_kernel_says_how_far_it_translates() {
        let namespace = PidNamespace { inode: 4_026_532_281, device: 4 };
        for (thread_pid, has_helper, expected) in [
            (200, true, Translation::Whole),
            (200, false, Translation::Whole),
            (ABSENT, true, Translation::OwnOnly),
            (ABSENT, false, Translation::Impossible),
        ] {
            let mut config = Config { task_thread_pid: thread_pid, ..Config::ABSENT };
            assert_eq!(show(namespace, has_helper, &mut config), expected);
            assert_eq!((config.pid_namespace, config.pid_namespace_device), (4_026_532_281, 4));
        }
    }
}
