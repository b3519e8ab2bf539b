//! The running tracer: ties the kernel programs, the readers, the engine and
//! the identities together.
//!
//! [`Session::start`] loads and tests the programs; then the caller waits,
//! polls, and asks for snapshots. Knows no output.

mod again;
mod around;
mod aside;
mod asked;
mod calls;
mod demand;
mod dirtied;
mod flight;
mod freezes;
mod hanging;
mod helpers;
mod holders;
mod issues;
mod jail;
mod kept;
mod ledger;
mod loader;
mod modules;
mod pauses;
mod preflight;
mod prover;
mod self_test;
mod stacks;
mod start;
mod steps;
mod stops;
mod unproven;
mod used;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::Write,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tracer_ebpf::{
    dropped::Dropped,
    record::{SyncRecord, kind},
};
use tracer_engine::{tick::Tick, victim::Span};
use tracer_kernel::{
    clock::{both_ns, monotonic_ns},
    facts::Facts,
    load::{KernelLog, Programs},
    maps::{
        accounts::Accounts,
        freezes::Freezes,
        helpers::HelperThreads,
        pauses::Pauses,
        ring::{Record, RingReader},
        tallies::Tallies,
        under_way::UnderWay,
        whole_syncs::WholeSyncs,
    },
};
use tracer_node::{
    cache_drops::CacheDrops,
    disks::{Assigned, Hidden, Layers, Queues, Room, StackStates, Stacked},
    files::Files,
    helpers::Helpers,
    identity::Identities,
    surroundings::Surroundings,
};
use tracer_recording::{
    recorder::{Progress, Recorder},
    segments::flight::Flight,
};
use tracer_scene::{Scene, snapshot::Slow, stages::SyncInput};
use tracer_snapshot::{
    Kernel, SlowSync, Snapshot,
    clock::Clock,
    labels::{FileId, FileLabel},
};

use again::Completions;
use calls::Calls;
use demand::Demand;
use kept::References;
use modules::LateModules;
use self_test::SelfTest;
use used::read_used;

pub use aside::{Aside, bound};
pub use asked::AroundDisks;
pub use preflight::{CannotRun, Capabilities, check_user};
pub use start::Options;
pub use steps::{Conditions, StartStep};
pub use unproven::Unproven;

/// The time between two readings of the ledger.
const TICK: Duration = Duration::from_secs(1);

/// The time after a tick at which a flight recorder writes what it has of the second.
const HALF: Duration = Duration::from_millis(500);

/// A sync with the device of its filesystem. The kernel programs see no file in a `syncfs`, and
/// know its filesystem only once it has a request there; its descriptor has it at once.
fn located<'a>(record: &'a SyncRecord, label: &FileLabel) -> Cow<'a, SyncRecord> {
    match (record.kind, record.device) {
        (kind::SYNCFS, 0) => Cow::Owned(SyncRecord { device: label.device, ..*record }),
        _ => Cow::Borrowed(record),
    }
}

fn read_clock() -> Clock {
    let (unix_ns, monotonic_ns) = both_ns();
    Clock::at(unix_ns, monotonic_ns)
}

