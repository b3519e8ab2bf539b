//! Checks what each part of the tracer must not know, in the crate graph and in the
//! sources.
//!
//! ARCHITECTURE.md lists them under "What each part must not know"; each is here with
//! its reason, and the gate fails if one does not hold. A crate cannot use a crate
//! that is not among its dependencies. Within a crate the sources are searched, except
//! for comments and tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::words::find_sources;
use tracer_step::{cargo, workspace};

/// A crate of this workspace, the crates that it must not depend on, directly or
/// indirectly, and the reason.
struct Wall {
    of: &'static str,
    lacks: &'static [&'static str],
    why: &'static str,
}

/// Crates that reach the machine: its kernel, its clocks and files, the network.
const MACHINE: [&str; 6] = ["aya", "aya-obj", "libc", "nix", "tokio", "ureq"];

const WALLS: &[Wall] = &[
    Wall { of: "tracer-ebpf", lacks: &MACHINE, why: "the contract is plain data" },
    Wall { of: "tracer-engine", lacks: &MACHINE, why: "a verdict follows from records alone" },
    Wall {
        of: "tracer-engine",
        lacks: &["tracer-snapshot", "tracer-node", "serde_json"],
        why: "the engine does not know how it is shown, nor who anybody is",
    },
    Wall { of: "tracer-snapshot", lacks: &MACHINE, why: "outputs see values" },
    Wall { of: "tracer-disk-model", lacks: &MACHINE, why: "the model is arithmetic" },
    Wall {
        of: "tracer-timelines",
        lacks: &["aya", "aya-obj", "libc", "nix", "tokio", "ureq", "tracer-engine"],
        why: "the truth about a timeline follows from what was changed, and from no verdict",
    },
    Wall {
        of: "tracer-node",
        lacks: &["aya", "aya-obj", "tokio", "ureq"],
        why: "names come from /proc and /sys: no kernel program, runtime or other daemon is asked",
    },
    Wall {
        of: "tracer-kernel",
        lacks: &[
            "tokio",
            "ureq",
            "hyper",
            "clap",
            "tracer-scene",
            "tracer-recording",
            "tracer-lab",
        ],
        why: "the session lies above it: it does not know who shows its data",
    },
    Wall {
        of: "tracer-scene",
        lacks: &["aya", "aya-obj", "nix", "tokio", "tracer-node"],
        why: "a replay fills it as well as a session: it asks the machine for nothing",
    },
    Wall {
        of: "tracer-recording",
        lacks: &["aya", "aya-obj", "nix", "tokio", "tracer-node"],
        why: "a recording is read where nothing can be traced",
    },
    Wall {
        of: "tracer-state",
        lacks: &["aya", "tokio", "tracer-kernel", "tracer-scene", "tracer-recording"],
        why: "the kept state is a file of values: it does not know who learnt them or who uses them",
    },
    Wall {
        of: "tracer-lab",
        lacks: &["aya", "tokio", "tracer", "tracer-scene"],
        why: "the lab makes things happen, and its account of them is compared with the tracer's",
    },
    Wall {
        of: "tracer-vm",
        lacks: &["aya", "tokio", "ureq", "tracer", "tracer-lab"],
        why: "a guest gets finished files: it does not know how they are built or what they do",
    },
    Wall {
        of: "tracer",
        lacks: &["tracer-lab", "ureq", "hdrhistogram"],
        why: "what watches a node can make no filesystem and stop no process",
    },
];

/// Text that reads the kernel's version.
const VERSIONS: [&str; 3] = ["osrelease", "uname()", "/proc/version"];
const ASKED: &str = "only `crates/kernel` asks about the kernel, and asks for features: a version is \
                     only shown to people";

/// Text that may not stand in files below `within`, except in those of `except`.
struct Absence {
    within: &'static str,
    except: &'static [&'static str],
    lacks: &'static [&'static str],
    why: &'static str,
}

