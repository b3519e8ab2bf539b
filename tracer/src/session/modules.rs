//! Filesystems whose modules are loaded after the tracer's start.
//!
//! Hooks in a module that comes with the first volume of its filesystem join the
//! selection then: the [loader](super::loader) hands the programs over. Where there is
//! none, and where the kernel refuses it, what is missing is said with what helps on
//! this node.

use std::path::{Path, PathBuf};

use tracer_kernel::{
    capability::Capability,
    facts::{self, Facts},
    late::{self, Remedy},
    types::Pointers,
    unsupported::Unsupported,
};

use super::{
    Session,
    loader::{Answer, Loader},
    preflight::Capabilities,
};

/// The time between two looks.
const EVERY_NS: u64 = 5_000_000_000;

/// Modules that have hooks of use, and were not loaded at the start.
#[derive(Debug)]
pub struct LateModules {
    root: PathBuf,
    watched: Vec<Watched>,
    means: Means,
    loader: Option<Loader>,
    looked_ns: u64,
}

#[derive(Debug)]
struct Watched {
    module: &'static str,
    state: State,
}

#[derive(Debug)]
enum State {
    Away,
    /// Its programs are being loaded.
    Asked,
    /// Its programs are attached, as far as it has hooks for them.
    Joined,
    /// It is loaded, and this is how to have what may be missing.
    Here(Remedy),
}

/// All that the tracer could do at its start.
#[derive(Clone, Debug)]
pub struct Means {
    /// The kernel's types; those of its modules lie beside them.
    pub btf: PathBuf,
    /// How programs are attached: by the kernel's types, or by names alone.
    pub pointers: Pointers,
    /// Whether it may name a module's types.
    pub names_modules: bool,
}

impl Means {
    pub fn new(btf: &Path, facts: &Facts) -> Self {
        let names_modules = Capabilities::read().name_modules();
        Self { btf: btf.to_owned(), pointers: facts.pointers, names_modules }
    }

    /// Whether programs for hooks in modules could be loaded later.
    pub fn can_load(&self) -> bool {
        self.pointers == Pointers::Typed && self.names_modules
    }

    /// Finds what it takes to have the hooks of a module that is loaded.
    fn remedy(&self, module: &str) -> Remedy {
        if self.pointers == Pointers::Untyped {
            return Remedy::Restart;
        }
        match (facts::has_types(&self.btf, module), self.names_modules) {
            (false, _) => Remedy::None,
            (true, false) => Remedy::Privilege,
            (true, true) => Remedy::Restart,
        }
    }
}

impl LateModules {
    /// `root` is where the node's `/proc` and `/sys` lie. A kernel that takes no modules
    /// does not list them.
    pub fn new(root: &Path, means: Means, missing: impl IntoIterator<Item = &'static str>) -> Self {
        let away = |module| Watched { module, state: State::Away };
        let may_come = root.join("proc/modules").exists();
        let watched = missing.into_iter().filter(|_| may_come).map(away).collect();
        Self { root: root.to_owned(), watched, means, loader: None, looked_ns: 0 }
    }

    /// With a process that loads programs; without one if there is no use for it.
    pub fn with(self, start: impl FnOnce() -> Option<Loader>) -> Self {
        let is_of_use = !self.watched.is_empty() && self.means.can_load();
        let loader = if is_of_use { start() } else { None };
        Self { loader, ..self }
    }

    /// Looks which of them are loaded by now, and has their programs loaded; sysfs does
    /// not block.
    fn look(&mut self, now_ns: u64) {
        if self.watched.is_empty() || now_ns.saturating_sub(self.looked_ns) < EVERY_NS {
            return;
        }
        self.looked_ns = now_ns;
        for Watched { module, state } in &mut self.watched {
            if !facts::is_live(&self.root, module) {
                *state = State::Away;
                continue;
            }
            if !matches!(state, State::Away) {
                continue;
            }
            let remedy = self.means.remedy(module);
            let is_asked = remedy == Remedy::Restart
                && self.loader.as_mut().is_some_and(|loader| loader.order(module).is_ok());
            *state = if is_asked { State::Asked } else { State::Here(remedy) };
        }
    }

    /// The loader's next answer. One that is gone gives none.
    fn answer(&mut self) -> Option<Answer> {
        match self.loader.as_mut()?.answer() {
            Ok(answer) => answer,
            Err(_) => {
                self.loader = None;
                for Watched { state, .. } in &mut self.watched {
                    if matches!(state, State::Asked) {
                        *state = State::Here(Remedy::Restart);
                    }
                }
                None
            }
        }
    }

