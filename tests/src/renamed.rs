//! Names that users saw and that changed: no old name may be left in the tree.
//!
//! `docs/renamed.md` lists them. A name that cannot be a word of a sentence (it contains `_`,
//! `-` or a capital letter) may not occur anywhere, except as a local name in Rust. A plain
//! word may not be used as a name: in quotes or backticks, before the `=` of a label, after
//! the `.` of a query, or as a public field of a structure from which JSON or a recording is
//! made.

use std::{collections::BTreeSet, fs, path::Path};

use crate::deploy::{find_files, read, workspace};

const PAGE: &str = "docs/renamed.md";

const GROUPS: [&str; 7] = [
    "Metrics",
    "Labels and their values",
    "JSON",
    "Text output",
    "Flags and configuration",
    "Recordings",
    "Rules and alerts",
];

/// The old names in the page, except for those that now mean something else.
fn old_names(page: &str) -> BTreeSet<String> {
    let (mut old, mut new) = (BTreeSet::new(), BTreeSet::new());
    for line in page.lines() {
        if let Some(group) = line.strip_prefix("## ") {
            assert!(GROUPS.contains(&group), "a group of names: {group}");
        }
        let Some(renamed) = line.strip_prefix("- ") else { continue };
        let (before, after) = renamed.split_once(" → ").unwrap_or_else(|| panic!("{line}"));
        let name = |part: &str| part.split('`').nth(1).map(str::to_owned);
        old.insert(name(before).unwrap_or_else(|| panic!("no old name: {line}")));
        new.extend(after.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    &old - &new
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `name` is a whole word of the line here, and not a part of one.
fn words<'l>(line: &'l str, name: &'l str) -> impl Iterator<Item = (&'l str, &'l str)> {
    line.match_indices(name).filter_map(move |(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        let is_whole = !before.ends_with(is_word) && !after.starts_with(is_word);
        is_whole.then_some((before, after))
    })
}

/// The place of a line.
#[derive(Clone, Copy)]
struct LinePlace<'l> {
    is_rust: bool,
    is_html: bool,
    /// Within a structure that JSON or a recording is made from.
    is_serialized: bool,
    above: &'l str,
}

/// Whether a line uses this word as a name.
fn is_found(place: LinePlace<'_>, line: &str, name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || (place.is_rust && c == '_');
    let is_unmistakable = !name.chars().all(is_plain) || name.starts_with("tracer_");
    let is_field = place.is_serialized && !place.above.contains("rename = \"");
    words(line, name).any(|(before, after)| {
        let is_within =
            |open: &[char], close: &[char]| before.ends_with(open) && after.starts_with(close);
        let is_label = after.starts_with("=\"") || after.starts_with("=~\"");
        is_unmistakable
            || is_within(&['"'], &['"'])
            || (line.contains("=~\"") && is_within(&['"', '|'], &['"', '|']))
            || (is_label && !place.is_html)
            || (is_field && after.starts_with(": ") && before.ends_with("pub "))
            || (!place.is_rust && is_within(&['`'], &['`']))
            || (!place.is_rust && before.ends_with('.') && !before.ends_with(".."))
    })
}

/// The places of old names in a text.
fn find(path: &Path, text: &str, names: &BTreeSet<String>) -> Vec<String> {
    let is = |end| path.extension().is_some_and(|extension| extension == end);
    let (is_rust, is_html) = (is("rs"), is("html"));
    let (mut above, mut is_serialized, mut found) = ("", false, Vec::new());
    for (at, line) in text.lines().enumerate() {
        if line.contains("derive(") {
            is_serialized = is_rust && line.contains("Serialize");
        }
        let place = LinePlace { is_rust, is_html, is_serialized, above };
        above = line;
        // This is how a recording of the version before looks.
        if line.contains("\"version\":1,") {
            continue;
        }
        // Within a string, quotes are escaped.
        let line = line.replace("\\\"", "\"");
        for name in names.iter().filter(|name| is_found(place, &line, name)) {
            found.push(format!("{}:{}: `{name}` in {line:.160}", path.display(), at + 1));
        }
    }
    found
}

#[test]
fn no_old_name_is_left_anywhere() {
    let names = old_names(&read(PAGE));
    assert!(!names.is_empty(), "{PAGE} names nothing");
    let ends =
        [".rs", ".md", ".snap", ".toml", ".yml", ".yaml", ".json", ".html", ".sh", ".service"];
    let mut files = Vec::new();
    for entry in workspace().read_dir().unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(find_files(&name, &ends)),
            false if ends.iter().any(|end| name.ends_with(end)) => files.push(entry.path()),
            false => {}
        }
    }
    assert!(files.len() > 300, "{} files", files.len());
    let mut found = Vec::new();
    for file in files {
        let path = file.strip_prefix(workspace()).unwrap();
        if path != Path::new(PAGE) {
            found.extend(find(path, &fs::read_to_string(&file).unwrap(), &names));
        }
    }
    assert!(found.is_empty(), "see {PAGE}:\n{}", found.join("\n"));
}

#[test]
fn an_old_name_is_found_where_it_is_a_name() {
    let page = "# Names\n\n## Metrics\n\n- `tracer_old` → `tracer_new`\n\n## JSON\n\n\
                - `lost` → `dropped`, in all\n- `swapped` → `kept`\n- `kept` → `swapped`\n";
    let names = old_names(page);
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["lost", "tracer_old"]);
    let is_found = |path: &str, text: &str| !find(Path::new(path), text, &names).is_empty();
    for text in ["x tracer_old x", "{\"lost\":1}", "a{lost=\"b\"}", "=~\"a|lost|b\""] {
        assert!(is_found("a.md", text) && is_found("a.rs", text), "{text}");
    }
    let fields = |derived| format!("#[derive({derived})]\npub lost: u64,");
    assert!(is_found("a.rs", &fields("Serialize")) && !is_found("a.rs", &fields("Debug")));
    assert!(!is_found("a.rs", "#[derive(Serialize)]\n#[serde(rename = \"a\")]\npub lost: u64,"));
    assert!(is_found("a.rs", "\"a{lost=\\\"b\\\"}\""));
    assert!(is_found("a.md", "`lost`") && !is_found("a.rs", "/// `lost`"));
    assert!(is_found("a.html", "seen.lost)") && !is_found("a.rs", "seen.lost)"));
    assert!(!is_found("a.html", "<i lost=\"b\">") && !is_found("a.rs", "|lost| lost + 1"));
    for text in ["It is lost.", "lost: Lost", "tracer_older", "almost", "\"kept\"", "`swapped`"] {
        assert!(!is_found("a.md", text) && !is_found("a.rs", text), "{text}");
    }
    assert!(!is_found("a.rs", "{\"version\":1,\"lost\":0}"));
}
