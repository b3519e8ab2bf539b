//! Loads the kernel programs and selects an attach strategy for each capability.
//!
//! A strategy is selected when all of its required programs load and attach, and the
//! self-test then saw it fire. Dropping [`Programs`] detaches and unloads
//! everything; so does the end of the process, however it ends.

mod kernel_log;
mod late;
mod rest;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Map, MapData, RingBuf};
use tracer_ebpf::{
    config::Config,
    histogram::BUCKETS,
    record::{ACCOUNTS, DiskLedger, InFlight, OwnerKey, Solo, op, size, stage},
};
use tracer_node::disks::Room;
use zerocopy::IntoBytes as _;

pub use self::kernel_log::KernelLog;
use self::rest::Rest;
use crate::{
    capability::Capability,
    confinement, eviction,
    facts::{Facts, HookLocation},
    hook::{Attach, Step, Strategy},
    loader::{Attached, Globals, Loader},
    memlock,
    program::{Program, Target},
    quiet,
    refusal::explain,
    strategies::{Forced, Outcome, Selection},
    types::Pointers,
    unsupported::{self, Unsupported},
};

/// The kernel objects, compiled by the build script.
pub(crate) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracer-ebpf"));
pub(crate) static UNTYPED_OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracer-ebpf-untyped"));

/// Bytes of kernel memory that tables with this room take, all in all.
pub fn kernel_memory_bytes(room: &Room) -> u64 {
    let histograms = (op::COUNT * stage::COUNT * BUCKETS * 8) as u64;
    // Two entries by owner and one by account, each with what a hash table adds to it.
    let owners = (ACCOUNTS * 3 * (size_of::<OwnerKey>() + 72)) as u64;
    let ledger = size_of::<DiskLedger>() as u64;
    let solo = (op::COUNT * size::COUNT * size_of::<Solo>()) as u64;
    u64::from(room.disks) * (histograms + owners + ledger + solo)
        + u64::from(room.slots()) * size_of::<InFlight>() as u64
        + eviction::kernel_memory_bytes(eviction::possible_cpus())
        // The ring, the dirty files, the syncs under way, and several small maps.
        + (8 << 20)
}

/// The user's options for loading.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    pub forced: Vec<Forced>,
    pub kernel_log: bool,
    /// Capabilities whose hooks on demand are wanted from the start, beside those
    /// that are forced.
    pub at_once: Vec<Capability>,
}

impl LoadOptions {
    /// One of aya-log's: 0 is silence, 4 is debug.
    fn log_level(&self) -> u8 {
        if self.kernel_log { 4 } else { 0 }
    }
}

/// The attached part of a selected strategy: its programs, and notes for `doctor`.
#[derive(Default)]
struct AttachedPart {
    attached: Vec<Program>,
    notes: Vec<String>,
}

/// The loaded object with its attached programs.
pub struct Programs {
    /// The maps that no reader has taken yet.
    maps: BTreeMap<String, Map>,
    /// While there are programs to load.
    loader: Option<Loader>,
    /// Programs on demand of the strategies that are selected so far: they are loaded once
    /// the selection is over.
    later: Vec<(Program, HookLocation)>,
    /// While these are being loaded.
    rest: Option<Rest>,
    /// Constants of the programs.
    config: Config,
    /// All loaded programs; one is off its hook while that is not in demand.
    loaded: BTreeMap<Program, Attached>,
    options: LoadOptions,
    selections: Vec<Selection>,
    pub(crate) room: Room,
}

impl Programs {
    /// Creates the maps; no program is loaded yet.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the maps.
    pub fn create(facts: &Facts, room: Room, options: LoadOptions) -> Result<Self> {
        memlock::raise();
        let typed = facts.pointers == Pointers::Typed;
        let object = if typed { OBJECT } else { UNTYPED_OBJECT };
        if facts.lockdown == "confidentiality" {
            quiet::probe_features();
        }
        let level = options.log_level();
        let Room { own_slots, shared_slots, .. } = room;
        let config = Config { own_slots, shared_slots, ..facts.config };
        let globals =
            Globals::from([("CONFIG", config.as_bytes()), ("AYA_LOG_LEVEL", level.as_bytes())]);
        let accounts = room.disks * ACCOUNTS as u32;
        let histograms = room.disks * (op::COUNT * stage::COUNT) as u32;
        let max_entries = [
            ("IN_FLIGHT", room.slots()),
            ("LEDGER", room.disks),
            ("HISTOGRAMS", histograms),
            ("SOLO", room.disks * (op::COUNT * size::COUNT) as u32),
            ("OWNERS", accounts * 2),
            ("ACCOUNT_OWNERS", accounts),
        ];
        let (loader, maps) = Loader::create(object, &globals, &max_entries)
            .context("failed to create the tracer's maps in the kernel")?;
        let loader = Some(loader);
        let (loaded, selections) = (BTreeMap::new(), Vec::new());
        let (later, rest) = (Vec::new(), None);
        Ok(Self { maps, loader, later, rest, config, loaded, options, selections, room })
    }