    /// Notes what became of a module's programs.
    fn note(&mut self, module: &str, refused: &[String]) {
        let state = match refused {
            [] => State::Joined,
            refused => State::Here(Remedy::Refused(refused.join("; "))),
        };
        if let Some(watched) = self.watched.iter_mut().find(|watched| watched.module == module) {
            watched.state = state;
        }
    }

    /// One sentence for each that is loaded and of which something is not seen.
    pub fn unsupported(&self, lacking: impl Fn(&str) -> Vec<Capability>) -> Vec<Unsupported> {
        let sentences = self.watched.iter().filter_map(|Watched { module, state }| match state {
            State::Here(remedy) => late::sentence(module, &lacking(module), remedy),
            State::Away | State::Asked | State::Joined => None,
        });
        sentences.map(|sentence| Unsupported { what: "module", sentence }).collect()
    }
}

impl Session {
    /// Has hooks in modules that came since the start join those that serve.
    pub(super) fn look_at_modules(&mut self, now: u64) {
        self.late_modules.look(now);
        while let Some(Answer { module, loaded }) = self.late_modules.answer() {
            let refused = match loaded {
                Ok(loaded) => {
                    let at_work: Vec<_> = Capability::ALL
                        .into_iter()
                        .filter(|capability| self.is_attached(*capability))
                        .collect();
                    let is_at_work = |capability| at_work.contains(&capability);
                    self.programs.attach_late(module, loaded, is_at_work)
                }
                Err(why) => vec![why],
            };
            self.late_modules.note(module, &refused);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Whether btrfs and xfs are said to be late, and the remedies.
    fn said(modules: &LateModules) -> Vec<String> {
        let lacking = |module: &str| match module {
            "xfs" => vec![Capability::Log],
            _ => Vec::new(),
        };
        modules.unsupported(lacking).into_iter().map(|late| late.sentence).collect()
    }

    fn late(root: &Path, pointers: Pointers, names_modules: bool) -> LateModules {
        let means = Means { btf: root.join("sys/kernel/btf/vmlinux"), pointers, names_modules };
        fs::create_dir_all(root.join("proc")).unwrap();
        fs::write(root.join("proc/modules"), "").unwrap();
        LateModules::new(root, means, ["btrfs", "xfs"])
    }

    fn load(root: &Path, module: &str, state: &str) {
        let folder = root.join("sys/module").join(module);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("initstate"), state).unwrap();
    }

    #[test]
    fn a_module_is_late_while_it_is_live_and_lacks_something() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let mut modules = late(root, Pointers::Typed, true);
        // A filesystem that is built in has a folder, and no state.
        fs::create_dir_all(root.join("sys/module/xfs")).unwrap();
        modules.look(10 * SECOND);
        assert!(said(&modules).is_empty());
        load(root, "xfs", "coming\n");
        modules.look(20 * SECOND);
        assert!(said(&modules).is_empty(), "its hooks are refused so early");
        load(root, "xfs", "live\n");
        load(root, "btrfs", "live\n");
        modules.look(24 * SECOND);
        assert!(said(&modules).is_empty(), "it looks every five seconds");
        modules.look(25 * SECOND);
        assert_eq!(said(&modules).len(), 1, "nothing of btrfs is missing: {:?}", said(&modules));
        assert!(said(&modules)[0].starts_with("xfs was loaded after the tracer's start"));
        load(root, "xfs", "going\n");
        modules.look(30 * SECOND);
        assert!(said(&modules).is_empty());
    }

    #[test]
    fn a_restart_is_advised_where_it_helps() {
        for (pointers, has_types, names_modules, expected) in [
            (Pointers::Typed, true, true, "restart the tracer"),
            (Pointers::Typed, true, false, "give the tracer CAP_SYS_ADMIN"),
            (Pointers::Typed, false, true, "the module has no types"),
            (Pointers::Typed, false, false, "the module has no types"),
            // Any tracepoint is found by its name.
            (Pointers::Untyped, false, false, "restart the tracer"),
        ] {
            let root = tempfile::tempdir().unwrap();
            let root = root.path();
            let mut modules = late(root, pointers, names_modules);
            load(root, "xfs", "live\n");
            fs::create_dir_all(root.join("sys/kernel/btf")).unwrap();
            if has_types {
                fs::write(root.join("sys/kernel/btf/xfs"), "").unwrap();
            }
            modules.look(5 * SECOND);
            let said = said(&modules).pop().unwrap();
            let (_, advice) = said.split_once("are not attached: ").unwrap();
            assert!(advice.starts_with(expected), "{has_types} {names_modules}: {said}");
        }
    }
}
