//! Writes the list of the programs' libraries, from `cargo metadata` and `Cargo.lock`, in the
//! format of CycloneDX 1.5. There is one for each machine, because libraries differ.
//!
//! Development and build dependencies are left out, because no program contains them. The
//! kernel programs are a root of their own, because a build script builds them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{Machine, NAME, Release, image::created};

/// The crates that a release consists of.
pub const ROOTS: [&str; 3] = ["tracer", "tracer-demo", "tracer-ebpf"];

/// A library, or one of the tracer's own crates.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub licence: Option<String>,
    /// The directory with its sources.
    pub folder: String,
    /// It comes from this workspace.
    pub is_ours: bool,
    /// The other packages that it needs, by their indices in the list.
    pub needs: Vec<usize>,
}

impl Package {
    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }
}

/// The packages that are linked into the programs, in order of name and version.
///
/// # Errors
///
/// The input is not the output of `cargo metadata`.
pub fn linked(metadata: &Value) -> Result<Vec<Package>> {
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|one| (text(&one["id"]), one)).collect();
    let edges: BTreeMap<String, Vec<String>> = list(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| {
            let deps = list(&node["deps"]).into_iter().filter(is_linked);
            (text(&node["id"]), deps.map(|dep| text(&dep["pkg"])).collect())
        })
        .collect();
    let is_root = |package: &Value| {
        package["source"].is_null() && ROOTS.contains(&package["name"].as_str().unwrap_or_default())
    };
    let roots = packages.iter().filter(|(_, one)| is_root(one));
    let mut left: Vec<String> = roots.map(|(id, _)| id.clone()).collect();
    anyhow::ensure!(left.len() == ROOTS.len(), "cargo knows only {left:?} of {ROOTS:?}");
    let mut found = BTreeSet::new();
    while let Some(id) = left.pop() {
        if found.insert(id.clone()) {
            left.extend(edges.get(&id).cloned().unwrap_or_default());
        }
    }
    let mut sorted: Vec<_> = found
        .into_iter()
        .map(|id| {
            let one = packages.get(&id).with_context(|| format!("cargo does not know `{id}`"))?;
            let manifest = text(&one["manifest_path"]);
            let folder = manifest.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
            let package = Package {
                name: text(&one["name"]),
                version: text(&one["version"]),
                licence: one["license"].as_str().map(|licence| licence.replace('/', " OR ")),
                folder,
                is_ours: one["source"].is_null(),
                needs: Vec::new(),
            };
            Ok((package, id))
        })
        .collect::<Result<_>>()?;
    sorted.sort();
    let places: BTreeMap<_, _> =
        sorted.iter().enumerate().map(|(place, (_, id))| (id.clone(), place)).collect();
    let needs = |id: &str| {
        let needed = edges.get(id).into_iter().flatten();
        let places: BTreeSet<_> = needed.filter_map(|id| places.get(id).copied()).collect();
        places.into_iter().collect()
    };
    Ok(sorted.into_iter().map(|(one, id)| Package { needs: needs(&id), ..one }).collect())
}

/// Whether a dependency is linked into the program, and not into a procedural macro or a build
/// script.
fn is_linked(dependency: &Value) -> bool {
    let kinds = dependency["dep_kinds"].as_array();
    kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
}

/// The digests of the packages' archives from `Cargo.lock`, by name and version.
///
/// # Errors
///
/// The input is not TOML.
pub fn checksums(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    let lock: toml::Table = lock.parse().context("failed to read `Cargo.lock`")?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let text = |one: &toml::Value, field: &str| Some(one.get(field)?.as_str()?.to_owned());
    let sums = packages.into_iter().flatten().filter_map(|one| {
        Some(((text(one, "name")?, text(one, "version")?), text(one, "checksum")?))
    });
    Ok(sums.collect())
}

/// `tracer-0.1.0-x86_64.cdx.json`
pub fn file_name(release: &Release, machine: Machine) -> String {
    format!("{NAME}-{}-{}.cdx.json", release.version, machine.linux())
}

