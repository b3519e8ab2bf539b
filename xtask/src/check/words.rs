//! Three habits of language that make the text hard to read, counted.
//!
//! - A comment line that begins with a preposition or a relative pronoun is usually a
//!   fragment, without a subject or a verb of its own.
//! - The verb "tell" usually stands for a plainer one: say, show, return, name.
//! - Some phrases can be read as their opposite ("not seen, but for ext4"), hide a
//!   number ("so many") or are archaic ("to be had").
//!
//! The first two are counted in Rust files, the phrases in all text, also where
//! a phrase is broken by the end of a line. No count may rise above its maximum
//! here, which is lowered as the count falls; all are at zero now.

use std::{
    fs,
    ops::AddAssign,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use tracer_step::workspace;

/// First words of comment lines.
const FRAGMENTS: [&str; 9] =
    ["Of", "What", "Who", "Whose", "Whom", "Where", "Which", "By", "The same"];
const TELLING: [&str; 3] = ["tell", "told", "tells"];

/// Phrases, in lower case.
const PHRASES: [&str; 17] = [
    "so many",
    "so much",
    "for so long",
    "but for",
    "be had",
    "may become no more",
    "at work",
    "by way of",
    "middling",
    "to and fro",
    "of no use",
    "in vain",
    "for want of",
    "for ever",
    "anew",
    "lest",
    "nothing else than",
];

/// Files with these extensions are searched for the phrases.
const TEXTS: [&str; 8] = ["rs", "md", "html", "js", "yaml", "yml", "toml", "service"];

/// This file names the words and phrases, so it is not searched for them.
const THIS_FILE: &str = "xtask/src/check/words.rs";

/// The counts may not rise above these.
const MAXIMUM: Counts = Counts { fragments: 0, telling: 0, phrases: 0 };

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Counts {
    /// Comment lines that begin with one of [`FRAGMENTS`].
    fragments: u64,
    /// Lines with one of the words [`TELLING`].
    telling: u64,
    /// Lines with one of [`PHRASES`].
    phrases: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.fragments += other.fragments;
        self.telling += other.telling;
        self.phrases += other.phrases;
    }
}

/// Prints all counts on standard error, and the place of each line that counts.
///
/// # Errors
///
/// A count is above its maximum.
pub fn check() -> Result<()> {
    let mut counts = Counts::default();
    for extension in TEXTS {
        for file in find_files(workspace(), extension)? {
            if file.ends_with(THIS_FILE) {
                continue;
            }
            let text = read(&file)?;
            let mut phrases = find_phrases(&text);
            if extension == "rs" {
                counts += count(&text);
                let words = text.lines().enumerate();
                let words = words.filter(|(_, line)| is_fragment(line) || has_telling(line));
                phrases.extend(words.map(|(index, _)| index + 1));
            }
            phrases.iter().for_each(|line| eprintln!("{}:{line}: a refused word", file.display()));
            counts.phrases += find_phrases(&text).len() as u64;
        }
    }
    let verdicts = [
        judge("comment fragments", counts.fragments, MAXIMUM.fragments),
        judge("lines with tell, told or tells", counts.telling, MAXIMUM.telling),
        judge("lines with refused phrases", counts.phrases, MAXIMUM.phrases),
    ];
    for verdict in &verdicts {
        match verdict {
            Ok(line) | Err(line) => eprintln!("{line}"),
        }
    }
    if verdicts.iter().any(Result::is_err) {
        bail!("there are more of these words than before: see {THIS_FILE}");
    }
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("failed to read `{}`", file.display()))
}

/// One line about a count; an error if the count is too high.
fn judge(name: &str, count: u64, maximum: u64) -> Result<String, String> {
    let line = format!("{name}: {count}, at most {maximum}");
    match count {
        _ if count > maximum => Err(format!("{line}: too many")),
        _ if count < maximum => Ok(format!("{line}: MAXIMUM can be lowered")),
        _ => Ok(line),
    }
}

/// All Rust files of this repository: hidden directories and `target` hold other
/// people's.
pub(super) fn find_sources(folder: &Path) -> Result<Vec<PathBuf>> {
    find_files(folder, "rs")
}

/// All files of this repository with this extension.
fn find_files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let failed = || format!("failed to read the directory `{}`", folder.display());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type().with_context(failed)?.is_dir() {
            if !name.starts_with('.') && name != "target" {
                found.extend(find_files(&path, extension)?);
            }
        } else if path.extension().is_some_and(|ending| ending == extension) {
            found.push(path);
        }
    }
    Ok(found)
}