    /// Loads and attaches the first strategy of each capability that works.
    pub fn select(&mut self, facts: &Facts) {
        self.load_ahead(facts);
        for capability in Capability::ALL {
            let selection = Selection::new(capability, |_| Outcome::NotNeeded);
            self.selections.push(selection);
            self.select_next(facts, capability);
        }
    }

    /// Gives up a strategy that attached but did not fire, and selects the next that works.
    /// Returns whether there was one.
    pub fn give_up(&mut self, facts: &Facts, capability: Capability, why: &str) -> bool {
        let Some(at) = self.position(capability) else { return false };
        self.detach(&capability.strategies()[at]);
        self.set(capability, at, Outcome::Silent(why.to_owned()));
        self.select_next(facts, capability);
        self.position(capability).is_some()
    }

    /// Notes that an optional program of the selected strategy does not fire.
    pub fn mark_silent(&mut self, capability: Capability, program: Program) {
        if let Some(selection) = self.selection_mut(capability) {
            selection.attached.retain(|attached| *attached != program);
        }
    }

    /// Notes that a strategy is selected although the self-test could not test it.
    pub fn mark_untested(&mut self, capability: Capability, why: &str) {
        if let Some(at) = self.position(capability) {
            self.set(capability, at, Outcome::Untested(why.to_owned()));
        }
    }

    /// Notes that all selected strategies have been seen to fire.
    pub fn mark_tested(&mut self) {
        let outcomes = self.selections.iter_mut().flat_map(|selection| &mut selection.strategies);
        for (_, outcome) in outcomes.filter(|(_, o)| matches!(o, Outcome::Untested(_))) {
            *outcome = Outcome::Selected;
        }
    }

    /// Attaches or detaches those programs of a capability that are attached on
    /// demand. Where the kernel refuses one, they are given up, and their strategy if
    /// it has no others.
    pub fn set_attached(&mut self, capability: Capability, on: bool) {
        if on {
            self.finish_loading_of(capability);
        }
        let Some(at) = self.position(capability) else { return };
        let steps = capability.strategies()[at].steps.iter();
        for step in steps.filter(|step| step.attach == Attach::OnDemand) {
            if let Err(why) = self.set_step(step, on) {
                self.give_up_demand(capability, at, why);
                return;
            }
        }
    }

    fn give_up_demand(&mut self, capability: Capability, at: usize, why: String) {
        let steps = capability.strategies()[at].steps.iter();
        let given_up: Vec<_> =
            steps.filter(|step| step.attach == Attach::OnDemand).map(|step| step.program).collect();
        self.loaded.retain(|program, _| !given_up.contains(program));
        let Some(selection) = self.selection_mut(capability) else { return };
        selection.attached.retain(|program| !given_up.contains(program));
        if selection.attached.is_empty() {
            self.set(capability, at, Outcome::Refused(why));
        } else {
            selection.notes.push(why);
        }
    }

    pub fn selections(&self) -> &[Selection] {
        &self.selections
    }

    /// The things that are not seen on this kernel.
    pub fn unsupported(&self, facts: &Facts) -> Vec<Unsupported> {
        unsupported::find(facts, &self.selections, &self.options.forced)
    }

    /// The first required capability that no strategy provides.
    pub fn missing(&self) -> Option<&Selection> {
        self.selections.iter().find(|c| c.required && c.selected().is_none())
    }

    /// Loads the programs of the first strategy of each capability that may work.
    fn load_ahead(&mut self, facts: &Facts) {
        let Some(mut loader) = self.loader.take() else { return };
        let mut wanted = Vec::new();
        for capability in Capability::ALL {
            let mut strategies =
                self.order(capability).into_iter().map(|at| &capability.strategies()[at]);
            let Some(strategy) =
                strategies.find(|strategy| is_loadable(&mut loader, facts, strategy))
            else {
                continue;
            };
            let is_wanted = self.is_wanted(capability);
            for step in strategy.steps.iter().filter(|step| stays(step, is_wanted)) {
                let location = facts.location(step.program);
                wanted.extend(location.map(|location| (step.program, location)));
            }
        }
        loader.load_ahead(&wanted, confinement::memory_limit());
        self.loader = Some(loader);
    }

