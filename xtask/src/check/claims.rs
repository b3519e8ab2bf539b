//! Comments that make a claim about the kernel must link to its source.
//!
//! For this check a claim is a comment that names a file of the kernel's source
//! (`block/blk-mq.c`) or says in which versions something holds ("before 5.12", "since
//! Linux 6.1"). The permalink that lets a reader verify it must be in the same comment or
//! in the documentation of the module, and must name a tag or a commit. An observation
//! ("seen on 6.1") needs none. The number of claims without a link may not rise above its maximum here.

use std::fs;

use anyhow::{Context as _, Result, bail};
use tracer_step::workspace;

use super::words::find_sources;

/// Top directories of the kernel's source, whose files are named in comments.
const DIRECTORIES: [&str; 11] = [
    "Documentation/",
    "arch/",
    "block/",
    "drivers/",
    "fs/",
    "include/",
    "io_uring/",
    "kernel/",
    "lib/",
    "mm/",
    "security/",
];
const SOURCES: [&str; 3] = [".c", ".h", ".rst"];

/// Words before a version that make it a claim about all older or newer ones.
const RANGES: [&str; 4] = ["before", "since", "until", "from"];

const PERMALINKS: [&str; 4] = [
    "https://elixir.bootlin.com/linux/v",
    "https://github.com/torvalds/linux/blob/v",
    "https://github.com/torvalds/linux/commit/",
    "https://git.kernel.org/",
];

/// This file has examples of claims, so it is not searched for them.
const THIS_FILE: &str = "xtask/src/check/claims.rs";

const MAXIMUM: usize = 0;

/// Prints the place of each claim without a link on standard error.
///
/// # Errors
///
/// There are more of them than the maximum.
pub fn check() -> Result<()> {
    let mut count = 0;
    for file in find_sources(workspace())?.into_iter().filter(|file| !file.ends_with(THIS_FILE)) {
        let failed = || format!("failed to read `{}`", file.display());
        let text = fs::read_to_string(&file).with_context(failed)?;
        for line in find_unlinked(&text) {
            eprintln!("{}:{line}: a claim about the kernel without a link", file.display());
            count += 1;
        }
    }
    eprintln!("claims about the kernel without a link: {count}, at most {MAXIMUM}");
    if count > MAXIMUM {
        bail!("add a permalink, at a tag or commit: see {THIS_FILE}");
    }
    Ok(())
}

/// The numbers of the lines in which comments with an unlinked claim begin, from 1.
fn find_unlinked(text: &str) -> Vec<usize> {
    let module: String = text.lines().filter(|line| line.starts_with("//!")).collect();
    if is_linked(&module) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut comment = String::new();
    let mut begin = 0;
    // An empty line ends the last comment.
    for (index, line) in text.lines().chain([""]).enumerate() {
        if let Some(words) = line.trim_start().strip_prefix("//") {
            if comment.is_empty() {
                begin = index + 1;
            }
            comment.push_str(words.trim_start_matches(['/', '!']));
            comment.push(' ');
            continue;
        }
        if is_claim(&comment) && !is_linked(&comment) {
            found.push(begin);
        }
        comment.clear();
    }
    found
}

fn is_linked(comment: &str) -> bool {
    PERMALINKS.iter().any(|link| comment.contains(link))
}

fn is_claim(comment: &str) -> bool {
    let words: Vec<&str> = comment.split_whitespace().collect();
    words.iter().any(|word| is_kernel_file(word))
        || words.iter().enumerate().any(|(at, word)| {
            let rest = words[at + 1..].iter().find(|word| !word.eq_ignore_ascii_case("linux"));
            RANGES.iter().any(|range| word.eq_ignore_ascii_case(range))
                && rest.is_some_and(|word| is_kernel_version(word))
        })
}

/// Whether a word is a path such as `(fs/xfs/xfs_trace.h)`.
fn is_kernel_file(word: &str) -> bool {
    let path = word.trim_matches(|c: char| !c.is_alphanumeric());
    DIRECTORIES.iter().any(|directory| path.starts_with(directory))
        && SOURCES.iter().any(|ending| path.ends_with(ending))
}

/// Whether a word is a version such as `5.10.136,` that a kernel since 4.0 has.
fn is_kernel_version(word: &str) -> bool {
    let version = word.trim_matches(|c: char| !c.is_alphanumeric());
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    matches!(parts.next(), Some(Some(4..=7))) && matches!(parts.next(), Some(Some(0..=99)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, lines: &[usize]) {
        assert_eq!(find_unlinked(text), lines, "{text}");
    }

    #[test]
    fn a_file_or_a_range_of_versions_is_a_claim() {
        check("let a = 1;\n// As in block/blk-mq.c.\nlet b = 2;\n", &[2]);
        check("    /// `S_IFMT` (include/uapi/linux/stat.h).\n", &[1]);
        check(
            "/// Zero before\n/// Linux 5.12, else one.\nfn f() {}\n// Until 5.10.136: two.\n",
            &[1, 4],
        );
    }

    #[test]
    fn a_link_in_the_comment_or_in_the_modules_documentation_is_enough() {
        let link = "<https://github.com/torvalds/linux/commit/9ed9e9ba2337>";
        check(&format!("// From 5.12 on:\n// {link}.\n"), &[]);
        check(&format!("//! See {link}.\n\n// From 5.12 on.\n"), &[]);
        check(&format!("// {link}.\nlet a = 1;\n// From 5.12 on.\n"), &[3]);
        check("// From 5.12 on: <https://example.org/v5.12>.\n", &[1]);
    }

    #[test]
    fn what_was_observed_and_other_numbers_are_no_claims() {
        check("// Seen on 5.10 and 6.1.\nlet a = \"before 5.10\";\n", &[]);
        check("// From 10 to 5.1 ms, before 5, since 3.2, of src/block/a.c.\n", &[]);
        check("// Before the kernel 5 requests.\n", &[]);
    }
}
