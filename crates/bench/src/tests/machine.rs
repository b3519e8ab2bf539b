//! Tests of the machine's description.

use crate::report::machine::{clean, parse_memory};

#[test]
fn memory_is_what_the_kernel_has() {
    assert_eq!(parse_memory("MemTotal:       24683752 kB\nMemFree: 1 kB\n"), 24_683_752 << 10);
    assert_eq!(parse_memory("nothing"), 0);
}

#[test]
fn what_a_machine_calls_itself_is_one_short_line() {
    assert_eq!(clean("A\x1bCPU\n"), "ACPU");
}