/// A running tracer.
pub struct Session {
    programs: Programs,
    facts: Facts,
    accounts: Accounts,
    ring: RingReader,
    self_test: SelfTest,
    /// The counts of completed requests by disk, at the last look for silent hooks.
    completed: BTreeMap<String, Completions>,
    scene: Scene,
    identities: Identities,
    files: Files,
    recorder: Option<Recorder>,
    flight: Option<Flight>,
    /// The tick after which half a second was recorded last.
    half_of_ns: u64,
    surroundings: Surroundings,
    tallies: Tallies,
    cache_drops: CacheDrops,
    freezes: Freezes,
    pauses: Pauses,
    whole_syncs: WholeSyncs,
    unseen: freezes::Unseen,
    stops: stops::Stops,
    holders: holders::Holders,
    helpers: Helpers,
    /// The threads of helpers that the kernel programs were given.
    helper_threads: HelperThreads,
    under_way: UnderWay,
    /// The files of syncs that have not ended, by thread and begin.
    hanging_files: BTreeMap<(u32, u64), FileId>,
    late_modules: LateModules,
    demands: [Demand; 4],
    dirtied: dirtied::Search,
    calls: Calls,
    /// Whether the issue of requests is hooked.
    issues_hooked: bool,
    /// Whether the hooks on who frees space are attached, because a kernel thread discarded some.
    frees_hooked: bool,
    /// Whether the hooks on bios are attached, because some disk carries.
    bios_hooked: bool,
    last_tick: Tick,
    root: PathBuf,
    queues: Queues,
    assigned: Vec<Assigned>,
    /// Disks without requests of their own that lie on one of these.
    stacked: Vec<Stacked>,
    /// Disks whose numbers are known from the kernel programs alone.
    hidden: Hidden,
    /// The disks that each disk lay on, at the last look.
    layers: Layers,
    stack_states: StackStates,
    room: Room,
    /// Disks for which there was no room.
    refused: Vec<String>,
    references: References,
    foreign: u64,
    ticked_ns: u64,
}

impl Session {
    /// Fails where a capability is missing that the tracer cannot do without.
    ///
    /// # Errors
    ///
    /// [`CannotRun`], naming it and what each strategy said.
    pub fn check_capabilities(&self) -> Result<()> {
        let Some(selection) = self.programs.missing() else { return Ok(()) };
        let tried: Vec<_> = selection.strategies.iter().map(|(n, o)| format!("{n}: {o}")).collect();
        let why = format!(
            "{} ({}); `tracer doctor` says what to do",
            selection.without,
            tried.join("; ")
        );
        Err(CannotRun(why).into())
    }

    /// Waits until the programs on demand are loaded too, some tenths of a second after the
    /// start. Only then it is known of each whether the kernel takes it.
    pub fn finish_loading(&mut self) {
        self.programs.finish_loading();
        self.scene.kernel = self.kernel();
    }

    /// A descriptor that becomes readable when there is much to poll. What comes
    /// slowly does not make it so: poll ten times a second at least.
    ///
    /// # Errors
    ///
    /// When this process has no descriptors left.
    pub fn wakeup(&self) -> Result<OwnedFd> {
        self.ring.as_fd().try_clone_to_owned().context("failed to watch the ring of records")
    }

    /// Takes in what the kernel has sent. Syncs of at least `slow_ns` are also
    /// described one by one, in `slow`.
    pub fn poll(&mut self, slow_ns: Option<u64>, slow: &mut Vec<SlowSync>) {
        let Self { ring, accounts, scene, files, identities, recorder, foreign, self_test, .. } =
            self;
        let mut unknown = Vec::new();
        files.look_at_mounts(monotonic_ns());
        ring.drain(|record| match record {
            Record::Sync(record, _) if self_test.keep_if_own(record) => {}
            Record::Sync(record, underlying) => {
                let end_ns = record.begin_ns + record.duration_ns;
                let (tgid, fd) = (record.tgid, record.fd);
                let file = match record.kind {
                    kind::SYNCFS | kind::SYNC => files.filesystem(tgid, fd, record.into(), end_ns),
                    _ => files.resolve(tgid, fd, record.into(), end_ns),
                };
                let record = located(record, files.label(file));
                let record = record.as_ref();
                accounts.find_owners(record, underlying);
                let input =
                    SyncInput { record, underlying, file, need_ns: accounts.need_ns(record) };
                let judged = scene.ingest(&input, |disk| accounts.owners(disk));
                let Scene { engine, actors, .. } = scene;
                // Later they may be gone.
                accounts.take_met(|actor, tgid| actors.resolve(identities, actor, tgid, end_ns));
                let victim = &engine.victims()[judged.victim];
                if victim.syncs_total == 1 {
                    actors.resolve(identities, victim.actor(), tgid, end_ns);
                }
                if let Some(recorder) = recorder {
                    recorder.sync(input, |disk| accounts.owners(disk), actors, files);
                }
                if slow_ns.is_some_and(|slow_ns| record.duration_ns >= slow_ns) {
                    let owners = accounts.owners(record.disk);
                    let tgid = &|account| accounts.last_tgid(record.disk, account);
                    let sync = Slow { sync: input, judged: &judged, owners, tgid };
                    slow.push(scene.slow_sync(&sync, files));
                }
            }
            Record::DiskUnknown(disk) => unknown.push(disk),
            Record::Foreign => *foreign += 1,
        });
        self.meet_disks(&unknown);
        self.sample_stops(monotonic_ns());
        self.tick_if_due(monotonic_ns());
    }