fn count(text: &str) -> Counts {
    let fragments = text.lines().filter(|line| is_fragment(line)).count();
    let telling = text.lines().filter(|line| has_telling(line)).count();
    // A count of lines fits into 64 bits.
    Counts { fragments: fragments as u64, telling: telling as u64, phrases: 0 }
}

/// The numbers of the lines in which a refused phrase begins, from 1.
fn find_phrases(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let next = lines.peek().map_or("", |(_, next)| without_marker(next));
        if has_phrase(line.trim_end_matches('\\').trim_end(), next) {
            found.push(index + 1);
        }
    }
    found
}

/// The text of a line of a comment.
fn without_marker(line: &str) -> &str {
    line.trim_start_matches([' ', '/', '!', '#', '*', '>'])
}

fn is_fragment(line: &str) -> bool {
    let Some(comment) = line.trim_start().strip_prefix("//") else { return false };
    let comment = comment.trim_start_matches(['/', '!']).trim_start();
    FRAGMENTS.iter().any(|begin| {
        comment.strip_prefix(begin).is_some_and(|rest| !rest.starts_with(is_of_a_word))
    })
}

fn has_telling(line: &str) -> bool {
    // A name in code is several words.
    let mut words = line.split(|c: char| c == '_' || !is_of_a_word(c));
    words.any(|word| TELLING.iter().any(|telling| word.eq_ignore_ascii_case(telling)))
}

/// Whether a phrase begins in `line`; it may end in the `next` one.
fn has_phrase(line: &str, next: &str) -> bool {
    let begin = line.to_lowercase();
    let both = format!("{begin} {}", next.to_lowercase());
    PHRASES.iter().any(|phrase| {
        both.match_indices(phrase).any(|(at, _)| {
            let (before, after) = (&both[..at], &both[at + phrase.len()..]);
            let is_whole = !before.ends_with(is_of_a_word) && !after.starts_with(is_of_a_word);
            at < begin.len() && is_whole
        })
    })
}

fn is_of_a_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '\''
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, fragments: u64, telling: u64) {
        assert_eq!(count(text), Counts { fragments, telling, phrases: 0 });
    }

    #[test]
    fn a_comment_line_that_begins_with_a_relative_is_a_fragment() {
        check("/// What a guest says.\nfn f() {} // Of no interest here.\n", 1, 0);
        check("    //! Whose it is.\n    // The same again.\n    //By hand.\n", 3, 0);
    }

    #[test]
    fn words_that_only_begin_alike_are_none() {
        check("// Whatever\n// Off\n// What's\n// of\nlet x = \"// \"; Of\n", 0, 0);
        check("// The sameness\n/// [`What`]\n// A name. Of\n", 0, 0);
    }

    #[test]
    fn a_line_counts_once_however_often_it_tells() {
        check("// Told, it tells.\nfn f(told: u8) {}\n", 0, 2);
        check("let foretell = teller(retold, untold);\n", 0, 0);
        check("fn what_is_told() {}\n", 0, 1);
    }

    #[test]
    fn a_phrase_counts_wherever_it_stands_as_whole_words() {
        assert_eq!(find_phrases("So many of them, so many.\nNothing but for this.\n"), [1, 2]);
        assert_eq!(find_phrases("also many\nbut forty\nit may be hadoop\n"), [0; 0]);
    }

    #[test]
    fn a_phrase_that_is_broken_by_the_end_of_a_line_counts_once() {
        assert_eq!(find_phrases("// It is so\n    /// many of them.\n"), [1]);
        assert_eq!(find_phrases("let text = \"nothing but \\\n    for this\";\n"), [1]);
        assert_eq!(find_phrases("so\nand many\n"), [0; 0]);
    }

    #[test]
    fn a_count_may_fall_and_not_rise() {
        assert_eq!(judge("x", 2, 2), Ok("x: 2, at most 2".to_owned()));
        assert_eq!(judge("x", 1, 2), Ok("x: 1, at most 2: MAXIMUM can be lowered".to_owned()));
        assert_eq!(judge("x", 3, 2), Err("x: 3, at most 2: too many".to_owned()));
    }

    #[test]
    fn sources_are_found_but_not_in_what_was_built() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a/src/b.rs", "a/src/b.txt", "c.rs", "target/d.rs", ".vm/e.rs"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let mut found = find_sources(folder.path()).unwrap();
        found.sort();
        assert_eq!(found, ["a/src/b.rs", "c.rs"].map(|path| folder.path().join(path)));
    }
}
