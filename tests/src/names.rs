//! Code refers to a capability or a program by its variant: its name is a string in its list
//! and nowhere else.

use std::path::{Path, PathBuf};

use tracer_kernel::{capability::Capability, program::Program};
use tracer_recording::line::{Sync, Underlying};

use crate::deploy::{find_files, read, workspace};

/// The files with the lists.
const LISTS: [&str; 2] = ["kernel/src/hooks/", "kernel/src/program.rs"];

/// Files with names of tracepoints, because they look up the kernel's types by these.
const OF_THE_KERNEL: [&str; 3] = ["kernel/src/offsets", "kernel/src/types/", "tracer-ebpf/"];

/// The names of capabilities that have no other meaning. The other names are also those of
/// phases, tools or lines of a recording, so they are searched for only in the crates that
/// deal with capabilities.
const UNMISTAKABLE: [Capability; 3] =
    [Capability::Submit, Capability::Contender, Capability::Writeback];
const ROOMS: [&str; 2] = ["/kernel/", "/session/"];

fn sources() -> Vec<PathBuf> {
    let entries = workspace().read_dir().unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let folders = folders.map(|folder| folder.file_name().into_string().unwrap());
    let own = folders.filter(|folder| !folder.starts_with('.') && folder != "target");
    let mut sources: Vec<_> = own.flat_map(|folder| find_files(&folder, &[".rs"])).collect();
    sources.retain(|path| !is_one_of(path, &LISTS) && !is_one_of(path, &OF_THE_KERNEL));
    sources
}

fn is_one_of(path: &Path, parts: &[&str]) -> bool {
    let path = path.strip_prefix(workspace()).unwrap().to_string_lossy();
    parts.iter().any(|part| path.contains(part))
}

/// Finds the lines in which one of these names is a string.
fn find(path: &Path, names: &[&str]) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().enumerate();
    let found =
        lines.filter(|(_, line)| names.iter().any(|name| line.contains(&format!("\"{name}\""))));
    found.map(|(at, line)| format!("{}:{}: {}", path.display(), at + 1, line.trim())).collect()
}

#[test]
fn names_of_capabilities_and_programs_are_strings_in_their_lists_alone() {
    let sources = sources();
    assert!(sources.len() > 200, "{} files", sources.len());
    let programs: Vec<_> = Program::ALL.iter().map(|program| program.name()).collect();
    let unmistakable = UNMISTAKABLE.map(Capability::name);
    let capabilities = Capability::ALL.map(Capability::name);
    let mut found = Vec::new();
    for path in &sources {
        found.extend(find(path, &programs));
        let rooms = is_one_of(path, &ROOMS);
        found.extend(find(path, if rooms { &capabilities } else { &unmistakable }));
    }
    assert!(found.is_empty(), "use the variant's name():\n{}", found.join("\n"));
}

#[test]
fn no_two_capabilities_and_no_two_programs_have_one_name() {
    let mut programs: Vec<_> = Program::ALL.iter().map(|program| program.name()).collect();
    let mut capabilities = Capability::ALL.map(Capability::name);
    programs.sort_unstable();
    capabilities.sort_unstable();
    assert!(programs.windows(2).all(|pair| pair[0] != pair[1]), "{programs:?}");
    assert!(capabilities.windows(2).all(|pair| pair[0] != pair[1]), "{capabilities:?}");
}

#[test]
fn the_page_of_recordings_has_every_field_of_a_sync() {
    let page = read("docs/recording.md");
    let (_, section) = page.split_once("`sync`: one sync, written when it ended.").unwrap();
    let (table, _) = section.split_once("`disk`: what changed").unwrap();
    let sync = Sync { underlying: vec![Underlying::default()], ..Sync::default() };
    let sync = serde_json::to_value(sync).unwrap();
    let fields = sync.as_object().unwrap().keys();
    let missing: Vec<_> = fields.filter(|name| !table.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