/// The document. `compiler` is the version of Rust, whose standard library is linked
/// into everything.
pub fn write(
    release: &Release,
    machine: Machine,
    compiler: &str,
    packages: &[Package],
    checksums: &BTreeMap<(String, String), String>,
) -> String {
    let rust = format!("pkg:generic/rust-std@{compiler}");
    let component = |package: &Package| {
        let mut component = json!({
            "type": "library",
            "bom-ref": package.purl(),
            "name": package.name,
            "version": package.version,
            "purl": package.purl(),
        });
        if let Some(licence) = &package.licence {
            component["licenses"] = json!([{"expression": licence}]);
        }
        let key = (package.name.clone(), package.version.clone());
        if let Some(sum) = checksums.get(&key) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
        }
        component
    };
    let mut components: Vec<_> = packages.iter().map(component).collect();
    components.push(json!({
        "type": "library", "bom-ref": rust, "name": "rust-std", "version": compiler,
        "purl": rust, "licenses": [{"expression": "MIT OR Apache-2.0"}],
    }));
    let depends = |package: &Package| {
        let needed = package.needs.iter().filter_map(|place| packages.get(*place));
        json!({"ref": package.purl(), "dependsOn": needed.map(Package::purl).collect::<Vec<_>>()})
    };
    let mut dependencies: Vec<_> = packages.iter().map(depends).collect();
    let whole = format!("pkg:generic/{NAME}@{}", release.version);
    let roots = packages.iter().filter(|one| one.is_ours && ROOTS.contains(&one.name.as_str()));
    let mut roots: Vec<_> = roots.map(Package::purl).collect();
    roots.push(rust);
    dependencies.push(json!({"ref": whole, "dependsOn": roots}));
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": created(release),
            "component": {
                "type": "application", "bom-ref": whole, "name": NAME, "version": release.version,
                "description": release.summary, "licenses": [{"expression": release.licence}],
                "properties": [{"name": "architecture", "value": machine.linux()}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    format!("{document:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::release;

    fn package(name: &str, source: Option<&str>) -> Value {
        json!({
            "id": format!("{name}#1.0.0"), "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0",
            "source": source, "manifest_path": format!("/src/{name}/Cargo.toml"),
        })
    }

    fn needs(name: &str, others: &[(&str, Option<&str>)]) -> Value {
        let dep = |(other, kind): &(&str, Option<&str>)| json!({"pkg": format!("{other}#1.0.0"), "dep_kinds": [{"kind": kind}]});
        json!({"id": format!("{name}#1.0.0"), "deps": others.iter().map(dep).collect::<Vec<_>>()})
    }

    fn metadata() -> Value {
        let crates_io = Some("registry+https://github.com/rust-lang/crates.io-index");
        json!({
            "packages": [
                package("tracer", None), package("tracer-demo", None), package("tracer-ebpf", None),
                package("linked", crates_io), package("deeper", crates_io),
                package("tested-with", crates_io), package("built-with", crates_io),
                package("of-others", crates_io),
            ],
            "resolve": {"nodes": [
                needs("tracer", &[("linked", None), ("tested-with", Some("dev")), ("built-with", Some("build"))]),
                needs("linked", &[("deeper", None)]),
                needs("tested-with", &[("of-others", None)]),
            ]},
        })
    }

    #[test]
    fn what_is_linked_is_there_and_what_is_only_built_or_tested_with_is_not() {
        let packages = linked(&metadata()).unwrap();
        let names: Vec<_> = packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["deeper", "linked", "tracer", "tracer-demo", "tracer-ebpf"]);
        assert_eq!(packages[1].needs, [0]);
        assert_eq!(packages[2].needs, [1]);
        assert_eq!(packages[1].licence.as_deref(), Some("MIT OR Apache-2.0"));
        assert_eq!(packages[1].folder, "/src/linked");
        assert!(packages[2].is_ours && !packages[1].is_ours);
    }

    #[test]
    fn a_root_that_is_missing_is_an_error() {
        let mut metadata = metadata();
        metadata["packages"].as_array_mut().unwrap().remove(2);
        assert!(linked(&metadata).unwrap_err().to_string().contains("tracer-ebpf"));
        assert!(linked(&Value::Null).is_err());
    }

    #[test]
    fn the_document_has_a_digest_for_what_comes_from_a_registry() {
        let lock = "version = 4\n[[package]]\nname = \"linked\"\nversion = \"1.0.0\"\nchecksum = \"abc\"\n\
                    [[package]]\nname = \"tracer\"\nversion = \"1.0.0\"\n";
        let sums = checksums(lock).unwrap();
        let text = write(&release(), Machine::Arm, "1.95.0", &linked(&metadata()).unwrap(), &sums);
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["bomFormat"], "CycloneDX");
        assert_eq!(document["metadata"]["timestamp"], "2026-01-01T00:00:00Z");
        let program = &document["metadata"]["component"];
        assert_eq!(program["properties"][0]["value"], "aarch64");
        let components = document["components"].as_array().unwrap();
        let of = |name: &str| components.iter().find(|one| one["name"] == name).unwrap();
        assert_eq!(of("linked")["hashes"][0]["content"], "abc");
        assert_eq!(of("tracer")["hashes"], Value::Null);
        assert_eq!(of("rust-std")["version"], "1.95.0");
        // Each reference leads to a component.
        let known: Vec<_> = components.iter().map(|one| &one["bom-ref"]).collect();
        let dependencies = document["dependencies"].as_array().unwrap();
        for dependency in dependencies {
            for needed in dependency["dependsOn"].as_array().unwrap() {
                assert!(known.contains(&needed), "{needed}");
            }
        }
        assert!(dependencies.iter().any(|one| {
            one["ref"] == "pkg:cargo/linked@1.0.0"
                && one["dependsOn"] == json!(["pkg:cargo/deeper@1.0.0"])
        }));
    }
}
