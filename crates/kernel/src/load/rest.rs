//! Programs on demand, which are loaded beside the first answers.
//!
//! The verifier takes most of the time of a start, and needs half of it for programs that
//! nothing asks for in the first second. So they are loaded when the selection is over, by a
//! thread that ends with the last of them. Until one is there its strategy counts on it; if
//! the kernel refuses it, it is given up then.

use std::{
    collections::BTreeSet,
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread::{self, JoinHandle},
};

use super::Programs;
use crate::{
    capability::Capability,
    facts::HookLocation,
    hook::Step,
    loader::{Attached, Loader},
    program::Program,
};

/// A program that was loaded, or why it was not.
type Loaded = (Program, Result<Attached, String>);

/// The programs that are being loaded.
pub(super) struct Rest {
    waiting: BTreeSet<Program>,
    /// `None` once nobody wants them any more.
    loaded: Option<Receiver<Loaded>>,
    thread: Option<JoinHandle<()>>,
}

impl Rest {
    /// Begins to load programs, one after another.
    pub fn load(mut loader: Loader, wanted: Vec<(Program, HookLocation)>) -> Self {
        let waiting = wanted.iter().map(|(program, _)| *program).collect();
        let (sender, loaded) = channel();
        let load = move || {
            for (program, location) in wanted {
                let result = loader.load_unattached(program, location);
                if sender.send((program, result)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("loading".to_owned()).spawn(load).ok();
        Self { waiting, loaded: Some(loaded), thread }
    }

    /// The next that was loaded; `None` if there is none yet. `waits` says whether it is
    /// waited for.
    fn next(&mut self, waits: bool) -> Option<Loaded> {
        let loaded = self.loaded.as_ref()?;
        let next = match loaded.try_recv() {
            Err(TryRecvError::Empty) if waits => loaded.recv().ok(),
            Err(TryRecvError::Empty) => return None,
            next => next.ok(),
        };
        // A thread that is gone, or was never there, leaves the others without an answer.
        let gone = || Some((*self.waiting.first()?, Err("it was not loaded".to_owned())));
        let next = next.or_else(gone)?;
        self.waiting.remove(&next.0);
        Some(next)
    }
}

impl Drop for Rest {
    /// Nothing of the session is in the kernel after its end, so the thread is waited for: it
    /// ends after the program that it is at.
    fn drop(&mut self) {
        self.loaded = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic, and what it loaded is dropped either way.
            let _ = thread.join();
        }
    }
}

impl Programs {
    /// Takes in the programs on demand that were loaded since the last time.
    pub fn look_at_loading(&mut self) {
        self.take_in(false);
    }

    /// Waits until all programs on demand are loaded: some tenths of a second after the start.
    pub fn finish_loading(&mut self) {
        self.take_in(true);
    }

    /// As [`Programs::finish_loading`], where programs of this capability are not loaded yet.
    pub(super) fn finish_loading_of(&mut self, capability: Capability) {
        let is_its = |program: &Program| capability.hook().has(*program);
        if self.rest.as_ref().is_some_and(|rest| rest.waiting.iter().any(is_its)) {
            self.finish_loading();
        }
    }

    fn take_in(&mut self, waits: bool) {
        let Some(mut rest) = self.rest.take() else { return };
        while let Some((program, loaded)) = rest.next(waits) {
            self.keep_on_demand(program, loaded);
        }
        if !rest.waiting.is_empty() {
            self.rest = Some(rest);
        }
    }

    fn keep_on_demand(&mut self, program: Program, loaded: Result<Attached, String>) {
        // Its strategy may have been given up meanwhile.
        let Some((capability, at, step)) = self.find_step(program) else { return };
        let strategy = &capability.strategies()[at];
        let kept = loaded.and_then(|loaded| self.keep(strategy, step, loaded, false));
        match (kept, self.selection_mut(capability)) {
            (Ok(()), _) | (_, None) => {}
            (Err(why), Some(_)) if step.required => self.give_up_demand(capability, at, why),
            (Err(why), Some(selection)) => {
                selection.attached.retain(|attached| *attached != program);
                selection.notes.push(why);
            }
        }
    }

    /// The place of a program in the strategy that is selected, if it is part of one.
    fn find_step(&self, program: Program) -> Option<(Capability, usize, &'static Step)> {
        self.selections.iter().filter(|s| s.attached.contains(&program)).find_map(|selection| {
            let at = self.position(selection.capability)?;
            let mut steps = selection.capability.strategies()[at].steps.iter();
            let step = steps.find(|step| step.program == program)?;
            Some((selection.capability, at, step))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_a_thread_that_is_gone_are_said_not_to_be_loaded() {
        let (sender, loaded) = channel();
        let waiting = BTreeSet::from([Program::SchedSwitch, Program::BlockBioQueue]);
        let mut rest = Rest { waiting, loaded: Some(loaded), thread: None };
        assert!(rest.next(false).is_none(), "it is waited for no longer than was asked");
        sender.send((Program::SchedSwitch, Err("refused".to_owned()))).unwrap();
        drop(sender);
        let mut said = || rest.next(true).map(|(program, loaded)| (program, loaded.err()));
        assert_eq!(said(), Some((Program::SchedSwitch, Some("refused".to_owned()))));
        let gone = Some("it was not loaded".to_owned());
        assert_eq!(said(), Some((Program::BlockBioQueue, gone)));
        assert_eq!(said(), None);
    }
}