    /// The strategies of a capability, the one that was asked for first.
    fn order(&self, capability: Capability) -> Vec<usize> {
        let wanted = self.options.forced.iter().find(|f| f.capability == capability);
        let is_wanted = |strategy: &Strategy| wanted.is_some_and(|f| f.strategy == strategy.name);
        let mut order: Vec<_> = (0..capability.strategies().len()).collect();
        order.sort_by_key(|&at| !is_wanted(&capability.strategies()[at]));
        order
    }

    /// Selects the next strategy that works, of those not yet tried.
    fn select_next(&mut self, facts: &Facts, capability: Capability) {
        for at in self.order(capability) {
            let Some(selection) = self.selection_mut(capability) else { return };
            if selection.strategies[at].1 != Outcome::NotNeeded {
                continue;
            }
            let (outcome, served) = self.attach(facts, capability, &capability.strategies()[at]);
            let taken = outcome == Outcome::Selected;
            if let Some(selection) = self.selection_mut(capability) {
                selection.strategies[at].1 = outcome;
                (selection.attached, selection.notes) = (served.attached, served.notes);
            }
            if taken {
                return;
            }
        }
    }

    fn selection_mut(&mut self, capability: Capability) -> Option<&mut Selection> {
        self.selections.iter_mut().find(|c| c.capability == capability)
    }

    fn position(&self, capability: Capability) -> Option<usize> {
        let selection = self.selections.iter().find(|c| c.capability == capability)?;
        selection
            .strategies
            .iter()
            .position(|(_, o)| matches!(o, Outcome::Selected | Outcome::Untested(_)))
    }

    fn set(&mut self, capability: Capability, at: usize, outcome: Outcome) {
        if let Some((_, slot)) =
            self.selection_mut(capability).and_then(|c| c.strategies.get_mut(at))
        {
            *slot = outcome;
        }
    }

    /// Whether the programs on demand of a capability are attached from the start.
    fn is_wanted(&self, capability: Capability) -> bool {
        let forced = self.options.forced.iter().any(|wish| wish.capability == capability);
        forced || self.options.at_once.contains(&capability)
    }

    /// Attaches a strategy whole, or not at all.
    fn attach(
        &mut self,
        facts: &Facts,
        capability: Capability,
        strategy: &Strategy,
    ) -> (Outcome, AttachedPart) {
        let wanted = self.is_wanted(capability);
        let mut attached = Vec::new();
        // Two programs may share a hook: its entry and its exit.
        let mut by_module: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        let mut left_out = BTreeSet::new();
        for step in strategy.steps {
            let location = facts.location(step.program);
            let failed = match location {
                Some(location) => {
                    self.attach_step(strategy, step, location, wanted).err().map(Outcome::Refused)
                }
                None => Some(Outcome::Unsupported(facts.absence(step.program))),
            };
            match failed {
                Some(outcome) if step.required => {
                    self.detach(strategy);
                    return (outcome, AttachedPart::default());
                }
                Some(outcome) => {
                    left_out.insert(outcome.to_string());
                }
                None => {
                    attached.push(step.program);
                    if let Some(HookLocation::Module(at)) = location {
                        let hooks = by_module.entry(at.module).or_default();
                        hooks.insert(format!("`{}`", step.program.target().hook()));
                    }
                }
            }
        }
        let found = by_module.into_iter().map(|(module, hooks)| {
            let hooks: Vec<_> = hooks.into_iter().collect();
            format!("in module `{module}`: {}", hooks.join(", "))
        });
        let notes = found.chain(left_out).collect();
        (Outcome::Selected, AttachedPart { attached, notes })
    }

    /// Loads a program and attaches it, or notes it for later if it is on demand.
    fn attach_step(
        &mut self,
        strategy: &Strategy,
        step: &Step,
        location: HookLocation,
        wanted: bool,
    ) -> Result<(), String> {
        if !stays(step, wanted) {
            self.later.push((step.program, location));
            return Ok(());
        }
        let loader = self.loader.as_mut().ok_or("the selection is over")?;
        let loaded = loader.load_unattached(step.program, location)?;
        self.keep(strategy, step, loaded, wanted)
    }

