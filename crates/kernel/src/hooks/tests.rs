use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::{capability::Capability, program::Program};

const KERNEL: &str = "tracer-ebpf/src/hooks";
const USER: &str = "crates/kernel/src/hooks";

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(in_repository(path)).expect(path)
}

/// The name of a capability's folder on both sides.
fn folder(capability: Capability) -> String {
    format!("{capability:?}").to_lowercase()
}

fn folders_in(path: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(in_repository(path)).expect(path).map(Result::unwrap);
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn both_sides_have_a_folder_for_each_capability_and_no_other() {
    let capabilities: BTreeSet<_> = Capability::ALL.map(folder).into();
    for side in [KERNEL, USER] {
        assert_eq!(folders_in(side), capabilities, "{side}");
        let list = read(&format!("{side}/mod.rs"));
        for name in &capabilities {
            assert!(list.contains(&format!("mod {name};")), "{side}/mod.rs does not name {name}");
        }
    }
}

#[test]
fn the_programs_of_a_hook_lie_in_its_folder() {
    for capability in Capability::ALL {
        let text = read(&format!("{KERNEL}/{}/mod.rs", folder(capability)));
        let words: BTreeSet<_> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for step in capability.strategies().iter().flat_map(|strategy| strategy.steps) {
            let name = step.program.name();
            assert!(words.contains(name), "`{name}` is not in the folder of {capability:?}");
        }
    }
}

#[test]
fn only_the_programs_of_the_floor_belong_to_no_hook() {
    let is_in_a_hook = |program| Capability::ALL.iter().any(|c| c.hook().has(program));
    let others: Vec<_> =
        Program::ALL.iter().copied().filter(|program| !is_in_a_hook(*program)).collect();
    let is_of_the_floor = |program: &Program| {
        program.name().starts_with("empty_") || program.name().starts_with("clock_")
    };
    assert!(others.iter().all(is_of_the_floor), "{others:?}");
}

#[test]
fn every_path_that_the_guide_names_is_there() {
    let guide = read("docs/adding-a-hook.md");
    let quoted = guide.split('`').skip(1).step_by(2);
    let is_path = |text: &&str| {
        !text.contains(char::is_whitespace) && (text.contains('/') || text.ends_with(".md"))
    };
    let paths: BTreeSet<_> = quoted.filter(is_path).collect();
    assert!(paths.len() >= 20, "the guide names {paths:?}");
    for path in paths {
        assert!(in_repository(path).exists(), "there is no `{path}`");
    }
}
