//! Digests, and the list of them that `sha256sum --check` reads.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The name of the list.
pub const FILE: &str = "SHA256SUMS";

/// The digest in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A line for each file, in order of their names.
pub fn list(files: &[(String, Vec<u8>)]) -> String {
    let mut lines: Vec<_> = files
        .iter()
        .map(|(name, content)| (name, format!("{}  {name}\n", sha256(content))))
        .collect();
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

/// The names in such a list.
pub fn names(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter_map(|line| line.split_once("  ").map(|(_, name)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_has_digests_that_others_compute() {
        // The first two are NIST's examples, SHA256("abc") and SHA256("").
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let files = [("b".to_owned(), b"abc".to_vec()), ("a".to_owned(), Vec::new())];
        let list = list(&files);
        assert_eq!(list, format!("{empty}  a\n{abc}  b\n"));
        assert_eq!(names(&list).collect::<Vec<_>>(), ["a", "b"]);
    }
}
