//! The tree that is tested: its commit, and what has changed since.

use std::{
    fs,
    hash::{DefaultHasher, Hasher as _},
    path::Path,
    process::Command,
};

use tracer_step as step;

/// A run writes its results there; they change nothing that is tested.
pub const TABLE: &str = "docs/tested.md";
/// All such pages.
const WRITTEN: [&str; 2] = [TABLE, crate::matrix::PAGE];

#[derive(Debug, Eq, PartialEq)]
pub struct Tree {
    /// The commit for people: ten digits, and whether there are changes.
    pub name: String,
    /// A key that differs between any two trees that differ; `None` if git does not
    /// provide one.
    pub key: Option<String>,
}

impl Tree {
    pub fn find(root: &Path) -> Self {
        let git = |arguments: &[&str], paths: &[&str]| {
            let mut command = Command::new("git");
            step::read_output(command.args(arguments).args(paths).current_dir(root))
        };
        let [table, matrix] = WRITTEN.map(|page| format!(":(exclude){page}"));
        let paths = ["--", ".", &table, &matrix];
        let commit = git(&["rev-parse", "--verify", "HEAD"], &[]);
        let changes = git(&["diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv"], &paths);
        let new = git(&["ls-files", "--others", "--exclude-standard", "-z"], &paths);
        let (Some(commit), Some(changes), Some(new)) = (commit, changes, new) else {
            return Self { name: "unknown".to_owned(), key: None };
        };
        let files = new.split('\0').filter(|file| !file.is_empty()).map(|file| {
            // A file that has vanished meanwhile counts as empty, which is still another tree.
            (file, fs::read(root.join(file)).unwrap_or_default())
        });
        Self::name(&commit, &changes, files)
    }

    /// The tree of a commit with such differences, and with files that no commit has.
    fn name<'a>(
        commit: &str,
        changes: &str,
        files: impl IntoIterator<Item = (&'a str, Vec<u8>)>,
    ) -> Self {
        let name: String = commit.chars().take(10).collect();
        let mut files = files.into_iter().peekable();
        if changes.is_empty() && files.peek().is_none() {
            return Self { name, key: Some(commit.to_owned()) };
        }
        let mut hasher = DefaultHasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        };
        add(changes.as_bytes());
        for (file, bytes) in files {
            add(file.as_bytes());
            add(&bytes);
        }
        let key = format!("{commit} {:016x}", hasher.finish());
        Self { name: format!("{name} and changes"), key: Some(key) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_commit_alone_is_its_own_key() {
        let tree = Tree { name: "0123456789".to_owned(), key: Some(COMMIT.to_owned()) };
        assert_eq!(Tree::name(COMMIT, "", []), tree);
    }

    #[test]
    fn every_change_makes_another_tree() {
        let file = |name, text: &str| (name, text.as_bytes().to_vec());
        let trees = [
            Tree::name(COMMIT, "", []),
            Tree::name(COMMIT, "-1\n+2", []),
            Tree::name(COMMIT, "-1\n+3", []),
            Tree::name(COMMIT, "", [file("a", "1")]),
            Tree::name(COMMIT, "", [file("a", "2")]),
            Tree::name(COMMIT, "", [file("b", "1")]),
            Tree::name(COMMIT, "", [file("a", "1"), file("b", "")]),
            Tree::name(COMMIT, "", [file("a", ""), file("1", "b")]),
            Tree::name("fedcba9876543210", "-1\n+2", []),
        ];
        let keys: BTreeSet<_> = trees.iter().map(|tree| tree.key.clone()).collect();
        assert_eq!(keys.len(), trees.len());
        assert!(trees[1..8].iter().all(|tree| tree.name == "0123456789 and changes"));
        assert_eq!(trees[1], Tree::name(COMMIT, "-1\n+2", []), "the same is the same");
    }

    #[test]
    fn without_a_repository_a_tree_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::find(folder.path());
        assert_eq!((tree.name.as_str(), tree.key), ("unknown", None));
    }
}
