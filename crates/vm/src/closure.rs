//! Finds the libraries that a set of programs needs.
//!
//! It follows the `DT_NEEDED` entries as the dynamic linker would, in a directory of
//! unpacked packages for another machine. This is pure: functions of the caller's read the
//! entries of a file and find libraries.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

/// The names in the dynamic section of a program or a library.
#[derive(Clone, Default)]
pub struct Needs {
    /// The file names of libraries, and the path of the dynamic linker.
    pub names: Vec<String>,
}

/// Reads an ELF file; anything else (a script, a static program) needs nothing.
pub fn read_needs(bytes: &[u8]) -> Result<Needs> {
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(Needs::default());
    }
    let elf = goblin::elf::Elf::parse(bytes).context("failed to parse the ELF file")?;
    let names = elf.libraries.iter().copied().chain(elf.interpreter);
    Ok(Needs { names: names.map(str::to_owned).collect() })
}

/// The paths of all libraries that `programs` need, directly or through other libraries.
///
/// # Errors
///
/// Names the missing library, and the file that needs it.
pub fn libraries(
    programs: &[String],
    mut read: impl FnMut(&str) -> Result<Needs>,
    find: impl Fn(&str) -> Option<String>,
) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut open = programs.to_vec();
    while let Some(file) = open.pop() {
        let needs = read(&file).with_context(|| format!("failed to read `{file}`"))?;
        for name in needs.names {
            let path = find(&name).with_context(|| format!("`{file}` needs `{name}`"))?;
            if found.insert(path.clone()) {
                open.push(path);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` needs `x` and the linker, `x` needs `y`, `y` needs `x`.
    fn read(file: &str) -> Result<Needs> {
        let names: &[&str] = match file {
            "bin/a" => &["x.so", "/lib/ld.so"],
            "lib/x.so" => &["y.so"],
            "lib/y.so" => &["x.so"],
            "bin/lost" => &["z.so"],
            _ => &[],
        };
        Ok(Needs { names: names.iter().map(|&name| name.to_owned()).collect() })
    }

    fn find(name: &str) -> Option<String> {
        let name = name.rsplit('/').next()?;
        (name != "z.so").then(|| format!("lib/{name}"))
    }

    #[test]
    fn libraries_of_libraries_count_and_circles_end() {
        let found = libraries(&["bin/a".into()], read, find).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["lib/ld.so", "lib/x.so", "lib/y.so"]);
    }

    #[test]
    fn a_program_without_needs_has_no_libraries() {
        assert!(libraries(&["bin/static".into()], read, find).unwrap().is_empty());
        assert!(read_needs(b"#!/bin/sh\n").unwrap().names.is_empty());
    }

    #[test]
    fn a_missing_library_is_named_with_who_needs_it() {
        let error = libraries(&["bin/lost".into()], read, find).unwrap_err();
        assert_eq!(format!("{error:#}"), "`bin/lost` needs `z.so`");
    }

    #[test]
    fn a_broken_file_is_an_error() {
        assert!(read_needs(b"\x7fELF nonsense").is_err());
    }
}
