//! Lets a test say that this machine cannot run it.
//!
//! It prints a line `skipped: NAME: why`, with libtest's name for the test, past libtest's
//! capture; `cargo xtask test` reads these lines. With `TRACER_NO_SKIP_LIVE=1` the machine
//! has everything that a live test needs, and a live test that skips fails.

use std::{
    env, fmt,
    io::{self, Write as _},
};

/// Ends the calling test as skipped; takes the reason as `format!` does.
macro_rules! skip {
    ($($why:tt)+) => {{
        fn here() {}
        $crate::skip::announce(std::any::type_name_of_val(&here), format_args!($($why)+));
        return;
    }};
}
pub(crate) use skip;

/// Implements [`skip!`]: `here` is the path of an item within the test's function.
pub fn announce(here: &str, why: fmt::Arguments<'_>) {
    let line = line(here, why);
    let must_not = env::var_os("TRACER_NO_SKIP_LIVE").is_some_and(|value| value == "1");
    assert!(!(must_not && line.starts_with("skipped: live::")), "must not be {line}");
    // It is written at once and on a line of its own, because libtest may have begun a line.
    let _ = io::stdout().write_all(format!("\n{line}\n").as_bytes());
}

/// Prints that the failure of the running test, which follows, is final: `cargo xtask test`
/// does not play it again.
pub fn announce_final(why: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("?");
    let _ = io::stdout().write_all(format!("\nfinal: {name}: {why}\n").as_bytes());
}

fn line(here: &str, why: fmt::Arguments<'_>) -> String {
    let path = here.trim_end_matches("::here").replace("::{{closure}}", "");
    // The crate's name is removed.
    let name = path.split_once("::").map_or(path.as_str(), |(_, name)| name);
    format!("skipped: {name}: {why}")
}

#[test]
fn a_skip_is_a_line_that_names_the_test() {
    fn here() {}
    let here = std::any::type_name_of_val(&here);
    assert_eq!(
        line(here, format_args!("no {}", "tape")),
        "skipped: skip::a_skip_is_a_line_that_names_the_test: no tape"
    );
    assert_eq!(
        line("tests::live::wal::a_trim_is_blamed::{{closure}}::here", format_args!("no loop")),
        "skipped: live::wal::a_trim_is_blamed: no loop"
    );
}
