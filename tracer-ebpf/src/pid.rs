//! Process and thread ids as they leave the kernel programs.
//!
//! A tracer shows the ids of the PID namespace whose `/proc` it reads. Where that is
//! not the kernel's first namespace, the programs translate, and a process outside of
//! it has no id there.

/// Set in the id of a process or a thread that has none in that namespace. The other
/// bits are the kernel's own number, which no other has and which is never shown.
/// The kernel's numbers end at 2^22 (`PID_MAX_LIMIT`).
pub const ELSEWHERE: u32 = 1 << 31;

/// The id to show and to look for in `/proc`; 0 where there is none.
pub const fn here(id: u32) -> u32 {
    if id & ELSEWHERE == 0 { id } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_elsewhere_has_no_id_and_everybody_else_keeps_the_own() {
        const LAST: u32 = (1 << 22) - 1;
        assert_eq!([0, 1, LAST].map(here), [0, 1, LAST]);
        assert_eq!([1, LAST].map(|number| here(number | ELSEWHERE)), [0, 0]);
    }
}
