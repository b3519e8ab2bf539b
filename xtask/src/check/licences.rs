//! Checks the linked packages, and their licences, against `deny.toml`.
//!
//! The file has cargo-deny's format, and cargo-deny reads it too. This check covers a part
//! of it, offline: each package's licence, its source, and whether it is banned. Tables and
//! keys that it does not know are left to cargo-deny.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tracer_step::{cargo, workspace};

#[derive(Debug, Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Debug, Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Clone, Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// Absent for packages of the workspace.
    source: Option<String>,
}

/// # Errors
///
/// Names all packages that may not be used.
pub fn check() -> Result<()> {
    let path = workspace().join("deny.toml");
    let text = fs::read_to_string(&path).context("failed to read `deny.toml`")?;
    let deny: Deny = toml::from_str(&text).context("`deny.toml`")?;
    let output = cargo("metadata")
        .args(["--format-version", "1", "--locked"])
        .output()
        .context("failed to run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let faults = faults(&deny, &metadata.packages);
    match faults.is_empty() {
        true => Ok(()),
        false => bail!("{} packages may not be used:\n{}", faults.len(), faults.join("\n")),
    }
}

fn faults(deny: &Deny, packages: &[Package]) -> Vec<String> {
    let banned: BTreeMap<_, _> =
        deny.bans.deny.iter().map(|one| (one.name.as_str(), one.reason.as_str())).collect();
    let fault = |package: &Package| {
        if let Some(reason) = banned.get(package.name.as_str()) {
            return Some(format!("decided against: {reason}"));
        }
        if let Some(source) = &package.source {
            let registry = source.strip_prefix("registry+").unwrap_or_default();
            if !deny.sources.allow_registry.iter().any(|allowed| allowed == registry) {
                return Some(format!("comes from {source}"));
            }
        }
        let Some(license) = &package.license else { return Some("has no licence".into()) };
        match is_allowed(license, &deny.licenses.allow) {
            Some(true) => None,
            Some(false) => Some(format!("its licence is {license}")),
            None => Some(format!("its licence cannot be read: {license}")),
        }
    };
    packages
        .iter()
        .filter_map(|p| Some(format!("{} {}: {}", p.name, p.version, fault(p)?)))
        .collect()
}

/// Whether an SPDX expression can be satisfied; `None` if it is not an SPDX expression.
/// A slash is an old way to write OR.
fn is_allowed(license: &str, allowed: &[String]) -> Option<bool> {
    let spaced = license.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any(&mut words, allowed)?;
    words.next().is_none().then_some(met)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &[String]) -> Option<bool> {
    let mut met = all(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed)?;
    }
    Some(met)
}

fn all(words: &mut Words<'_>, allowed: &[String]) -> Option<bool> {
    let mut met = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed)?;
    }
    Some(met)
}

fn one(words: &mut Words<'_>, allowed: &[String]) -> Option<bool> {
    let first = words.next().filter(|word| !["OR", "AND", "WITH", ")"].contains(word))?;
    if first == "(" {
        let met = any(words, allowed)?;
        return (words.next() == Some(")")).then_some(met);
    }
    let whole = match words.next_if_eq(&"WITH") {
        Some(_) => format!("{first} WITH {}", words.next()?),
        None => first.to_owned(),
    };
    Some(allowed.contains(&whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_met_by_one_and_a_sum_by_all() {
        let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        for (license, expected) in [
            ("MIT", Some(true)),
            ("GPL-2.0-only", Some(false)),
            ("GPL-2.0-only OR MIT", Some(true)),
            ("MIT/Apache-2.0", Some(true)),
            ("Apache-2.0 / MIT", Some(true)),
            ("MIT AND ISC", Some(true)),
            ("MIT AND GPL-2.0-only", Some(false)),
            ("(MIT OR GPL-2.0-only) AND ISC", Some(true)),
            ("MIT OR GPL-2.0-only AND LGPL-2.1", Some(true)),
            ("(MIT OR ISC) AND GPL-2.0-only", Some(false)),
            ("Apache-2.0 WITH LLVM-exception", Some(true)),
            ("Apache-2.0", Some(false)),
            ("MIT OR", None),
            ("(MIT", None),
            ("MIT ISC", None),
            ("", None),
        ] {
            assert_eq!(is_allowed(license, &allowed), expected, "{license}");
        }
    }

    #[test]
    fn what_is_not_taken_is_named_with_why() {
        let deny: Deny = toml::from_str(
            "[licenses]\nallow = [\"MIT\"]\n[bans]\ndeny = [{ crate = \"bad\", reason = \"it is \
             bad\" }]\n[sources]\nallow-registry = [\"https://index\"]\n",
        )
        .unwrap();
        let package = |name: &str, license: Option<&str>, source: Option<&str>| Package {
            name: name.into(),
            version: "1.0.0".into(),
            license: license.map(Into::into),
            source: source.map(Into::into),
        };
        let index = Some("registry+https://index");
        let packages = [
            package("ours", Some("MIT"), None),
            package("good", Some("MIT"), index),
            package("bad", Some("MIT"), index),
            package("copyleft", Some("GPL-3.0-only"), index),
            package("none", None, index),
            package("forked", Some("MIT"), Some("git+https://somewhere")),
            package("other", Some("MIT"), Some("registry+https://elsewhere")),
        ];
        let expected = [
            "bad 1.0.0: decided against: it is bad",
            "copyleft 1.0.0: its licence is GPL-3.0-only",
            "none 1.0.0: has no licence",
            "forked 1.0.0: comes from git+https://somewhere",
            "other 1.0.0: comes from registry+https://elsewhere",
        ];
        assert_eq!(faults(&deny, &packages), expected);
    }
}
