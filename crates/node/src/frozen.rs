//! Whether a process waits to write to a filesystem that is frozen.
//!
//! The kernel says where each thread sleeps (`wchan`). Writers to a frozen filesystem sleep in the
//! semaphore that guards it. Neither file that is read here waits for a disk or for the process
//! itself. It takes CAP_SYS_PTRACE; without it nobody is seen to wait.

use std::fs;

use crate::tree::{Tree, number};

/// Threads of a process that are looked at.
const THREADS: usize = 512;

/// The functions in which writers wait for a thaw, by kernel: the semaphore's own, or the one that
/// calls it where the kernel leaves out functions of its scheduler and locks.
const WAITS: [&[u8]; 5] = [
    b"percpu_rwsem_wait",
    b"__percpu_down_read",
    b"percpu_down_read",
    b"__sb_start_write",
    b"sb_start_write",
];

/// The answer to whether a process waits for a thaw.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Look {
    /// The first thread that does.
    pub waiting: Option<u32>,
    /// Threads that were not looked at.
    pub left_out: u64,
}

/// Looks for a thread of this process that waits for the thaw of a filesystem.
pub fn look_for_thaw(tree: &Tree, tgid: u32) -> Look {
    let threads = fs::read_dir(tree.at(format!("proc/{tgid}/task"))).into_iter().flatten();
    let mut tids =
        threads.flatten().filter_map(|entry| number(entry.file_name().as_encoded_bytes()));
    let waits = |tid: &u32| {
        let mut place = [0; 64];
        let wchan = tree.read(format_args!("proc/{tgid}/task/{tid}/wchan"), &mut place);
        wchan.is_ok_and(|wchan| WAITS.contains(&wchan.trim_ascii_end()))
    };
    let waiting = tids.by_ref().take(THREADS).find(waits);
    Look { waiting, left_out: if waiting.is_some() { 0 } else { tids.count() as u64 } }
}

/// Whether a thread sleeps in the kernel without being able to be interrupted, as it does while it
/// waits for data to be written.
pub fn waits_in_kernel(tree: &Tree, tid: u32) -> bool {
    let mut place = [0; 64];
    let stat = tree.read(format_args!("proc/{tid}/stat"), &mut place);
    // The name is in parentheses, and may hold any byte.
    let rest = |stat: &[u8]| stat.iter().rposition(|byte| *byte == b')').map(|at| at + 2);
    stat.is_ok_and(|stat| rest(stat).and_then(|at| stat.get(at)) == Some(&b'D'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_that_waits_in_the_semaphore_is_enough() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::new(root.path());
        let sleep = |tid: u32, wchan: &str| {
            let task = root.path().join(format!("proc/7/task/{tid}"));
            fs::create_dir_all(&task).unwrap();
            fs::write(task.join("wchan"), wchan).unwrap();
        };
        let waits = || look_for_thaw(&tree, 7);
        assert_eq!(waits(), Look::default(), "there is no such process");
        sleep(7, "futex_wait_queue");
        sleep(8, "0");
        sleep(9, "balance_dirty_pages_ratelimited_flags");
        assert_eq!(waits(), Look::default());
        sleep(10, "percpu_rwsem_wait");
        assert_eq!(waits(), Look { waiting: Some(10), left_out: 0 });
    }

    #[test]
    fn threads_that_are_not_looked_at_are_counted() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::new(root.path());
        for tid in 1..=515 {
            fs::create_dir_all(root.path().join(format!("proc/7/task/{tid}"))).unwrap();
        }
        assert_eq!(look_for_thaw(&tree, 7), Look { waiting: None, left_out: 3 });
    }

    #[test]
    fn a_thread_that_cannot_be_interrupted_waits_in_the_kernel() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::new(root.path());
        assert!(!waits_in_kernel(&tree, 7), "there is no such thread");
        fs::create_dir_all(root.path().join("proc/7")).unwrap();
        let fields = "1 7 7 0 -1 4194304 100 0 0 0 0 0 0 0 20 0 1 0 100 0 0";
        for (name, state, waits) in
            [("umount", "D", true), ("umount", "S", false), ("a) D (b", "R", false)]
        {
            let stat = format!("7 ({name}) {state} {fields}\n");
            fs::write(root.path().join("proc/7/stat"), stat).unwrap();
            assert_eq!(waits_in_kernel(&tree, 7), waits, "{name} {state}");
        }
    }
}
