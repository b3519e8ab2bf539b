//! Collects the licences of the libraries that are linked into the programs, from their
//! sources.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::sbom::Package;

/// The names of licence files begin with one of these, in any case.
const BEGINNINGS: [&str; 4] = ["license", "licence", "copying", "notice"];

/// Whether a file at the top of a library's sources contains its licence.
pub fn is_terms(name: &str) -> bool {
    let name = name.to_lowercase();
    BEGINNINGS.iter().any(|begin| name.starts_with(begin))
}

/// Writes one text: first each library with its licence's name, then all texts, each once.
pub fn write(libraries: &[(Package, Vec<String>)]) -> String {
    let mut text =
        String::from("Libraries that are linked into the programs, and their terms.\n\n");
    let mut users: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (package, terms) in libraries {
        let (name, version) = (&package.name, &package.version);
        // Writing to a string cannot fail.
        let licence = package.licence.as_deref().unwrap_or("see below");
        let _ = writeln!(text, "{name} {version}: {licence}");
        for terms in terms {
            users.entry(terms.trim()).or_default().push(format!("{name} {version}"));
        }
    }
    let mut texts: Vec<_> = users.into_iter().map(|(terms, users)| (users, terms)).collect();
    texts.sort();
    for (users, terms) in texts {
        let _ = write!(text, "\n{}\n{}:\n\n{terms}\n", "-".repeat(78), users.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> Package {
        Package { name: name.to_owned(), version: "1.0.0".to_owned(), ..Package::default() }
    }

    #[test]
    fn a_text_that_two_libraries_share_stands_there_once() {
        let both = "Anybody may use it.\n".to_owned();
        let libraries = [
            (Package { licence: Some("MIT".to_owned()), ..package("a") }, vec![both.clone()]),
            (package("b"), vec![both, "Nobody may.".to_owned()]),
        ];
        let text = write(&libraries);
        assert!(text.contains("a 1.0.0: MIT\nb 1.0.0: see below\n"), "{text}");
        assert_eq!(text.matches("Anybody may use it.").count(), 1);
        assert!(text.contains("a 1.0.0, b 1.0.0:\n\nAnybody may use it.\n"), "{text}");
        assert!(text.contains("b 1.0.0:\n\nNobody may.\n"), "{text}");
    }

    #[test]
    fn terms_are_known_by_their_names() {
        for name in ["LICENSE", "LICENSE-MIT", "license.md", "COPYING", "NOTICE.txt", "Licence"] {
            assert!(is_terms(name), "{name}");
        }
        for name in ["README.md", "src", "unlicensed.rs"] {
            assert!(!is_terms(name), "{name}");
        }
    }
}
