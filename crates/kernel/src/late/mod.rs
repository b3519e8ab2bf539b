//! Modules that are loaded after the strategies were selected: what their hooks would
//! add, and what it takes to have them.

pub mod loader;

use std::fmt;

use crate::{
    capability::Capability,
    facts::NO_MODULE_TYPES,
    hook::{Step, Strategy},
    strategies::Selection,
};

/// The way to see a module's part of syncs once it is loaded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Remedy {
    Restart,
    /// To name a module's types takes CAP_SYS_ADMIN.
    Privilege,
    /// The kernel has no types of its modules.
    None,
    /// The programs were tried and refused, for this reason.
    Refused(String),
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restart => write!(f, "restart the tracer"),
            Self::Privilege => write!(
                f,
                "give the tracer CAP_SYS_ADMIN, which finding them takes (in Kubernetes the \
                 component `module-hooks` adds it), and restart it"
            ),
            Self::None => write!(
                f,
                "the module {NO_MODULE_TYPES}, and without them they cannot be attached: a \
                 restart does not help"
            ),
            Self::Refused(why) => write!(f, "{why}"),
        }
    }
}

/// Says which part of a module that came late is not seen, and what helps; `None` if
/// nothing is missing.
pub fn sentence(module: &str, lacking: &[Capability], remedy: &Remedy) -> Option<String> {
    let names: Vec<_> = lacking.iter().map(|capability| format!("`{capability}`")).collect();
    let names = match names.as_slice() {
        [] => return None,
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    };
    Some(format!(
        "{module} was loaded after the tracer's start, and its hooks for {names} are not \
         attached: {remedy}"
    ))
}

/// The capabilities that would see more by hooks in a module that was not there.
pub fn lacking(selections: &[Selection], module: &str) -> Vec<Capability> {
    let found = selections.iter().filter(|selection| match selection.selected() {
        Some(selected) => {
            let mut strategies = selection.capability.strategies().iter();
            strategies.any(|s| s.name == selected && has_more(selection, s, module))
        }
        None => find_strategy(selection.capability, module).is_some(),
    });
    found.map(|selection| selection.capability).collect()
}

/// Whether a strategy has a program for a hook of this module that is not attached.
fn has_more(selection: &Selection, strategy: &Strategy, module: &str) -> bool {
    let mut programs = strategy.steps.iter().map(|step| step.program);
    programs.any(|program| {
        program.target().module() == Some(module) && !selection.attached.contains(&program)
    })
}

/// Finds the strategy of a capability that can do with a module alone.
pub fn find_strategy(capability: Capability, module: &str) -> Option<usize> {
    let is_its = |step: &&Step| step.program.target().module() == Some(module);
    capability.strategies().iter().position(|strategy| {
        let mut required = strategy.steps.iter().filter(|step| step.required).peekable();
        required.peek().is_some() && required.all(|step| is_its(&step))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::Outcome;

    /// On a kernel without a module, where `sync` was selected alone.
    fn selections(sync: &str) -> Vec<Selection> {
        let selection = |capability: Capability| {
            Selection::new(capability, |name| match capability {
                Capability::Sync if name == sync => Outcome::Selected,
                _ => Outcome::Unsupported("no such hook".to_owned()),
            })
        };
        Capability::ALL.map(selection).into()
    }

    #[test]
    fn a_module_lacks_what_the_strategies_that_serve_would_have_of_it() {
        use Capability::{Journal, Log, Metadata, Sync, Tickets};
        for (sync, module, expected) in [
            // Functions show syncs on all filesystems.
            ("fentry", "xfs", vec![Log, Tickets]),
            ("fentry", "btrfs", vec![]),
            ("fentry", "ext4", vec![]),
            ("fentry", "jbd2", vec![Journal, Metadata]),
            ("tracepoint", "xfs", vec![Sync, Log, Tickets]),
            ("tracepoint", "btrfs", vec![Sync]),
            ("tracepoint", "ext4", vec![Sync]),
            ("tracepoint", "jbd2", vec![Journal, Metadata]),
            ("vfs", "ext4", vec![]),
        ] {
            let found = lacking(&selections(sync), module);
            assert_eq!(found, expected, "{module} under {sync}");
        }
    }

    #[test]
    fn each_lack_has_the_remedy_that_helps() {
        use Capability::{Log, Sync};
        assert_eq!(sentence("btrfs", &[], &Remedy::Restart), None);
        let said = |lacking: &[Capability], remedy| sentence("xfs", lacking, remedy).unwrap();
        assert_eq!(
            said(&[Log], &Remedy::Restart),
            "xfs was loaded after the tracer's start, and its hooks for `log` are not attached: \
             restart the tracer"
        );
        assert_eq!(
            said(&[Sync, Log], &Remedy::Privilege),
            "xfs was loaded after the tracer's start, and its hooks for `sync` and `log` are not \
             attached: give the tracer CAP_SYS_ADMIN, which finding them takes (in Kubernetes the \
             component `module-hooks` adds it), and restart it"
        );
        assert_eq!(
            said(&[Log], &Remedy::None),
            "xfs was loaded after the tracer's start, and its hooks for `log` are not attached: \
             the module has no types (it takes 5.11 and CONFIG_DEBUG_INFO_BTF_MODULES=y), and \
             without them they cannot be attached: a restart does not help"
        );
    }
}