    fn tick_if_due(&mut self, now: u64) {
        if now.saturating_sub(self.ticked_ns) >= TICK.as_nanos() as u64 {
            self.tick(now);
        } else {
            self.record_half_if_due(now);
        }
    }

    /// Reads the ledger, the surroundings and what was dropped.
    fn tick(&mut self, now: u64) {
        self.ticked_ns = now;
        self.scene.set_clock(read_clock());
        // This comes before anything is asked about a disk by its name.
        self.look_at_disks();
        self.read_ledger(now);
        self.programs.look_at_loading();
        self.attach_call_hooks_if_needed();
        self.attach_issue_hook_if_busy_disks_need_it();
        let tick = self.read_tick(now);
        self.resolve_actors(&tick);
        let unfinished = self.find_unfinished(now);
        self.scene.tick(&tick, |owner| self.accounts.actor(owner));
        self.last_tick = tick;
        if self.accounts.is_crowded() {
            let victims = self.scene.engine.victims().iter();
            self.accounts.forget_owners(victims.flat_map(|victim| {
                let suspects = victim.suspects.iter().map(|suspect| suspect.owner);
                suspects.chain(victim.keepers().map(|(_, owner)| owner))
            }));
        }
        self.look_at_stacks(now);
        self.describe_hanging(&unfinished, now);
        self.look_at_modules(now);
        self.count_dropped();
        let unsupported = self.unsupported();
        self.scene.metrics.set_unsupported(unsupported.iter().map(|here| here.what));
        self.prove_again_if_due(now);
        self.self_test.tick(&mut self.programs);
        self.say_what_is_unproven();
        self.record_tick();
    }

    /// Brings the counters of what was dropped up to date.
    fn count_dropped(&self) {
        let Self { accounts, identities, files, scene, .. } = self;
        let Scene { engine, actors, metrics, .. } = scene;
        for kind in Dropped::ALL {
            let here = match kind {
                Dropped::HookMissed => self.programs.missed_runs(),
                Dropped::Reconciled => accounts.reconciled(),
                Dropped::DiskRefused => self.refused.len() as u64,
                Dropped::KernelEvicted => {
                    self.tallies.evicted() + self.pauses.evicted() + accounts.journals_evicted()
                }
                Dropped::LeftOut => engine.left_out() + self.unseen.left_out,
                Dropped::ReferenceRefused => self.references.refused,
                Dropped::Unrecorded => self.flight.as_ref().map_or(0, Flight::dropped),
                Dropped::RecordForeign => self.foreign,
                Dropped::OperationUnknown => accounts.operations_unknown(),
                Dropped::LedgerTorn => engine.torn(),
                Dropped::VictimEvicted => engine.evicted(),
                Dropped::IdentityUnresolved => identities.unresolved(),
                Dropped::ReadLate => {
                    identities.late() + files.late() + self.helpers.late() + self.queues.late()
                }
                Dropped::FileUnresolved => files.unresolved(),
                Dropped::NameEvicted => identities.evicted() + files.evicted() + actors.evicted(),
                Dropped::RingFull
                | Dropped::TableOverflow
                | Dropped::CompletionUnmatched
                | Dropped::SubmitterUnknown
                | Dropped::DirtierUnknown
                | Dropped::ReclaimUnmatched
                | Dropped::IssueUnseen
                | Dropped::Others
                | Dropped::DiskUnknown
                | Dropped::SyncTableFull
                | Dropped::SyncUnmatched
                | Dropped::CallUnseen => 0,
            };
            metrics.set_dropped(kind, accounts.tables().dropped(kind) + here);
        }
    }

