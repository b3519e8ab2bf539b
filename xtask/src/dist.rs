//! Makes a release: everything that people install, in one directory, with digests.
//!
//! The writers are in `tracer-dist`; this builds the programs, has them print their
//! manual and completions, and asks cargo and git for the rest. With the same commit,
//! compiler and source directory, each file comes out the same.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;
use tracer_dist::{
    Machine, NAME, Release,
    archive::{gzip, tar},
    deb, elf, image, krew,
    layout::{self, Family, Parts},
    notices, rpm, sbom, sums,
};
use tracer_step::{self as step, cargo, workspace};
use tracer_vm::arch::Arch;

use crate::{
    build,
    setup::{self, Need, Talk},
};

const MACHINES: [Arch; 2] = [Arch::X86, Arch::Arm];

#[derive(Args)]
pub struct DistArgs {
    /// Make the release for this architecture only [default: both].
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Write the files to this directory.
    #[arg(short, long, value_name = "DIR", default_value = "target/dist")]
    output: PathBuf,
    /// Name this person as the maintainer of the packages.
    #[arg(
        long,
        value_name = "NAME <ADDRESS>",
        env = "TRACER_MAINTAINER",
        default_value = "whoever built it <root@localhost>"
    )]
    maintainer: String,
    /// Refer to this address in krew's manifest: the archives will be published there.
    #[arg(long, value_name = "URL", env = "TRACER_DOWNLOAD", default_value = krew::NO_FOLDER)]
    download: String,
}

pub fn run(args: &DistArgs) -> Result<()> {
    setup::ensure(&[Need::Build], Talk::Changes)?;
    let machines = args.arch.map_or(MACHINES.to_vec(), |arch| vec![arch]);
    let release = release(&metadata(Arch::host())?, &args.maintainer)?;
    let programs = machines
        .iter()
        .map(|arch| build::build_static_tracer(*arch))
        .collect::<Result<Vec<_>>>()?;
    let shared = step::timed("manual and completions", shared)?;
    let mut files = Vec::new();
    let mut roots = Vec::new();
    for (arch, program) in machines.iter().zip(&programs) {
        let read = |path: &Path| {
            fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))
        };
        let machine = match arch {
            Arch::X86 => Machine::X86,
            Arch::Arm => Machine::Arm,
        };
        let demo = read(&program.with_file_name("tracer-demo"))?;
        let linked = sbom::linked(&metadata(*arch)?)?;
        let mut parts = Parts { tracer: read(program)?, demo, ..shared.clone() };
        parts.licences.push(("THIRD-PARTY".to_owned(), terms(&linked)?.into_bytes()));
        for (name, program) in [(NAME, &parts.tracer), ("tracer-demo", &parts.demo)] {
            elf::check(program, machine).with_context(|| format!("cannot pack `{name}`"))?;
        }
        let made = format!("packages ({})", machine.linux());
        files.extend(step::timed(&made, || packages(&release, machine, &parts))?);
        let bill = bill(&release, machine, &linked)?;
        files.push((sbom::file_name(&release, machine), bill.into_bytes()));
        roots.push((machine, layout::image(&parts)));
    }
    let archives: Vec<_> = roots
        .iter()
        .filter_map(|(machine, _)| {
            let name = krew::archive_name(&release, *machine);
            let archive = files.iter().find(|(file, _)| *file == name);
            archive.map(|(_, bytes)| (*machine, bytes.as_slice()))
        })
        .collect();
    let manifest = krew::write(&release, &args.download, &archives);
    files.push((krew::FILE.to_owned(), manifest.into_bytes()));
    let image = step::timed("image", || image::write(&release, &roots))?;
    files.push((image::file_name(&release), image.archive));
    files.push((sums::FILE.to_owned(), sums::list(&files).into_bytes()));
    for path in write_all(&workspace().join(&args.output), &files)? {
        println!("{}", path.display());
    }
    eprintln!("image {}: {}", image::name(&release), image.digest);
    Ok(())
}

