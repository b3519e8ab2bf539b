//! The version stands in one place, `Cargo.toml`; whatever names an image names that
//! version of it.

use super::{files_below, read, workspace};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The tags of the tracer's image in a text: `tracer:0.1.0` and `/tracer:0.1.0`.
fn tags(text: &str) -> Vec<&str> {
    let after = text.split("tracer:").skip(1);
    let tags = after.map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || ".-_+".contains(c)));
        rest[..end.unwrap_or(rest.len())].trim_end_matches('.')
    });
    tags.filter(|tag| tag.starts_with(|c: char| c.is_ascii_digit())).collect()
}

#[test]
fn every_image_that_is_named_is_of_this_version() {
    let mut count = 0;
    let folders = [("deploy", &[".yaml", "Containerfile"][..]), ("docs", &[".md"])];
    for file in folders.iter().flat_map(|(folder, endings)| files_below(folder, endings)) {
        for tag in tags(&read(&file)) {
            assert_eq!(tag, VERSION, "in {file:?}");
            count += 1;
        }
    }
    assert!(count >= 4, "only {count} are named");
}

#[test]
fn the_image_says_its_version() {
    let containerfile = read("deploy/Containerfile");
    assert!(containerfile.lines().any(|line| line == format!("ARG VERSION={VERSION}")));
}

/// No crate of ours has a version of its own.
#[test]
fn every_crate_is_of_the_workspaces_version() {
    for folder in ["tracer", "tracer-ebpf", "xtask", "tests", "crates"] {
        for file in files_below(folder, &["Cargo.toml"]) {
            let text = read(&file);
            assert!(text.contains("\nversion.workspace = true\n"), "{file:?}");
        }
    }
    let whole = read(workspace().join("Cargo.toml"));
    assert_eq!(whole.matches(&format!("\nversion = \"{VERSION}\"\n")).count(), 1);
}

#[test]
fn tags_are_found_and_words_before_a_colon_are_not() {
    let text = "image: tracer:0.1.0\npush r.example/tracer:1.2.3-rc1 . tracer: error tracer:latest";
    assert_eq!(tags(text), ["0.1.0", "1.2.3-rc1"]);
    assert_eq!(tags("as tracer:0.2.0."), ["0.2.0"]);
}