const ABSENCES: &[Absence] = &[
    Absence {
        within: "tracer/src/output",
        except: &[],
        lacks: &["crate::session", "tracer_kernel", "tracer_engine", "tracer_node", "tracer_scene"],
        why: "outputs know only the snapshot",
    },
    Absence {
        within: "tracer/src/session",
        except: &[],
        lacks: &["tokio", "crate::output", "crate::agent", "crate::commands"],
        why: "a session knows no async runtime and no output",
    },
    Absence {
        within: "crates/kernel/src",
        except: &[],
        lacks: &["tracer_snapshot"],
        why: "what is shown is made from the scene, not by `crates/kernel`",
    },
    Absence {
        within: "tracer/src",
        except: &[],
        lacks: &["aya::", "aya_obj::"],
        why: "maps and programs are handled in the kernel crate alone",
    },
    Absence {
        within: "tracer/src",
        except: &[
            "tracer/src/commands/mod.rs",
            "tracer/src/session/aside.rs",
            "tracer/src/session/loader.rs",
        ],
        lacks: &["unsafe {", "unsafe impl", "unsafe fn"],
        why: "unsafe code is confined to a few files, each with its reason",
    },
    Absence {
        within: "crates",
        except: &[
            "crates/bench/src/allocations.rs",
            "crates/bench/src/paired/load.rs",
            "crates/kernel/build.rs",
            "crates/kernel/src/bpf.rs",
            "crates/kernel/src/kernel_btf.rs",
            "crates/kernel/src/loader.rs",
            "crates/kernel/src/maps/pods.rs",
            "crates/kernel/src/maps/ring.rs",
            "crates/kernel/src/maps/tables.rs",
            "crates/lab/src/process.rs",
            "crates/node/src/disks/carrying.rs",
            "crates/vm/src/boot.rs",
        ],
        lacks: &["unsafe {", "unsafe impl", "unsafe fn"],
        why: "unsafe code is confined to a few files, each with its reason",
    },
    Absence {
        within: "tracer-ebpf/src",
        except: &[
            "tracer-ebpf/src/cell.rs",
            "tracer-ebpf/src/clock.rs",
            "tracer-ebpf/src/fields.rs",
            "tracer-ebpf/src/fields/task.rs",
            "tracer-ebpf/src/maps.rs",
        ],
        lacks: &["unsafe {", "unsafe impl", "unsafe fn", "&'static mut"],
        why: "memory that other CPUs change is accessed through cells",
    },
    Absence {
        within: "tracer-ebpf/src",
        except: &[],
        lacks: &["crate::hooks", "hooks::"],
        why: "no state knows a hook, and no hook knows another hook",
    },
    Absence { within: "tracer/src", except: &[], lacks: &VERSIONS, why: ASKED },
    Absence {
        within: "crates",
        except: &["crates/kernel/src/facts.rs"],
        lacks: &VERSIONS,
        why: ASKED,
    },
    Absence {
        within: "xtask/src",
        except: &["xtask/src/check/walls.rs"],
        lacks: &VERSIONS,
        why: ASKED,
    },
    Absence {
        within: "tracer/src/agent/http.rs",
        except: &[],
        lacks: &["crate::session", "tracer_kernel", "tracer_node"],
        why: "the agent's HTTP thread reads finished snapshots and knows no session",
    },
    Absence {
        within: "tracer/src/agent/http",
        except: &[],
        lacks: &["crate::session", "tracer_kernel", "tracer_node", "tracer_recording"],
        why: "what is answered is known by finished snapshots, or by a process beside the agent",
    },
    Absence {
        within: "tracer/src/agent/web",
        except: &[],
        lacks: &["crate::session", "super::shared", "agent::shared", "tracer_snapshot"],
        why: "whether a request is allowed is decided without knowing what it asks for",
    },
];

/// # Errors
///
/// A wall or an absence does not hold, or cargo gave no answer.
pub fn check() -> Result<()> {
    let graph = Graph::read()?;
    let mut broken = Vec::new();
    for Wall { of, lacks, why } in WALLS {
        let reached = graph.reach(of)?;
        let known = lacks.iter().filter(|name| reached.contains(**name));
        broken.extend(known.map(|name| format!("`{of}` depends on `{name}`, but {why}")));
    }
    for absence in ABSENCES {
        broken.extend(absence.find_broken(workspace())?);
    }
    eprintln!("{} walls and {} absences", WALLS.len(), ABSENCES.len());
    if !broken.is_empty() {
        bail!("{}", broken.join("; "));
    }
    Ok(())
}

