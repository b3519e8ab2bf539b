//! Checks the files in `deploy` without a cluster, a Prometheus or a Grafana.
//!
//! Everything there is data that nothing compiles: nobody notices a misspelled field,
//! metric or label until it is needed. So manifests must have only fields that their
//! types know, queries may use only metrics that `docs/metrics.md` lists, and each alert
//! has a section in `docs/alerts.md`. If promtool, kubectl or systemd are installed,
//! they check the files too.

mod applied;
mod chart;
mod clusters;
mod collector;
pub mod dashboards;
mod fleet;
mod kinds;
mod labels;
mod manifests;
pub use manifests::find_unknown;
mod oldest;
mod packages;
pub mod queries;
pub mod rules;
mod scraped;
mod seccomp;
mod service;
mod values;
mod version;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tracer_dist::Release;

/// The directory of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace")
}

pub fn read(file: impl AsRef<Path>) -> String {
    let file = workspace().join(file);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("cannot read {file:?}: {error}"))
}

/// All files below `folder` whose names end with one of `endings`, in order.
fn files_below(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let found = find_files(folder, endings);
    assert!(!found.is_empty(), "nothing in {folder}");
    found
}

/// Like [`files_below`], but there may be none.
pub fn find_files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut folders = vec![workspace().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if endings.iter().any(|ending| entry.to_string_lossy().ends_with(ending)) {
                found.push(entry);
            }
        }
    }
    found.sort();
    found
}

/// The documents of a YAML file.
fn parse_yaml(file: &Path, text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{file:?}: {error}"))
}

fn read_yaml(file: &Path) -> Value {
    let documents = parse_yaml(file, &read(file));
    let [document] =
        documents.try_into().unwrap_or_else(|_| panic!("{file:?} has not exactly one document"));
    document
}

/// Finds a program that need not be installed: in `.tools`, or else on the search path.
pub fn find_program(name: &str) -> Option<Command> {
    let ours = workspace().join(".tools/bin").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(ours)
        .chain(std::env::split_paths(&path).map(|folder| folder.join(name)))
        .find(|file| file.is_file())
        .map(Command::new)
}

/// Runs a program, which must succeed, and returns its output.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let (out, err) = (&output.stdout, &output.stderr);
    let (out, err) = (String::from_utf8_lossy(out), String::from_utf8_lossy(err));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// A release of this version, on the first day of 2026.
pub fn release() -> Release {
    Release {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        summary: "Names who makes this fsync slow".to_owned(),
        licence: "MIT OR Apache-2.0".to_owned(),
        maintainer: "Nobody <nobody@example.org>".to_owned(),
        epoch: 1_767_225_600,
    }
}

#[test]
fn every_yaml_file_parses() {
    let is_template =
        |file: &PathBuf| file.components().any(|part| part.as_os_str() == "templates");
    for file in files_below("deploy", &[".yaml", ".yml"]).into_iter().filter(|f| !is_template(f)) {
        assert!(!parse_yaml(&file, &read(&file)).is_empty(), "{file:?} is empty");
    }
}