    /// Begins a new period for snapshots.
    pub fn begin_period(&mut self) {
        self.scene.begin_period(monotonic_ns());
    }

    /// A snapshot of the last seconds.
    pub fn snapshot(&mut self) -> Snapshot {
        self.snapshot_of(Span::Window)
    }

    /// A snapshot of all that happened since the period began.
    pub fn snapshot_of(&mut self, span: Span) -> Snapshot {
        let now = monotonic_ns();
        self.tick_if_due(now);
        self.scene.disks = self.read_disks();
        self.scene.kernel = self.kernel();
        self.scene.metrics.set_used(&read_used());
        self.scene.snapshot(span, now, &mut self.files)
    }

    fn say_what_is_unproven(&mut self) {
        let unproven = self.self_test.unproven();
        self.scene.metrics.set_unproven(&Unproven::WORDS, unproven.map(Unproven::word));
        self.scene.kernel.unproven = self.unproven();
    }

    /// Why it is not known whether the hooks fire, in a sentence.
    pub fn unproven(&self) -> Option<String> {
        self.self_test.unproven().map(|unproven| unproven.sentence(monotonic_ns()))
    }

    fn kernel(&self) -> Kernel {
        let selections = self.selections();
        let strategies = selections
            .iter()
            .filter_map(|c| Some((c.capability.name().to_owned(), c.selected()?.to_owned())))
            .collect();
        let unsupported =
            self.unsupported().into_iter().map(|unsupported| unsupported.sentence).collect();
        let (release, unproven) = (self.facts.release.clone(), self.unproven());
        Kernel { release, unproven, strategies, unsupported }
    }

    /// From here on everything that snapshots are made of is also written to
    /// `out`, once a second and at [`Session::end_recording`].
    ///
    /// # Errors
    ///
    /// When the first line cannot be written.
    pub fn begin_recording(&mut self, out: Box<dyn Write>) -> Result<()> {
        self.scene.begin_period(monotonic_ns());
        self.scene.kernel = self.kernel();
        self.scene.actors.mark_all_changed();
        self.recorder = Some(Recorder::begin(out, &self.scene)?);
        Ok(())
    }

    fn record_tick(&mut self) {
        self.stop_if_stopped();
        if self.recorder.is_some() {
            self.scene.disks = self.read_disks();
            self.scene.kernel = self.kernel();
        }
        let Self { recorder, scene, accounts, last_tick, .. } = self;
        match recorder {
            Some(recorder) => recorder.tick(last_tick, scene, |owner| accounts.key(owner)),
            // Only the recorder needs the changed names.
            None => scene.actors.drain_changed(|_, _| ()),
        }
        self.begin_part_if_asked();
    }

    /// How much has been written so far; `None` where nothing is recorded.
    ///
    /// # Errors
    ///
    /// When something could not be written: then nothing more is.
    pub fn check_recording(&mut self) -> Result<Option<Progress>> {
        self.recorder.as_mut().map(Recorder::check).transpose()
    }

    /// Writes what is left, and that this is the end.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn end_recording(&mut self) -> Result<Option<Progress>> {
        let now = monotonic_ns();
        self.recorder.take().map(|recorder| recorder.end(now, &mut self.scene)).transpose()
    }

    /// The kernel programs' debug lines.
    ///
    /// # Errors
    ///
    /// When the log's ring cannot be opened.
    pub fn kernel_log(&self) -> Result<KernelLog> {
        self.programs.kernel_log().context("failed to read the kernel programs' log")
    }
}
