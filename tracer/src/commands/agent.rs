//! `tracer agent`: runs permanently on a node, and answers scrapes and requests.
//!
//! One thread traces and judges, another answers (`agent::http`). Each period's
//! verdicts are added to the counters, so that metrics and `tracer why` give the
//! same account.

use std::{
    io::{self, Write as _},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::{Wakeup, past::answers, start_by_steps};
use crate::{
    agent::{
        config::{Config, settings::Settings},
        disk_series::DiskSeries,
        families::{AgentState, families},
        http::{self, Door, Serves},
        keeper::Keeper,
        log,
        marks::Mark,
        past::Past,
        privileges::{self, Privileges},
        published::Published,
        series::{Observed, Series},
        shared::{Down, Shared},
        socket::Socket,
        web::gate::Gate,
        witness::Witness,
    },
    cli::AgentArgs,
    filter::Filter,
    session::{Conditions, Options, Session, StartStep},
};
use tracer_engine::victim::Span;
use tracer_kernel::clock::{monotonic_ns, unix_ns};
use tracer_node::errand;
use tracer_recording::segments::flight::Flight;

/// The time between two tries to trace a node that cannot be traced.
const AGAIN: Duration = Duration::from_secs(300);

/// How long the loop waits, at most, for the threads that read for its start.
const READERS_END: Duration = Duration::from_secs(1);

/// The time between two looks at what a try depends on.
const LOOK: Duration = Duration::from_secs(5);

/// Runs the agent. On a node that cannot be traced it keeps running, reports why, and
/// tries again: a process that exits would hold up a rollout, and could not be queried.
///
/// # Errors
///
/// When the configuration is bad or the address is taken; and when the tracer cannot
/// start, if the agent is to exit in that case.
pub async fn run(args: &AgentArgs, options: &Options) -> Result<()> {
    let options = &Options { loads_later: !args.no_loader, ..options.clone() };
    let settings = Settings { state_dir: options.state_dir.clone(), ..args.settings.clone() };
    // A mistake in the file is said in the format that a flag asks for.
    log::set_format(settings.log_format.unwrap_or_default());
    let config = Config::load(&settings, args.config.as_deref())?;
    log::set_format(config.log_format);
    if args.print_config {
        let mut out = io::stdout().lock();
        let printed = out.write_all(config.to_toml()?.as_bytes()).and_then(|()| out.flush());
        return printed.context("failed to print");
    }
    // From here on a signal waits for the loop.
    let watch = |kind| signal(kind).context("failed to watch for signals");
    let mut hangup = watch(SignalKind::hangup())?;
    let mut terminate = watch(SignalKind::terminate())?;
    let mut interrupt = watch(SignalKind::interrupt())?;

    // The address is bound first, so that an address in use is reported before anything is
    // loaded, and because a port below 1024 takes a capability that is given up later.
    let gate = Arc::new(Gate::new(config.web_config.as_deref())?);
    let allowed: Arc<[String]> = config.allowed_hosts.clone().into();
    let listener = http::listen(config.listen)?;
    let probes = config.probe_listen.map(http::listen).transpose()?;
    let address = listener.local_addr().unwrap_or(config.listen);
    let shared = Arc::new(Shared::new(config.slow_syncs));
    let privileges = if config.keep_privileges { Privileges::Keep } else { Privileges::Drop };
    // The socket goes when the agent ends.
    let (_socket, socket) = config.socket.as_deref().map(Socket::listen).transpose()?.unzip();
    let main = Door::new(listener, Serves::Everything, Arc::clone(&gate), Arc::clone(&allowed));
    let probes =
        probes.map(|listener| Door::new(listener, Serves::Probes, Arc::default(), allowed));
    let doors = [main].into_iter().chain(probes).chain(socket.map(Door::of_socket)).collect();
    let past = Past::new(config.record.clone(), answers::answer);
    http::serve(doors, Arc::clone(&shared), past, privileges)?;
    let trying = async {
        loop {
            if let Some(session) = try_start(args, options, &shared)? {
                return Ok::<_, anyhow::Error>(session);
            }
            wait_for_another_try(options).await;
        }
    };
    let mut session = tokio::select! {
        session = trying => session?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let wakeup = Wakeup::new(&session)?;
    if let Some(why) = session.unproven() {
        log::warn(&format!("unproven: {why}"));
    }
    for (capability, why) in privileges::lacking() {
        log::warn(&format!("lacks {capability} ({why}): some files stay without a name"));
    }
    // The thread that loads has the privileges, too.
    session.finish_loading();
    give_up(privileges)?;
    let keeper = config.state_dir.as_deref().map(|path| Keeper::begin(path, &mut session));
    let mut witness = None;
    if let Some(path) = config.record.as_deref() {
        witness = Witness::start(options.root.clone(), Arc::clone(&shared))
            .inspect_err(|error| log::warn(&format!("sets no marks by itself ({error})")))
            .ok();
        match Flight::start(path, config.record_size) {
            Ok(flight) => session.begin_flight(flight),
            Err(error) => {
                log::warn(&format!("records nothing: failed to start its thread ({error})"));
            }
        }
    }
    let mut agent = Agent::new(config, settings, session, keeper, Arc::clone(&shared));
    agent.witness = witness;
    agent.say_filter();
    agent.publish();
    shared.tick();
    shared.set_ready();
    let scheme = if gate.now().tls.is_some() { "https" } else { "http" };
    log::say(&format!("serves on {scheme}://{address} for node {}", agent.config.node));

    let mut ticks = every(&agent.config);
    loop {
        tokio::select! {
            () = wakeup.wait() => agent.poll(),
            _ = ticks.tick() => agent.publish(),
            _ = hangup.recv() => {
                if agent.reload(args.config.as_deref()) {
                    ticks = every(&agent.config);
                }
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    log::say("stops on request");
    agent.end();
    Ok(())
}

/// Starts the tracer, or shows why this node cannot be traced: then there is none.
fn try_start(args: &AgentArgs, options: &Options, shared: &Shared) -> Result<Option<Session>> {
    let mut step = StartStep::default();
    match start_by_steps(options, &mut step) {
        Ok(session) => {
            shared.set_down(None);
            Ok(Some(session))
        }
        Err(error) if args.exit_on_failure => Err(error),
        Err(error) => {
            let why = format!("{error:#}");
            if shared.down().is_none_or(|down| down.why() != why) {
                let minutes = AGAIN.as_secs() / 60;
                log::error(&format!("cannot trace this node: {why}"));
                log::say(&format!("stays, and tries again every {minutes} min"));
            }
            shared.set_down(Some(Down::new(step.name(), why)));
            Ok(None)
        }
    }
}

/// Waits until it is time to try again, or what a start depends on has changed.
async fn wait_for_another_try(options: &Options) {
    let until = Instant::now() + AGAIN;
    let before = Conditions::look(options);
    while Instant::now() < until && Conditions::look(options) == before {
        tokio::time::sleep(LOOK).await;
    }
}

/// A clock that was never set is in 1970.
fn unix_seconds() -> u64 {
    u64::try_from(unix_ns() / 1_000_000_000).unwrap_or(0)
}

fn every(config: &Config) -> Interval {
    let mut ticks = interval_at(Instant::now() + config.period, config.period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn give_up(privileges: Privileges) -> Result<()> {
    if privileges == Privileges::Keep {
        log::say("keeps all its capabilities, as configured");
        return Ok(());
    }
    let kept = privileges::drop_most().context("failed to give up privileges")?;
    // Threads that read for the start have its capabilities, and end within a moment.
    let until = Instant::now() + READERS_END;
    while !privileges::threads_with_more().is_empty() && Instant::now() < until {
        thread::sleep(errand::IDLE);
    }
    for name in privileges::threads_with_more() {
        log::warn(&format!(
            "a thread ({name}) still waits for a read of the start, and keeps its \
             capabilities until that answers"
        ));
    }
    let kept: Vec<_> = kept.iter().map(ToString::to_string).collect();
    log::say(&format!("gave up all capabilities but {}", kept.join(", ")));
    Ok(())
}

/// The state of the agent's loop.
struct Agent {
    config: Config,
    /// Settings that flags and environment gave.
    settings: Settings,
    session: Session,
    keeper: Option<Keeper>,
    /// Sets marks by itself, where there is a recording.
    witness: Option<Witness>,
    series: Series,
    disk_series: DiskSeries,
    filter: Filter,
    shared: Arc<Shared>,
    slow: Vec<tracer_snapshot::SlowSync>,
    reloads: u64,
    reload_failures: u64,
}

impl Agent {
    fn new(
        config: Config,
        settings: Settings,
        session: Session,
        keeper: Option<Keeper>,
        shared: Arc<Shared>,
    ) -> Self {
        let series = Series::new(config.limits());
        let disk_series = DiskSeries::new(config.disk_limits());
        let filter = config.filter();
        Self {
            config,
            settings,
            session,
            keeper,
            witness: None,
            series,
            disk_series,
            filter,
            shared,
            slow: Vec::new(),
            reloads: 0,
            reload_failures: 0,
        }
    }

    /// Writes the references of this run, and the end of its recording.
    fn end(mut self) {
        if !self.session.end_flight() {
            log::say("has not written the end of its recording: its disk does not answer");
        }
        if let Some(keeper) = self.keeper.take() {
            keeper.end(&mut self.session, unix_seconds());
        }
    }

    /// Logs what the filter shows, so that a reader of the log knows why the rest is
    /// missing.
    fn say_filter(&self) {
        if let Some(only) = self.filter.only() {
            log::say(&format!("shows only {only}; culprits are named wherever they run"));
        }
    }

    fn poll(&mut self) {
        let min_ns = u64::try_from(self.config.min_sync.as_nanos()).unwrap_or(u64::MAX);
        self.session.poll(Some(min_ns), &mut self.slow);
        if !self.slow.is_empty() {
            self.shared.push(&mut self.slow, &self.filter);
        }
        if self.session.is_recorded() {
            for Mark { text, uid, seen } in self.shared.marks.drain() {
                self.session.mark(text, uid, seen);
            }
        }
        self.shared.tick();
    }

    /// Ends a period: its verdicts are added to the counters, and its snapshot is
    /// published.
    fn publish(&mut self) {
        self.poll();
        if let Some(keeper) = &mut self.keeper {
            keeper.keep_if_due(&mut self.session, unix_seconds());
        }
        self.session.take_flight_notes().iter().for_each(|note| log::say(note));
        let mut snapshot = self.session.snapshot_of(Span::Period);
        self.session.begin_period();
        self.filter.narrow(&mut snapshot);
        if let Some(witness) = &mut self.witness {
            witness.follow(&snapshot, monotonic_ns());
        }
        let now = monotonic_ns() as f64 / 1e9;
        self.series.update(now, snapshot.victims.iter().map(Observed::of));
        self.disk_series.update(now, &snapshot.disks, &self.session.around_disks(&snapshot));
        let [web_reloads, web_failures] = self.shared.web_reloads();
        let agent = AgentState {
            own: self.session.metric_families(),
            programs: self.session.run_stats(),
            kernel_memory_bytes: self.session.kernel_memory_bytes(),
            config_reloads: self.reloads + web_reloads,
            config_reload_failures: self.reload_failures + web_failures,
            metrics: self.config.metrics.clone(),
            refused: self.shared.refused().to_vec(),
        };
        let families = families(&self.series, &self.disk_series, &snapshot, &agent);
        self.shared.publish(Published::new(self.config.node.clone(), snapshot, families));
    }

    /// Reads the file again; where it is bad, everything stays as it is.
    /// Returns whether the period begins again.
    fn reload(&mut self, file: Option<&Path>) -> bool {
        if file.is_none() {
            log::warn("there is no --config to read again");
            return false;
        }
        let new = match Config::load(&self.settings, file) {
            Ok(new) => new,
            Err(error) => {
                self.reload_failures += 1;
                log::warn(&format!("keeps its configuration: {error:#}"));
                return false;
            }
        };
        self.reloads += 1;
        let waiting = self.config.needs_restart(&new);
        if !waiting.is_empty() {
            log::warn(&format!("needs a restart for the new {}", waiting.join(", ")));
        }
        let is_new_period = new.period != self.config.period;
        self.config = new.with_what_needs_a_restart(&self.config);
        log::set_format(self.config.log_format);
        self.series.set_limits(self.config.limits());
        self.disk_series.set_limits(self.config.disk_limits());
        self.shared.set_room(self.config.slow_syncs);
        self.filter = self.config.filter();
        self.say_filter();
        log::say("has read its configuration again");
        is_new_period
    }
}
