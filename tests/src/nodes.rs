//! Checks `docs/nodes.md`: it has a row for each kind of node, and names only tests that exist.
//!
//! A row says how its claim is known. A row that is *tried* names tests, which must exist under
//! exactly that name; any other row must give a reason.

use std::{collections::BTreeSet, path::Path};

use crate::deploy::{find_files, read, workspace};

const PAGE: &str = "docs/nodes.md";
const CASES: usize = 39;
const STATES: [&str; 3] = ["tried", "believed", "not yet right"];

/// Kinds that need machines which this project does not have.
const OUT_OF_REACH: [&str; 4] = ["SELinux", "OpenShift", "RHEL", "Bottlerocket"];

/// All faults of the page's rows.
fn faults(page: &str, has_test: impl Fn(&str) -> bool) -> Vec<String> {
    let (mut faults, mut cases) = (Vec::new(), BTreeSet::new());
    for line in page.lines().filter(|line| line.starts_with("| F")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [case, node, does, state, known] = cells[..] else {
            faults.push(format!("not five cells: {line:.60}"));
            continue;
        };
        if !cases.insert(case.to_owned()) {
            faults.push(format!("{case} is there twice"));
        }
        if !STATES.contains(&state) {
            faults.push(format!("{case}: `{state}` is not a state"));
        }
        for (name, text) in [("node", node), ("tracer", does), ("reason", known)] {
            // A sentence has at least three words and a full stop; names of tests are none.
            let is_said = text.split(' ').count() >= 3 && text.ends_with('.');
            if !is_said && (name != "reason" || state != "tried") {
                faults.push(format!("{case}: the {name} is not a sentence: {text}"));
            }
        }
        let tests: Vec<_> = line.split('`').filter(|name| is_name_of_test(name)).collect();
        if state == "tried" && tests.is_empty() {
            faults.push(format!("{case} is tried, and names no test"));
        }
        let gone = tests.iter().filter(|test| !has_test(test));
        faults.extend(gone.map(|test| format!("{case}: there is no test `{test}`")));
    }
    let wanted: BTreeSet<_> = (1..=CASES).map(|case| format!("F{case}")).collect();
    faults.extend(wanted.difference(&cases).map(|case| format!("{case} has no row")));
    faults.extend(cases.difference(&wanted).map(|case| format!("{case} is not a known case")));
    faults
}

/// Whether this is a path of modules whose last part is a test's name.
fn is_name_of_test(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut parts = text.split("::");
    text.contains("::") && parts.all(|part| !part.is_empty() && part.chars().all(is_word))
}

/// The modules of a source file, as in the names of tests: except in this crate, they begin
/// with the crate.
fn modules(file: &str) -> Option<Vec<String>> {
    let (krate, inside) = file.strip_suffix(".rs")?.split_once("/src/")?;
    let krate = match krate.strip_prefix("crates/") {
        Some(name) => Some(format!("tracer_{name}").replace('-', "_")),
        None if krate == "tests" => None,
        None => Some(krate.replace('-', "_")),
    };
    let parts = inside.split('/').filter(|part| !["mod", "lib", "main"].contains(part));
    Some(krate.into_iter().chain(parts.map(str::to_owned)).collect())
}

/// Whether a file with these modules and this text has the test.
fn holds(modules: &[String], text: &str, test: &str) -> bool {
    let parts: Vec<_> = test.split("::").collect();
    let Some((name, path)) = parts.split_last() else { return false };
    let is_below = path.len() >= modules.len() && path.iter().zip(modules).all(|(a, b)| a == b);
    let inline = path.get(modules.len()..).unwrap_or_default();
    is_below
        && inline.iter().all(|module| text.contains(&format!("mod {module} {{")))
        && text.split("#[test]").skip(1).any(|after| {
            // Other attributes may stand between.
            let function = after.split_once("fn ").map(|(_, function)| function);
            let rest = function.and_then(|function| function.strip_prefix(name));
            rest.is_some_and(|rest| rest.starts_with('('))
        })
}

#[test]
fn every_case_has_a_row_and_every_test_that_a_row_names_is_there() {
    let sources: Vec<_> = ["crates", "tests", "tracer", "tracer-ebpf", "xtask"]
        .iter()
        .flat_map(|folder| find_files(folder, &[".rs"]))
        .filter_map(|file| {
            let path = file.strip_prefix(workspace()).unwrap().to_str()?.to_owned();
            Some((modules(&path)?, read(Path::new(&path))))
        })
        .collect();
    let has = |test: &str| sources.iter().any(|(modules, text)| holds(modules, text, test));
    let page = read(PAGE);
    assert_eq!(faults(&page, has), [""; 0], "in {PAGE}");
    for kind in OUT_OF_REACH {
        let says = |line: &str| line.contains(kind) && line.contains("this project");
        assert!(page.lines().any(says), "{PAGE} does not say that {kind} is out of reach");
    }
}

#[test]
fn a_row_that_is_missing_wrong_or_names_no_test_is_found() {
    let row =
        |case: usize, rest: &str| format!("| F{case} | A kind of node. | It does this. {rest}\n");
    let good = "| tried | `guest::known::a_test` |";
    let check = |second: &str, expected: &[&str]| {
        let page: String =
            (1..=CASES).map(|case| row(case, if case == 2 { second } else { good })).collect();
        assert_eq!(faults(&page, |test| test == "guest::known::a_test"), expected, "{second}");
    };
    check(good, &[]);
    check("| believed | There is no such machine. |", &[]);
    check("| believed | `doctor` |", &["F2: the reason is not a sentence: `doctor`"]);
    check("| tried | By hand. |", &["F2 is tried, and names no test"]);
    check("| tried | `guest::gone::a_test` |", &["F2: there is no test `guest::gone::a_test`"]);
    check("| done | Somebody said that it is. |", &["F2: `done` is not a state"]);
    check(
        "| tried |",
        &["not five cells: | F2 | A kind of node. | It does this. | tried |", "F2 has no row"],
    );
    let twice = row(1, good).repeat(2);
    assert!(faults(&twice, |_| true).contains(&"F1 is there twice".to_owned()));
    assert!(faults(&row(40, good), |_| true).contains(&"F40 is not a known case".to_owned()));
}

#[test]
fn a_test_is_known_by_its_modules_its_attribute_and_its_whole_name() {
    let text = "#[test]\nfn a_disk() {}\nmod tests {\n#[test]\n#[ignore]\nfn inside() {}\n}\nfn helper() {}";
    let check = |file: &str, test: &str| holds(&modules(file).unwrap(), text, test);
    assert!(check("tests/src/guest/stacks.rs", "guest::stacks::a_disk"));
    assert!(check("tests/src/deploy/mod.rs", "deploy::a_disk"));
    assert!(check("crates/disk-model/src/lib.rs", "tracer_disk_model::a_disk"));
    assert!(check("crates/kernel/src/loader.rs", "tracer_kernel::loader::tests::inside"));
    assert!(check("tracer/src/agent/http.rs", "tracer::agent::http::tests::inside"));
    for gone in [
        "guest::a_disk",
        "guest::stacks::a_dis",
        "guest::stacks::helper",
        "guest::stacks::other::a_disk",
    ] {
        assert!(!check("tests/src/guest/stacks.rs", gone), "{gone}");
    }
}
