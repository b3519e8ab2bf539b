//! The start of a session: this kernel's facts, the node's disks, the tables, the hooks and
//! their self-test, in this order.

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use anyhow::Result;
use tracer_engine::tick::Tick;
use tracer_kernel::{
    capability::Capability,
    clock::monotonic_ns,
    facts::{Facts, VMLINUX_BTF},
    late,
    load::{LoadOptions, Programs},
    maps::{
        accounts::Accounts, freezes::Freezes, helpers::HelperThreads, pauses::Pauses,
        ring::RingReader, tallies::Tallies, under_way::UnderWay, whole_syncs::WholeSyncs,
    },
    pids::PidNamespace,
    strategies::Forced,
};
use tracer_node::{
    cache_drops::CacheDrops,
    disks::{self, Assigned, Hidden, Layers, Queues, Room, StackStates},
    files::Files,
    helpers::Helpers,
    identity::{Identities, find_v1_controller, is_kernel_thread},
    namespaces::{self, Namespace},
    stopped,
    surroundings::Surroundings,
    tree::Tree,
};
use tracer_scene::Scene;
use tracer_snapshot::Kernel;

use super::{
    Session,
    calls::{self, Calls},
    demand::Demand,
    dirtied, freezes,
    holders::Holders,
    kept::References,
    ledger,
    loader::Loader,
    modules::{LateModules, Means},
    preflight::{self, CannotRun, check_user},
    read_clock,
    self_test::SelfTest,
    steps::StartStep,
    stops::Stops,
};

/// How the tracer is to be started.
#[derive(Clone, Debug)]
pub struct Options {
    pub btf: PathBuf,
    pub forced: Vec<Forced>,
    pub kernel_log: bool,
    /// The directory with the node's `/proc` and `/sys`.
    pub root: PathBuf,
    /// The directory with all its other files.
    pub host: PathBuf,
    /// The directory of kept references, if one was named.
    pub state_dir: Option<PathBuf>,
    /// Whether a process may load programs for modules that come later.
    pub loads_later: bool,
}

impl Options {
    /// The options for a node whose files lie below `host`, in a container that
    /// mounts them there.
    ///
    /// Its `/proc` and `/sys` are taken from there only if both were mounted
    /// with it. A bind mount that is not recursive has empty directories in
    /// their places; then our own are the node's as well, since tracing takes
    /// its PID namespace anyway, and there is one sysfs for all.
    pub fn below(host: PathBuf) -> Self {
        let is_whole = host.join("proc/1").exists() && host.join("sys/block").exists();
        let root = if is_whole { host.clone() } else { PathBuf::from("/") };
        Self { root, host, ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            btf: PathBuf::from(VMLINUX_BTF),
            forced: Vec::new(),
            kernel_log: false,
            root: PathBuf::from("/"),
            host: PathBuf::from("/"),
            state_dir: None,
            loads_later: true,
        }
    }
}

impl Session {
    /// Loads the kernel programs and tests them.
    ///
    /// # Errors
    ///
    /// [`CannotRun`] where this machine or this user cannot trace at all.
    pub fn start(options: &Options) -> Result<Self> {
        Self::start_by_steps(options, &mut StartStep::default())
    }

