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

/// Whether a thread of this process waits for the thaw of a filesystem.
pub fn waits_for_thaw(tree: &Tree, tgid: u32) -> bool {
    let threads = fs::read_dir(tree.at(format!("proc/{tgid}/task"))).into_iter().flatten();
    let tids = threads.flatten().take(THREADS);
    let mut tids = tids.filter_map(|entry| number(entry.file_name().as_encoded_bytes()));
    tids.any(|tid: u32| {
        let mut place = [0; 64];
        let wchan = tree.read(format_args!("proc/{tgid}/task/{tid}/wchan"), &mut place);
        wchan.is_ok_and(|wchan| WAITS.contains(&wchan.trim_ascii_end()))
    })
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
        assert!(!waits_for_thaw(&tree, 7), "there is no such process");
        sleep(7, "futex_wait_queue");
        sleep(8, "0");
        sleep(9, "balance_dirty_pages_ratelimited_flags");
        assert!(!waits_for_thaw(&tree, 7));
        sleep(10, "percpu_rwsem_wait");
        assert!(waits_for_thaw(&tree, 7));
    }
}
