//! The selection once it is over: programs of modules that come later join it.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    os::fd::OwnedFd,
};

use super::{Programs, rest::Rest};
use crate::{
    capability::Capability,
    facts::Facts,
    hook::Strategy,
    late::{
        self,
        loader::{LateLoader, Loaded},
    },
    loader::Attached,
    program::Program,
    strategies::Outcome,
};

/// The programs of a module that joined a strategy, and those that did not.
#[derive(Default)]
struct Joined {
    attached: Vec<Program>,
    refused: Vec<String>,
    /// Optional ones whose hooks the module does not have.
    absent: Vec<String>,
    /// Whether the strategy cannot do without one that was refused.
    is_broken: bool,
}

impl Programs {
    /// Ends the selection, and begins to load the programs on demand. The loader that is
    /// returned can load those that hook modules which are loaded later.
    pub fn end_selection(&mut self, facts: &Facts) -> Option<LateLoader> {
        let loader = self.loader.take()?;
        let maps = loader.maps();
        self.rest = Some(Rest::load(loader, mem::take(&mut self.later)));
        let (config, log_level) = (self.config, self.options.log_level());
        Some(LateLoader { facts: facts.clone(), maps, config, log_level })
    }

    /// Attaches programs for the hooks of a module that came after the selection, in
    /// all that [`late::lacking`] finds. Those on demand are attached where
    /// `is_at_work` says that their capability's are. Returns why not, for each that
    /// was refused.
    pub fn attach_late(
        &mut self,
        module: &str,
        loaded: Loaded,
        is_at_work: impl Fn(Capability) -> bool,
    ) -> Vec<String> {
        let mut loaded: BTreeMap<_, _> = loaded.into_iter().collect();
        let mut refused = Vec::new();
        for capability in late::lacking(&self.selections, module) {
            let selected = self.position(capability);
            let at = selected.or_else(|| late::find_strategy(capability, module));
            let Some(at) = at else { continue };
            let strategy = &capability.strategies()[at];
            let joined = self.join(strategy, module, &mut loaded, is_at_work(capability));
            refused.extend(joined.refused.iter().cloned());
            if selected.is_none() && joined.is_broken {
                self.detach(strategy);
                self.set(capability, at, Outcome::Refused(joined.refused.join("; ")));
                continue;
            }
            if selected.is_none() {
                self.set(capability, at, Outcome::Selected);
            }
            self.note_late(capability, module, joined);
        }
        refused
    }

    /// Attaches those of a strategy's programs that are for hooks in a module.
    fn join(
        &mut self,
        strategy: &Strategy,
        module: &str,
        loaded: &mut BTreeMap<Program, Result<OwnedFd, String>>,
        is_at_work: bool,
    ) -> Joined {
        let mut joined = Joined::default();
        for step in strategy.steps {
            let target = step.program.target();
            if target.module() != Some(module) || self.loaded.contains_key(&step.program) {
                continue;
            }
            let absent = || format!("no `{}` in module `{module}`", target.hook());
            let found = loaded.remove(&step.program);
            if found.is_none() && !step.required {
                joined.absent.push(absent());
                continue;
            }
            let attached = found
                .unwrap_or_else(|| Err(absent()))
                .and_then(|fd| Attached::new(step.program, fd, false))
                .and_then(|loaded| self.keep(strategy, step, loaded, is_at_work));
            match attached {
                Ok(()) => joined.attached.push(step.program),
                Err(why) => {
                    joined.refused.push(why);
                    joined.is_broken |= step.required;
                }
            }
        }
        joined
    }

    /// Notes what serves from here on; that the module was not loaded is over.
    fn note_late(&mut self, capability: Capability, module: &str, joined: Joined) {
        let Some(selection) = self.selection_mut(capability) else { return };
        selection.notes.retain(|note| !note.contains(&format!("module `{module}`")));
        let hooks: BTreeSet<_> = joined
            .attached
            .iter()
            .map(|program| format!("`{}`", program.target().hook()))
            .collect();
        let hooks: Vec<_> = hooks.into_iter().collect();
        if !hooks.is_empty() {
            selection.notes.push(format!("in module `{module}`: {}", hooks.join(", ")));
        }
        selection.notes.extend(joined.absent.into_iter().chain(joined.refused));
        selection.attached.extend(joined.attached);
    }
}