/// The packages and the archive of a machine, by name.
fn packages(release: &Release, machine: Machine, parts: &Parts) -> Result<Vec<(String, Vec<u8>)>> {
    let portable = layout::portable(parts, release, machine.linux());
    let name = krew::archive_name(release, machine);
    let debian = layout::installed(parts, Family::Debian)?;
    let fedora = layout::installed(parts, Family::Fedora)?;
    Ok(vec![
        (name, gzip(&tar(&portable, release.epoch)?)?),
        (deb::file_name(release, machine), deb::write(release, machine, &debian)?),
        (rpm::file_name(release, machine), rpm::write(release, machine, &fedora)?),
    ])
}

/// Writes the files, in the place of those of an earlier release.
fn write_all(folder: &Path, files: &[(String, Vec<u8>)]) -> Result<Vec<PathBuf>> {
    let cannot = || format!("failed to write to `{}`", folder.display());
    fs::create_dir_all(folder).with_context(cannot)?;
    let earlier = fs::read_to_string(folder.join(sums::FILE)).unwrap_or_default();
    for name in sums::names(&earlier).filter(|name| !name.contains('/')) {
        // A file that is gone already is fine.
        let _ = fs::remove_file(folder.join(name));
    }
    let write = |(name, content): &(String, Vec<u8>)| {
        let path = folder.join(name);
        fs::write(&path, content).with_context(cannot)?;
        Ok(path)
    };
    files.iter().map(write).collect()
}

/// All that cargo knows of the packages, as they are built for this architecture.
fn metadata(arch: Arch) -> Result<Value> {
    let mut command = cargo("metadata");
    command.args(["--format-version=1", "--locked", "--filter-platform"]);
    command.arg(arch.static_target());
    let text = step::read_output(&mut command).context("`cargo metadata` failed")?;
    serde_json::from_str(&text).context("`cargo metadata` printed no JSON")
}

/// The version, summary and terms are those of the package `tracer`.
fn release(metadata: &Value, maintainer: &str) -> Result<Release> {
    let packages = metadata["packages"].as_array().context("cargo knows no packages")?;
    let is_tracer = |one: &&Value| one["name"] == NAME && one["source"].is_null();
    let tracer = packages.iter().find(is_tracer).context("cargo knows no `tracer`")?;
    let text = |field: &str| {
        let text = tracer[field].as_str().map(str::to_owned);
        text.with_context(|| format!("the package `tracer` has no {field}"))
    };
    Ok(Release {
        version: text("version")?,
        summary: text("description")?.trim_end_matches('.').to_owned(),
        licence: text("license")?,
        maintainer: maintainer.to_owned(),
        epoch: epoch(env::var("SOURCE_DATE_EPOCH").ok().as_deref(), commit_time().as_deref())?,
    })
}

fn commit_time() -> Option<String> {
    let mut git = Command::new("git");
    step::read_output(git.args(["log", "-1", "--format=%ct"]).current_dir(workspace()))
}

/// The moment of the release: what the environment says, else that of the commit.
fn epoch(environment: Option<&str>, commit: Option<&str>) -> Result<u32> {
    let Some(text) = environment.or(commit) else {
        bail!("no git here says when this commit was made: set SOURCE_DATE_EPOCH");
    };
    text.parse().with_context(|| format!("SOURCE_DATE_EPOCH is no number of seconds: `{text}`"))
}

/// The parts that are alike for each machine.
fn shared() -> Result<Parts> {
    // It prints the same on each machine, and this one can run it.
    let tracer = build::build_static_tracer(Arch::host())?;
    let print = |args: &[&str]| {
        let output = Command::new(&tracer).args(args).output();
        let output = output.with_context(|| format!("failed to run `{}`", tracer.display()))?;
        if !output.status.success() {
            bail!("`tracer {}` ended with {}", args.join(" "), output.status);
        }
        Ok(output.stdout)
    };
    let manual = print(&["man"])?;
    let mut pages = Vec::new();
    for command in commands(&String::from_utf8_lossy(&manual)) {
        pages.push((format!("{NAME}-{command}.1"), print(&["man", &command])?));
    }
    pages.push((format!("{NAME}.1"), manual));
    let read = |path: &str| {
        fs::read(workspace().join(path)).with_context(|| format!("failed to read `{path}`"))
    };
    let text = |path: &str| String::from_utf8(read(path)?).context("a file in deploy is no text");
    let mut licences = Vec::new();
    for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
        licences.push((name.to_owned(), read(name)?));
    }
    Ok(Parts {
        pages,
        bash: print(&["completions", "bash"])?,
        zsh: print(&["completions", "zsh"])?,
        fish: print(&["completions", "fish"])?,
        unit: text("deploy/systemd/tracer.service")?,
        seccomp: text("deploy/seccomp/tracer.json")?,
        licences,
        ..Parts::default()
    })
}