    /// Attaches a loaded program as its strategy has it. The first program of a strategy is
    /// attached once even if it is on demand, to see that it can be. It is always the one at the
    /// end of a call, because a begin without an end would stay open.
    fn keep(
        &mut self,
        strategy: &Strategy,
        step: &Step,
        mut loaded: Attached,
        wanted: bool,
    ) -> Result<(), String> {
        let program = step.program;
        let stays = stays(step, wanted);
        let is_first = strategy.steps.first().is_some_and(|first| first.program == program);
        if stays || is_first {
            loaded.attach().map_err(|error| explain(&program.target().hook(), &error, ""))?;
        }
        if !stays {
            loaded.detach();
        }
        self.loaded.insert(program, loaded);
        Ok(())
    }

    fn set_step(&mut self, step: &Step, on: bool) -> Result<(), String> {
        let Some(loaded) = self.loaded.get_mut(&step.program) else {
            // A required program is loaded as long as its strategy is selected.
            return Ok(());
        };
        loaded.detach();
        if !on {
            return Ok(());
        }
        loaded.attach().map_err(|error| explain(&step.program.target().hook(), &error, ""))
    }

    /// Takes a strategy's programs out of the kernel again.
    fn detach(&mut self, strategy: &Strategy) {
        for step in strategy.steps {
            self.loaded.remove(&step.program);
            self.later.retain(|(program, _)| *program != step.program);
        }
    }

    /// Takes a map out, to be used on its own.
    ///
    /// # Errors
    ///
    /// When it was taken before, or there is no map of that name.
    pub fn take_map(&mut self, name: &str) -> Result<Map> {
        self.maps.remove(name).ok_or_else(|| anyhow!("map `{name}` is not there"))
    }

    /// The ring of records.
    ///
    /// # Errors
    ///
    /// When it was taken before, or cannot be mapped.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>> {
        RingBuf::try_from(self.take_map("RECORDS")?).context("failed to map the ring of records")
    }

    /// Runs that the kernel skipped because the same program was already running on that
    /// CPU: the completion of one interrupt within that of another. The kernel counts them
    /// from 5.12 on (<https://github.com/torvalds/linux/commit/9ed9e9ba2337>); before, this
    /// is zero.
    pub fn missed_runs(&self) -> u64 {
        self.loaded.values().filter_map(|p| p.read_counter("recursion_misses")).sum()
    }

    /// Run count and run time in ns of each loaded program; the kernel counts only
    /// while its BPF statistics are on.
    pub fn run_stats(&self) -> Vec<(Program, u64, u64)> {
        run_stats(&self.loaded)
    }
}

/// Whether a program is attached as long as its strategy is selected.
fn stays(step: &Step, is_wanted: bool) -> bool {
    is_wanted || step.attach == Attach::Always
}

/// Whether all hooks of a strategy are there and, where they are functions, the kernel
/// accepts a program on one of them: some kernels accept none.
fn is_loadable(loader: &mut Loader, facts: &Facts, strategy: &Strategy) -> bool {
    let required = || strategy.steps.iter().filter(|step| step.required);
    let locations: Option<Vec<_>> = required().map(|step| facts.location(step.program)).collect();
    // The last one is tried, because entries come after exits and are short.
    let last =
        required().next_back().zip(locations.as_ref().and_then(|locations| locations.last()));
    locations.is_some()
        && last.is_none_or(|(step, location)| match step.program.target() {
            Target::Tracepoint(_) => true,
            Target::Function(_) | Target::SystemCall(_) => {
                loader.load_one_ahead(step.program, *location)
            }
        })
}

/// The counters of [`Programs::run_stats`] for any loaded programs.
pub(crate) fn run_stats(loaded: &BTreeMap<Program, Attached>) -> Vec<(Program, u64, u64)> {
    let counted = loaded.iter().filter_map(|(program, attached)| {
        let count = attached.read_counter("run_cnt")?;
        Some((*program, count, attached.read_counter("run_time_ns")?))
    });
    counted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux 6.18 gave these sizes for HISTOGRAMS, OWNERS, ACCOUNT_OWNERS, LEDGER and
    /// SOLO with room for 241 disks (`memlock` in `/proc/<pid>/fdinfo`).
    const MEASURED: u64 = 10_047_488 + 3_240_000 + 1_620_544 + 1_007_616 + 192_512;

    #[test]
    fn a_disk_takes_as_much_kernel_memory_as_the_kernel_says() {
        let with =
            |disks| kernel_memory_bytes(&Room { disks, own_slots: 257, shared_slots: 16_384 });
        let said = with(241) - with(0);
        assert!(said.abs_diff(MEASURED) * 100 <= MEASURED, "{said} and not {MEASURED}");
    }
}
