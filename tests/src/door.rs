//! Somebody who comes to the project meets these first: its pages, templates and
//! workflows say what holds.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn files(folder: &str) -> BTreeSet<String> {
    let names = fs::read_dir(root().join(folder)).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn each_template_of_an_issue_asks_for_what_doctor_says() {
    let templates = files(".github/ISSUE_TEMPLATE");
    let templates: Vec<_> = templates.iter().filter(|name| name.ends_with(".md")).collect();
    assert!(templates.len() >= 3);
    for name in templates {
        let text = read(&format!(".github/ISSUE_TEMPLATE/{name}"));
        assert!(text.contains("tracer doctor --json"), "{name}");
        let (_, rest) = text.split_once("---\n").unwrap();
        let (head, _) = rest.split_once("---\n").unwrap();
        let head: Value = serde_saphyr::from_str(head).unwrap();
        assert!(head["name"].is_string() && head["about"].is_string(), "{name}");
    }
    assert!(read(".github/pull_request_template.md").contains("tracer doctor --json"));
}

/// A forge runs what everybody runs, and with no more rights than it takes.
#[test]
fn a_forge_runs_the_one_command() {
    let workflow: Value = serde_saphyr::from_str(&read(".github/workflows/check.yml")).unwrap();
    assert_eq!(workflow["permissions"]["contents"], "read");
    let steps = workflow["jobs"]["check"]["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["run"] == ".ci/run"));
    assert_eq!(steps[0]["with"]["fetch-depth"], 0, "commits are counted");
    assert!(root().join(".ci/run").is_file());
}

#[test]
fn each_danger_has_its_answer() {
    let page = read("SECURITY.md");
    let numbers: Vec<u32> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### ")?.split_once(". ")?.0.parse().ok())
        .collect();
    assert_eq!(numbers, (1..=11).collect::<Vec<_>>());
    let answers = page.split("### ").skip(1).map(|answer| answer.split("\n## ").next().unwrap());
    for answer in answers {
        assert!(answer.split_whitespace().count() > 20, "{answer}");
    }
}

/// An address that is not known is not invented.
#[test]
fn no_address_is_invented() {
    for path in ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "Cargo.toml"] {
        let text = read(path);
        let words = text.split(|c: char| c.is_whitespace() || "<>()[]`\"".contains(c));
        for word in words {
            let is_mail = word.split_once('@').is_some_and(|(who, host)| {
                !who.is_empty() && host.contains('.') && !host.contains('/')
            });
            assert!(!is_mail, "{path}: {word}");
            assert!(!word.contains("example.com"), "{path}: {word}");
        }
    }
}

#[test]
fn the_changelog_begins_with_the_version_that_is_built() {
    let changelog = read("CHANGELOG.md");
    let first = changelog.lines().find(|line| line.starts_with("## ")).unwrap();
    assert!(first.contains(env!("CARGO_PKG_VERSION")), "{first}");
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    for path in ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"] {
        let text = read(path);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") {
                continue;
            }
            assert!(root().join(file).exists(), "{path}: {link}");
            let has_anchor = |anchor: &str| {
                read(file).lines().filter_map(|line| line.strip_prefix('#')).any(|heading| {
                    let heading = heading.trim_start_matches('#').trim().to_lowercase();
                    heading.replace([',', '`', '.'], "").replace(' ', "-") == anchor
                })
            };
            assert!(anchor.is_empty() || has_anchor(anchor), "{path}: {link}");
        }
    }
}

/// One screen: what it is, how it is had, how it is read.
#[test]
fn the_readme_is_short_and_has_two_commands() {
    let readme = read("README.md");
    assert!(readme.lines().count() <= 80, "{} lines", readme.lines().count());
    let (_, two) = readme.split_once("## Two commands\n").unwrap();
    let (two, _) = two.split_once("\n## ").unwrap();
    assert_eq!(two.lines().filter(|line| line.starts_with("    ")).count(), 2);
    for page in files("docs").iter().filter(|name| name.ends_with(".md")) {
        let of_builders = ["adding-a-hook.md", "cost.md", "glossary.md", "recording.md"];
        let others = ["renamed.md", "tested.md"];
        let is_linked = readme.contains(&format!("docs/{page}"));
        let is_elsewhere = of_builders.contains(&page.as_str()) || others.contains(&page.as_str());
        assert!(is_linked || is_elsewhere, "nothing leads to docs/{page}");
    }
}

#[test]
fn no_cell_of_the_reference_is_a_paragraph() {
    for path in ["README.md", "docs/reference.md", "docs/compare.md"] {
        for row in read(path).lines().filter(|line| line.starts_with('|')) {
            for cell in row.split('|') {
                assert!(cell.split_whitespace().count() <= 25, "{path}: {cell}");
            }
        }
    }
}