/// The commands that the manual refers to: `tracer\-top(1)`.
fn commands(manual: &str) -> Vec<String> {
    let begin = format!("{NAME}\\-");
    let pages = manual.split(&begin).skip(1);
    let mut found: Vec<_> = pages
        .filter_map(|rest| rest.split_once("(1)"))
        .map(|(name, _)| name.replace("\\-", "-"))
        .filter(|name| name != "help" && name.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The terms of all libraries, from the sources that cargo has fetched.
fn terms(packages: &[sbom::Package]) -> Result<String> {
    let mut libraries = Vec::new();
    for package in packages.iter().filter(|package| !package.is_ours) {
        let cannot = || format!("failed to read the folder `{}`", package.folder);
        let mut names = Vec::new();
        for entry in fs::read_dir(&package.folder).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if notices::is_terms(&name) && entry.path().is_file() {
                names.push(entry.path());
            }
        }
        names.sort();
        let read = |path: &PathBuf| {
            let bytes =
                fs::read(path).with_context(|| format!("failed to read `{}`", path.display()));
            bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        libraries.push((package.clone(), names.iter().map(read).collect::<Result<_>>()?));
    }
    Ok(notices::write(&libraries))
}

/// The software bill of materials of one machine's programs.
fn bill(release: &Release, machine: Machine, linked: &[sbom::Package]) -> Result<String> {
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).context("no Cargo.lock")?;
    let mut rustc = Command::new("rustc");
    let version = step::read_output(rustc.arg("--version").current_dir(workspace()));
    let version = version.context("failed to run `rustc --version`")?;
    let number = version.split(' ').nth(1).context("rustc says no version")?;
    Ok(sbom::write(release, machine, number, linked, &sbom::checksums(&lock)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides_when_a_release_was_made() {
        assert_eq!(epoch(Some("7"), Some("8")).unwrap(), 7);
        assert_eq!(epoch(None, Some("8")).unwrap(), 8);
        assert!(epoch(None, None).unwrap_err().to_string().contains("SOURCE_DATE_EPOCH"));
        assert!(epoch(Some("yesterday"), Some("8")).is_err());
    }

    #[test]
    fn the_manual_names_the_commands_that_have_pages() {
        let manual = "tracer\\-top(1)\nShow\n.TP\ntracer\\-why(1)\ntracer\\-help(1)\ntracer\\-top(1)\n\
                      see tracer\\-demo\n";
        assert_eq!(commands(manual), ["top", "why"]);
    }

    /// One library is of x86-64 alone: a decoder of text asks it what the CPU can do.
    #[test]
    fn each_machines_bill_has_the_libraries_that_are_linked_there() {
        let names = |arch| {
            let linked = sbom::linked(&metadata(arch).unwrap()).unwrap();
            linked.into_iter().map(|package| package.name).collect::<Vec<_>>()
        };
        let [x86, arm] = MACHINES.map(names);
        let is_of_x86 = |name: &&String| !arm.contains(name);
        assert_eq!(x86.iter().filter(is_of_x86).collect::<Vec<_>>(), ["core_detect"]);
        assert!(arm.iter().all(|name| x86.contains(name)), "{arm:?}");
        assert!(arm.iter().any(|name| name == "rustls") && arm.len() > 100, "{arm:?}");
    }

    #[test]
    fn a_release_takes_the_place_of_the_one_before_and_of_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let write = |names: &[&str]| {
            let mut files: Vec<_> =
                names.iter().map(|name| ((*name).to_owned(), name.as_bytes().to_vec())).collect();
            files.push((sums::FILE.to_owned(), sums::list(&files).into_bytes()));
            write_all(folder.path(), &files).unwrap();
        };
        fs::write(folder.path().join("mine"), "").unwrap();
        write(&["old", "both"]);
        write(&["both", "new"]);
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["SHA256SUMS", "both", "mine", "new"]);
    }
}