/// The normal dependencies of all packages, by name; those of tests, benches and
/// build scripts are not linked into anything.
struct Graph {
    depends: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn read() -> Result<Self> {
        let output = cargo("metadata")
            .args(["--format-version", "1", "--locked"])
            .output()
            .context("failed to run `cargo metadata`")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Self::parse(
            &serde_json::from_slice(&output.stdout).context("`cargo metadata` printed no JSON")?,
        )
    }

    /// `resolve.nodes[].deps[]` with their kinds; see `cargo help metadata`.
    fn parse(metadata: &Value) -> Result<Self> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let names: BTreeMap<_, _> = list(&metadata["packages"])
            .iter()
            .filter_map(|p| Some((p["id"].as_str()?.to_owned(), p["name"].as_str()?.to_owned())))
            .collect();
        let name = |id: &Value| id.as_str().and_then(|id| names.get(id)).cloned();
        let mut depends: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let of = name(&node["id"]).context("a package without a name")?;
            let normal = list(&node["deps"])
                .into_iter()
                .filter(|dep| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()));
            // Two versions of a package count as one.
            depends.entry(of).or_default().extend(normal.filter_map(|dep| name(&dep["pkg"])));
        }
        Ok(Self { depends })
    }

    /// All that a package depends on, directly or indirectly.
    fn reach(&self, of: &str) -> Result<BTreeSet<&str>> {
        let (of, _) = self.depends.get_key_value(of).with_context(|| format!("no crate `{of}`"))?;
        let mut reached = BTreeSet::new();
        let mut waiting = vec![of.as_str()];
        while let Some(next) = waiting.pop() {
            for name in self.depends.get(next).into_iter().flatten() {
                if reached.insert(name.as_str()) {
                    waiting.push(name);
                }
            }
        }
        Ok(reached)
    }
}

impl Absence {
    fn find_broken(&self, root: &Path) -> Result<Vec<String>> {
        let within = root.join(self.within);
        let files = if within.is_dir() { find_sources(&within)? } else { vec![within] };
        let mut broken = Vec::new();
        for file in files {
            let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            let is_test = shown.ends_with("tests.rs") || shown.contains("/tests/");
            if is_test || self.except.contains(&shown.as_str()) {
                continue;
            }
            let text =
                fs::read_to_string(&file).with_context(|| format!("failed to read `{shown}`"))?;
            let code = without_comments_and_tests(&text);
            let found = self.lacks.iter().filter(|lack| code.contains(**lack));
            broken.extend(found.map(|lack| format!("`{shown}` has `{lack}`, but {}", self.why)));
        }
        Ok(broken)
    }
}

fn without_comments_and_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn graph() -> Graph {
        let normal = json!([{ "kind": null }]);
        let dev = json!([{ "kind": "dev" }]);
        let metadata = json!({
            "packages": [
                { "id": "a 1", "name": "a" }, { "id": "b 1", "name": "b" },
                { "id": "b 2", "name": "b" }, { "id": "c 1", "name": "c" },
                { "id": "d 1", "name": "d" },
            ],
            "resolve": { "nodes": [
                { "id": "a 1", "deps": [
                    { "pkg": "b 1", "dep_kinds": normal }, { "pkg": "d 1", "dep_kinds": dev },
                ] },
                { "id": "b 1", "deps": [] },
                { "id": "b 2", "deps": [{ "pkg": "c 1", "dep_kinds": normal }] },
                { "id": "c 1", "deps": [] },
                { "id": "d 1", "deps": [] },
            ] },
        });
        Graph::parse(&metadata).unwrap()
    }

    #[test]
    fn indirect_dependencies_count_and_those_of_tests_do_not() {
        assert_eq!(graph().reach("a").unwrap(), BTreeSet::from(["b", "c"]));
        assert!(graph().reach("nobody").is_err());
    }

    #[test]
    fn text_in_comments_and_tests_breaks_no_absence() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text| fs::write(folder.path().join("x.rs"), text).unwrap();
        let absence = Absence { within: "", except: &[], lacks: &["secret"], why: "it is ours" };
        write("// secret\nfn f() {}\n#[cfg(test)]\nmod tests { use secret; }\n");
        assert_eq!(absence.find_broken(folder.path()).unwrap(), [""; 0]);
        write("use secret;\n");
        assert_eq!(
            absence.find_broken(folder.path()).unwrap(),
            ["`x.rs` has `secret`, but it is ours"]
        );
    }
}
