//! Finds the reason why another tracer does not run here in what it printed.

/// A line with one of these words names a cause; the more reliable words come first.
const CAUSES: [&str; 6] =
    ["No such file", "failed", "could not", "not traceable", "ERROR", "error"];

/// This word appears wherever RLIMIT_MEMLOCK cannot be raised, and is not the cause.
const NO_CAUSE: &str = "RLIMIT_MEMLOCK";

const LONGEST: usize = 160;

/// Returns one short line.
pub fn find(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = || text.lines().filter(|line| !line.contains(NO_CAUSE) && !line.trim().is_empty());
    let cause = CAUSES.iter().find_map(|cause| lines().find(|line| line.contains(cause)));
    match cause.or_else(|| lines().next_back()) {
        Some(line) => shorten(line),
        None => "it printed nothing".to_owned(),
    }
}

/// Removes control characters, and the path of our own tools' directory.
fn shorten(line: &str) -> String {
    let short = |word: &str| match word.rsplit_once('/') {
        Some((folder, name)) if folder.contains("/.tools/") => name.to_owned(),
        _ => word.to_owned(),
    };
    let words: Vec<_> = line.split_whitespace().map(short).collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}
