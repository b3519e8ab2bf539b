//! `tracer agent`: runs on a node for good, and tells whoever asks.
//!
//! One thread traces and judges, another answers (`agent::http`). Each period's
//! verdicts are added to the counters, so that metrics and `tracer why` say the
//! same.

use std::{
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::{Wakeup, start};
use crate::{
    agent::{
        config::{Config, Settings},
        disk_series::DiskSeries,
        families::{Beside, families},
        http,
        keeper::Keeper,
        log,
        privileges::{self, Privileges},
        series::{Observed, Series},
        shared::{Picture, Shared},
    },
    cli::AgentArgs,
    session::{Options, Session, check_user},
};
use tracer_engine::victim::Span;
use tracer_kernel::clock::{monotonic_ns, unix_ns};

/// # Errors
///
/// When the configuration is bad, the address is taken, or the tracer cannot
/// start.
pub async fn run(args: &AgentArgs, options: &Options) -> Result<()> {
    let settings = Settings { state_dir: options.state_dir.clone(), ..args.settings.clone() };
    let config = Config::load(&settings, args.config.as_deref())?;
    if args.print_config {
        let mut out = io::stdout().lock();
        let printed = out.write_all(config.to_toml()?.as_bytes()).and_then(|()| out.flush());
        return printed.context("cannot print");
    }
    check_user()?;
    // From here on a signal waits for the loop.
    let watch = |kind| signal(kind).context("failed to watch for signals");
    let mut hangup = watch(SignalKind::hangup())?;
    let mut terminate = watch(SignalKind::terminate())?;
    let mut interrupt = watch(SignalKind::interrupt())?;

    // The address first: who has taken it is told before anything is loaded, and
    // a port below 1024 takes a capability.
    let listener = http::listen(config.listen)?;
    let address = listener.local_addr().unwrap_or(config.listen);
    let shared = Arc::new(Shared::new(config.slow_syncs));
    let privileges = if config.keep_privileges { Privileges::Keep } else { Privileges::Drop };
    http::serve(listener, Arc::clone(&shared), privileges)?;
    let session = start(options)?;
    let wakeup = Wakeup::new(&session)?;
    if let Some(why) = session.unproven() {
        log::say(&format!("unproven: {why}"));
    }
    for (capability, why) in privileges::lacking() {
        log::say(&format!("lacks {capability} ({why}): some files stay without a name"));
    }
    give_up(privileges)?;
    let mut session = session;
    let keeper = config.state_dir.as_deref().map(|path| Keeper::begin(path, &mut session));
    let mut agent = Agent::new(config, settings, session, keeper, Arc::clone(&shared));
    agent.publish();
    shared.tick();
    shared.set_ready();
    log::say(&format!("serves on http://{address} for node {}", agent.config.node));

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
    log::say("stops, as it was asked to");
    agent.end();
    Ok(())
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
        log::say("keeps all its capabilities, as it was asked to");
        return Ok(());
    }
    let kept = privileges::drop_most().context("failed to give up privileges")?;
    let kept: Vec<_> = kept.iter().map(ToString::to_string).collect();
    log::say(&format!("gave up all capabilities but {}", kept.join(", ")));
    Ok(())
}

/// What the loop owns.
struct Agent {
    config: Config,
    /// Said by flags and environment.
    settings: Settings,
    session: Session,
    keeper: Option<Keeper>,
    series: Series,
    disk_series: DiskSeries,
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
        Self {
            config,
            settings,
            session,
            keeper,
            series,
            disk_series,
            shared,
            slow: Vec::new(),
            reloads: 0,
            reload_failures: 0,
        }
    }

    /// Keeps the references of this run.
    fn end(mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.end(&mut self.session, unix_seconds());
        }
    }

    fn poll(&mut self) {
        let min_ns = u64::try_from(self.config.min_sync.as_nanos()).unwrap_or(u64::MAX);
        self.session.poll(Some(min_ns), &mut self.slow);
        if !self.slow.is_empty() {
            self.shared.push(&mut self.slow);
        }
        self.shared.tick();
    }

    /// Ends a period: its verdicts become counters, and everybody sees it.
    fn publish(&mut self) {
        self.poll();
        if let Some(keeper) = &mut self.keeper {
            keeper.keep_if_due(&mut self.session, unix_seconds());
        }
        let snapshot = self.session.snapshot_of(Span::Period);
        self.session.begin_period();
        let now = monotonic_ns() as f64 / 1e9;
        self.series.take(now, snapshot.victims.iter().map(Observed::of));
        self.disk_series.take(now, &snapshot.disks, &self.session.around_disks(&snapshot));
        let beside = Beside {
            own: self.session.metric_families(),
            programs: self.session.run_stats(),
            kernel_memory_bytes: self.session.kernel_memory_bytes(),
            config_reloads: self.reloads,
            config_reload_failures: self.reload_failures,
        };
        let families = families(&self.series, &self.disk_series, &snapshot, &beside);
        self.shared.set_picture(Picture::new(self.config.node.clone(), snapshot, families));
    }

    /// Reads the file again; where it is bad, everything stays as it is.
    /// Returns whether the period begins anew.
    fn reload(&mut self, file: Option<&Path>) -> bool {
        if file.is_none() {
            log::say("there is no --config to read again");
            return false;
        }
        let new = match Config::load(&self.settings, file) {
            Ok(new) => new,
            Err(error) => {
                self.reload_failures += 1;
                log::say(&format!("keeps its configuration: {error:#}"));
                return false;
            }
        };
        self.reloads += 1;
        let waiting = self.config.needs_restart(&new);
        if !waiting.is_empty() {
            log::say(&format!("needs a restart for the new {}", waiting.join(", ")));
        }
        // What was told to need a restart is told at the next reload again.
        let Config { listen, node, keep_privileges, state_dir, .. } = self.config.clone();
        let is_new_period = new.period != self.config.period;
        self.config = Config { listen, node, keep_privileges, state_dir, ..new };
        self.series.set_limits(self.config.limits());
        self.disk_series.set_limits(self.config.disk_limits());
        self.shared.set_room(self.config.slow_syncs);
        log::say("has read its configuration again");
        is_new_period
    }
}
