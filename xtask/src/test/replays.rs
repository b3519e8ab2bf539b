//! Live tests that failed are played again.
//!
//! They measure a kernel that others use as well, so now and then one of some two
//! hundred fails although the tree is good. A fault of the tree fails again. Each test
//! that failed is therefore played twice more, alone and in a process of its own. If it
//! passes both times it counts as passed and is listed as unsteady, which is a defect of
//! the test, or a rare one of the tracer. Nothing is played again if more than [`MAX_REPLAYED`]
//! tests have failed, if a test says that its failure is final (an innocent was named
//! with high confidence), with `--all`, or with a filter.

use anyhow::Result;

/// More failures than this are not due to chance.
const MAX_REPLAYED: usize = 3;
/// The number of times that each is played again.
const PLAYS: usize = 2;

/// Plays failed tests again by calling `once`, which returns whether a test passed.
/// Returns the tests that passed each time.
pub fn play(failed: &[String], mut once: impl FnMut(&str) -> Result<bool>) -> Result<Vec<String>> {
    let mut unsteady = Vec::new();
    if failed.len() > MAX_REPLAYED {
        return Ok(unsteady);
    }
    for name in failed {
        let mut passes = 0;
        while passes < PLAYS && once(name)? {
            passes += 1;
        }
        if passes == PLAYS {
            unsteady.push(name.clone());
        }
    }
    Ok(unsteady)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the unsteady tests and the order of all plays, if `passes` decides which of
    /// them pass.
    fn play_all(failed: &[&str], passes: impl Fn(&str, usize) -> bool) -> (Vec<String>, String) {
        let failed: Vec<_> = failed.iter().map(ToString::to_string).collect();
        let mut plays = String::new();
        let unsteady = play(&failed, |name| {
            plays += name;
            Ok(passes(name, plays.matches(name).count()))
        });
        (unsteady.unwrap(), plays)
    }

    #[test]
    fn a_test_that_passes_twice_is_unsteady_and_one_that_fails_again_has_failed() {
        let (unsteady, plays) = play_all(&["a", "b", "c"], |name, play| match name {
            "a" => true,
            "b" => play == 1,
            _ => false,
        });
        assert_eq!(unsteady, ["a"]);
        assert_eq!(plays, "aabbc");
    }

    #[test]
    fn many_failures_are_no_accident() {
        let (unsteady, plays) = play_all(&["a", "b", "c", "d"], |_, _| true);
        assert_eq!((unsteady, plays), (Vec::new(), String::new()));
    }
}
