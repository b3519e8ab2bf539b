//! The machine's limit on dirty pages, at which the kernel pauses whoever writes.

use crate::tree::{Tree, number};

const VMSTAT_BYTES: usize = 16 << 10;

/// The limit now, in pages; `None` where the kernel does not say.
pub fn threshold(tree: &Tree) -> Option<u64> {
    let vmstat = tree.read_up_to("proc/vmstat", VMSTAT_BYTES).ok()?;
    let mut lines = vmstat.split(|&byte| byte == b'\n');
    lines.find_map(|line| number(line.strip_prefix(b"nr_dirty_threshold ")?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_limit_is_read_and_not_that_of_the_background() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::new(root.path());
        assert_eq!(threshold(&tree), None);
        fs::create_dir(root.path().join("proc")).unwrap();
        let text = "nr_dirty 8\nnr_dirty_threshold 4711\nnr_dirty_background_threshold 2300\n";
        fs::write(root.path().join("proc/vmstat"), text).unwrap();
        assert_eq!(threshold(&tree), Some(4711));
    }
}
