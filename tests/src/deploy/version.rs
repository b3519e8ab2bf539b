//! The version is defined in one place, `Cargo.toml`; every file that names an image names
//! that version of it.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;
use tracer_dist::{
    Machine, deb, image, krew,
    layout::{self, Parts},
    rpm,
};

use super::{files_below, read, read_yaml, release, run, workspace};
use crate::subject::tracer_bin;

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

/// The versions that a program, a chart, an image and packages show.
#[test]
fn all_that_people_install_is_of_the_version_that_the_program_prints() {
    let printed = run(Command::new(tracer_bin()).arg("--version"));
    assert_eq!(printed, format!("tracer {VERSION}\n"));
    let chart = read_yaml(&workspace().join("deploy/helm/tracer/Chart.yaml"));
    assert_eq!([&chart["version"], &chart["appVersion"]], [VERSION; 2]);
    let release = release();
    let machine = Machine::X86;
    assert_eq!(image::name(&release), format!("tracer:{VERSION}"));
    assert_eq!(deb::file_name(&release, machine), format!("tracer_{VERSION}_amd64.deb"));
    assert_eq!(rpm::file_name(&release, machine), format!("tracer-{VERSION}-1.x86_64.rpm"));
}

/// The fields that krew accepts in a manifest.
#[test]
fn krews_manifest_is_of_this_version_and_finds_the_program_in_the_archives() {
    let release = release();
    let parts =
        Parts { licences: vec![("LICENSE-MIT".to_owned(), Vec::new())], ..Parts::default() };
    let archives = [(Machine::X86, &b"abc"[..]), (Machine::Arm, b"def")];
    let text = krew::write(&release, krew::NO_FOLDER, &archives);
    let manifest: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(manifest["apiVersion"], "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!(
        (&manifest["kind"], &manifest["metadata"]["name"]),
        (&"Plugin".into(), &"tracer".into())
    );
    let spec = manifest["spec"].as_object().unwrap();
    let fields: Vec<_> = spec.keys().map(String::as_str).collect();
    let known = ["caveats", "description", "platforms", "shortDescription", "version"];
    assert_eq!(fields.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from(known));
    assert_eq!(spec["version"], format!("v{VERSION}"));
    // The index of krew's plugins shows it in one column.
    assert!(spec["shortDescription"].as_str().unwrap().len() <= 50);
    let platforms = spec["platforms"].as_array().unwrap();
    assert_eq!(platforms.len(), archives.len());
    for (platform, (machine, _)) in platforms.iter().zip(archives) {
        assert_eq!(platform["selector"]["matchLabels"]["os"], "linux");
        assert_eq!(platform["selector"]["matchLabels"]["arch"], machine.debian());
        let archive = platform["uri"].as_str().unwrap().rsplit('/').next().unwrap();
        assert_eq!(archive, format!("tracer-{VERSION}-{}-linux.tar.gz", machine.linux()));
        assert_eq!(platform["sha256"].as_str().unwrap().len(), 64);
        let inside = layout::portable(&parts, &release, machine.linux());
        for file in platform["files"].as_array().unwrap() {
            let from = file["from"].as_str().unwrap();
            let begin = from.trim_end_matches('*');
            let is_there = inside.iter().any(|file| match begin.len() == from.len() {
                true => file.path == from,
                false => file.path.starts_with(begin),
            });
            assert!(is_there, "{from} is not in the archive");
        }
        let program = platform["files"][0]["from"].as_str().unwrap();
        assert_eq!(program.rsplit('/').next(), platform["bin"].as_str());
    }
}
