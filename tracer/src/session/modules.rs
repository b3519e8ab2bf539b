//! Filesystems whose modules are loaded after the tracer's start.
//!
//! Hooks are loaded before privileges are dropped, so those in a module that comes
//! with the first volume of its filesystem stay missing. That is said, with what to
//! do, instead of leaving somebody to wonder.

use tracer_kernel::unsupported::Unsupported;
use tracer_node::tree::Tree;

/// Between two looks.
const EVERY_NS: u64 = 5_000_000_000;

/// Modules that have hooks, and were not loaded at the start.
#[derive(Debug, Default)]
pub struct LateModules {
    missing: Vec<&'static str>,
    loaded: Vec<&'static str>,
    looked_ns: u64,
}

impl LateModules {
    pub fn new(missing: impl IntoIterator<Item = &'static str>) -> Self {
        Self { missing: missing.into_iter().collect(), ..Self::default() }
    }

    /// Looks which of them are loaded by now; sysfs does not block.
    pub fn look(&mut self, tree: &Tree, now_ns: u64) {
        if self.missing.is_empty() || now_ns.saturating_sub(self.looked_ns) < EVERY_NS {
            return;
        }
        self.looked_ns = now_ns;
        // A filesystem that is built in has no such state.
        let state = |module: &str| tree.at(format!("sys/module/{module}/initstate"));
        let is_loaded = |module: &mut &'static str| state(module).exists();
        self.loaded.extend(self.missing.extract_if(.., is_loaded));
    }

    pub fn unsupported(&self) -> impl Iterator<Item = Unsupported> {
        self.loaded.iter().map(|module| Unsupported {
            what: "module",
            sentence: format!(
                "{module} was loaded after the tracer's start: restart the tracer to see its part \
                 of syncs"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_module_that_is_loaded_after_the_start_is_named_with_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::new(root.path());
        let mut modules = LateModules::new(["btrfs", "xfs"]);
        let said = |modules: &LateModules| {
            modules.unsupported().map(|late| late.sentence).collect::<Vec<_>>()
        };
        modules.look(&tree, 10 * SECOND);
        assert!(said(&modules).is_empty());
        fs::create_dir_all(root.path().join("sys/module/btrfs")).unwrap();
        fs::create_dir_all(root.path().join("sys/module/xfs")).unwrap();
        fs::write(root.path().join("sys/module/xfs/initstate"), "live\n").unwrap();
        modules.look(&tree, 16 * SECOND);
        let wanted = "xfs was loaded after the tracer's start: restart the tracer to see its part \
                      of syncs";
        assert_eq!(said(&modules), [wanted]);
        // It stays so, and is said once.
        fs::remove_dir_all(root.path().join("sys/module/xfs")).unwrap();
        modules.look(&tree, 30 * SECOND);
        assert_eq!(said(&modules), [wanted]);
    }
}