    /// Starts it, and says at which step it is.
    ///
    /// # Errors
    ///
    /// As [`Session::start`]; the step is the one that went wrong.
    pub fn start_by_steps(options: &Options, step: &mut StartStep) -> Result<Self> {
        let started = Instant::now();
        *step = StartStep::Privileges;
        check_user()?;
        *step = StartStep::Kernel;
        let mut facts = Facts::of_this_machine(&options.btf, &[&options.root, &options.host])
            .map_err(|error| CannotRun(format!("this kernel cannot be traced: {error:#}")))?;
        if let Some(shown) = namespaces::find_shown(&Tree::new(&options.root)) {
            let Namespace { inode, device } = shown;
            facts.show_ids_of(PidNamespace { inode, device });
        }
        if let Some(controller) = find_v1_controller(&Tree::new(&options.root)) {
            facts.go_by(controller);
        }
        preflight::check_kernel(&facts)?;
        // Before what it is compared with.
        let layers = Layers::read(&options.root);
        *step = StartStep::Disks;
        let mut hidden = Hidden::default();
        let queues = Queues::new(&options.root);
        let found = disks::scan(&queues, &hidden)?;
        let room = Room::of(&found);
        let mut assigned = Vec::new();
        let mut refused = disks::assign(&mut assigned, &found, &room);
        disks::connect(&options.root, &mut assigned);
        if assigned.is_empty() && !disks::has_hidden(&options.root) {
            let why = "no block device with requests of its own in /sys/block: there is \
                       nothing to trace here (is /sys mounted?)";
            return Err(CannotRun(why.to_owned()).into());
        }
        *step = StartStep::Tables;
        let mut bios_hooked = assigned.iter().any(Assigned::carries);
        let mut calls = Calls::new(&facts, &options.forced, &Tree::new(&options.root));
        let load_options = LoadOptions {
            forced: options.forced.clone(),
            kernel_log: options.kernel_log,
            // Fallbacks for submission are tested together with it.
            at_once: [Capability::Issue]
                .into_iter()
                .chain(bios_hooked.then_some(Capability::Bio))
                .chain(calls.is_needed().then_some(Capability::Sync))
                .collect(),
        };
        let mut programs = Programs::create(&facts, room, load_options)
            .map_err(|error| CannotRun(preflight::explain_refusal(&facts, &error)))?;
        let root = options.root.clone();
        let is_kthread: Box<dyn Fn(u32) -> bool> = if facts.sees_tasks() {
            Box::new(|_| false)
        } else {
            Box::new(move |tgid| is_kernel_thread(&root, tgid))
        };
        let mut accounts = Accounts::new(&mut programs, is_kthread)?;
        for disk in &assigned {
            accounts.describe(disk, monotonic_ns())?;
        }
        let mut stacked = disks::find_stacked(&options.root, &found, &assigned);
        for disk in &stacked {
            accounts.describe_stacked(disk)?;
        }
        let tallies = Tallies::new(&mut programs)?;
        let freezes = Freezes::new(&mut programs)?;
        let pauses = Pauses::new(&mut programs)?;
        let whole_syncs = WholeSyncs::new(&mut programs)?;
        let helper_threads = HelperThreads::new(&mut programs)?;
        let under_way = UnderWay::new(&mut programs)?;
        let mut ring = RingReader::new(programs.take_ring()?);
        *step = StartStep::Hooks;
        programs.select(&facts);
        let sees_bios = ledger::sees_bios(&programs);
        if bios_hooked && !sees_bios {
            let known = (&mut assigned, &mut stacked);
            let node = (options.root.as_path(), &queues, &hidden, sees_bios);
            refused = ledger::describe(node, &room, known, &mut accounts).unwrap_or(refused);
            bios_hooked = false;
        }
        let proc = options.root.join("proc");
        let self_test = SelfTest::run(&mut programs, &facts, &mut ring, proc, started, |disk| {
            hidden.note(&options.root, &disk.name(), disk.device as u32);
            let known = (&mut assigned, &mut stacked);
            let node = (options.root.as_path(), &queues, &hidden, sees_bios);
            let described = ledger::describe(node, &room, known, &mut accounts);
            refused = described.unwrap_or_default();
        });
        let late_loader = programs.end_selection(&facts);
        calls.is_attached = calls.is_needed() && calls::may_serve(programs.selections());

        let means = Means::new(&options.btf, &facts);
        let missing = facts.modules_not_loaded().filter(|module| {
            let selections = programs.selections();
            !late::lacking(selections, module).is_empty()
        });
        let late_modules = LateModules::new(&options.root, means, missing)
            .with(|| Loader::start(late_loader.filter(|_| options.loads_later)?).ok());
        let surroundings = Surroundings::new(&options.root, facts.stops_in_kernel);
        let mut session = Self {
            programs,
            facts,
            accounts,
            ring,
            self_test,
            completed: BTreeMap::new(),
            scene: Scene::new(Kernel::default(), read_clock(), monotonic_ns())?,
            identities: Identities::new(&options.root, &options.host),
            files: Files::new(&options.root),
            recorder: None,
            half_of_ns: 0,
            flight: None,
            surroundings,
            tallies,
            cache_drops: CacheDrops::new(&options.root),
            freezes,
            pauses,
            whole_syncs,
            unseen: freezes::Unseen::default(),
            stops: Stops::new(stopped::Stops::new(&options.root)),
            holders: Holders::default(),
            helpers: Helpers::new(&options.root),
            helper_threads,
            under_way,
            hanging_files: BTreeMap::new(),
            late_modules,
            demands: [
                Demand::contenders(),
                Demand::throttle(),
                Demand::metadata(),
                Demand::tickets(),
            ]
            .map(|demand| demand.with(&options.forced)),
            dirtied: dirtied::Search::new(&options.forced),
            calls,
            last_tick: Tick::default(),
            root: options.root.clone(),
            queues,
            assigned,
            stacked,
            hidden,
            layers,
            stack_states: StackStates::default(),
            room,
            refused,
            references: References::default(),
            issues_hooked: true,
            frees_hooked: false,
            bios_hooked,
            foreign: 0,
            ticked_ns: 0,
        };
        session.detach_issue_hook_if_unneeded(&options.forced);
        session.attach_bio_hooks_if_needed();
        session.accounts.begin_watch();
        session.say_what_is_unproven();
        session.scene.kernel = session.kernel();
        session.poll(None, &mut Vec::new());
        Ok(session)
    }
}
