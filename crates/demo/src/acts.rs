//! Plays one act after the other, and shows what the tracer sees.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use tokio::time::{Instant, interval_at, sleep_until};

use tracer::commands::{Stop, Wakeup};
use tracer::output::{
    names,
    top::{
        state::{Action, View},
        terminal::{self, Guard, Input},
    },
    units, verdict,
};
use tracer::session::Session;
use tracer_snapshot::{DroppedCounts, FileClass, SlowSync, Snapshot, Totals, Victim};

use crate::{
    act::Act,
    report::{ActReport, Part},
    say::say,
    stage::Stage,
};

/// The full screen with its keys, on a terminal.
struct Screen {
    guard: Guard,
    keys: tokio::sync::mpsc::Receiver<Input>,
    view: View,
}

/// The tracer, and what it has seen by the beginning of an act.
pub struct Watcher<'a> {
    session: &'a mut Session,
    wakeup: Wakeup,
    disk: String,
    victim_pid: u32,
    screen: Option<Screen>,
    before: Totals,
}

impl<'a> Watcher<'a> {
    pub fn new(session: &'a mut Session, stage: &Stage, live: bool) -> Result<Self> {
        let screen = if live {
            let guard = terminal::enter()?;
            let keys = terminal::spawn_keys()?;
            Some(Screen { guard, keys, view: View::default() })
        } else {
            None
        };
        let (disk, victim_pid) = (stage.disk().to_owned(), stage.victim_pid());
        let wakeup = Wakeup::new(session)?;
        Ok(Self { session, wakeup, disk, victim_pid, screen, before: Totals::default() })
    }

    /// Waits until the last second's blame is settled, so that nothing of an act is attributed
    /// to the next one. Returns false if the user has quit.
    pub async fn settle(&mut self, stop: &mut Stop) -> bool {
        let settled = Instant::now() + SETTLED;
        while Instant::now() < settled {
            tokio::select! {
                () = stop.wait() => return false,
                () = self.wakeup.wait() => {}
            }
            self.session.poll(None, &mut Vec::new());
        }
        true
    }

    /// Watches one act; `None` if the user has quit.
    pub async fn watch(
        &mut self,
        act: Act,
        length: Duration,
        stop: &mut Stop,
    ) -> Result<Option<ActReport>> {
        let end = Instant::now() + length;
        let mut ticks = interval_at(Instant::now() + Duration::from_secs(1), TICK);
        let mut latency = Histogram::<u64>::new_with_bounds(1_000, 3_600_000_000_000, 3)?;
        let mut slow = Vec::new();
        if self.screen.is_none() {
            say(&format!("--- {} ---", act.title()));
        }
        // Syncs since the end of the previous act belong to no act.
        self.session.poll(None, &mut slow);
        let snapshot = self.session.snapshot();
        self.before = self.wal(&snapshot).map(|v| v.total.clone()).unwrap_or_default();
        loop {
            tokio::select! {
                () = sleep_until(end) => break,
                () = stop.wait() => return Ok(None),
                () = self.wakeup.wait() => {}
                _ = ticks.tick() => self.show(act)?,
                input = next_key(&mut self.screen) => if !self.take_key(act, input)? {
                    return Ok(None);
                },
            }
            self.session.poll(Some(0), &mut slow);
            self.keep(&mut latency, &mut slow);
        }
        self.session.poll(Some(0), &mut slow);
        self.keep(&mut latency, &mut slow);
        Ok(Some(self.report(act, length, &latency)))
    }

    /// Restores the terminal.
    pub fn finish(self) -> DroppedCounts {
        self.session.snapshot().dropped
    }

    /// All WAL syncs so far, by etcd's bounds.
    pub fn wal_buckets(&mut self) -> Vec<u64> {
        self.session.poll(None, &mut Vec::new());
        let snapshot = self.session.snapshot();
        self.wal(&snapshot).map(|v| v.wal_buckets.clone()).unwrap_or_default()
    }

    fn wal<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s Victim> {
        snapshot
            .victims
            .iter()
            .find(|v| v.actor.tgid == self.victim_pid && v.class == FileClass::Wal)
    }

    fn keep(&self, latency: &mut Histogram<u64>, slow: &mut Vec<SlowSync>) {
        for sync in slow.drain(..) {
            if sync.actor.tgid == self.victim_pid && sync.class == FileClass::Wal {
                latency.saturating_record((sync.duration_seconds * 1e9) as u64);
            }
        }
    }

    fn on_the_labs_disk(&mut self) -> Snapshot {
        let mut snapshot = self.session.snapshot();
        let disk = snapshot.disks.iter().position(|d| d.name == self.disk);
        snapshot.victims.retain(|v| disk.is_some() && v.disk == disk);
        snapshot
    }

    fn show(&mut self, act: Act) -> Result<()> {
        let snapshot = self.on_the_labs_disk();
        if let Some(screen) = &mut self.screen {
            screen.view.title = Some(format!("demo: {}", act.title()));
            return screen.guard.draw(&screen.view, &snapshot);
        }
        if let Some(wal) = self.wal(&snapshot) {
            say(&format!(
                "{:>4.0} WAL syncs/s  p50 {}  p99 {}  {}",
                wal.syncs_per_second,
                units::duration(wal.p50_seconds),
                units::duration(wal.p99_seconds),
                verdict::sentence(wal),
            ));
        }
        Ok(())
    }

    fn take_key(&mut self, act: Act, input: Option<Input>) -> Result<bool> {
        let snapshot = self.on_the_labs_disk();
        let Some(screen) = &mut self.screen else { return Ok(true) };
        match input {
            Some(Input::Key(key)) => {
                if screen.view.key(key, &snapshot) == Action::Quit {
                    return Ok(false);
                }
            }
            Some(Input::Resize) => {}
            None => return Ok(false),
        }
        self.show(act).map(|()| true)
    }

    /// Reports the blame of this act alone.
    fn report(&mut self, act: Act, length: Duration, latency: &Histogram<u64>) -> ActReport {
        let snapshot = self.session.snapshot();
        let wal = self.wal(&snapshot);
        let now = wal.map(|v| v.total.clone()).unwrap_or_default();
        let before = &self.before;
        let excess = now.excess_seconds - before.excess_seconds;
        let share = |seconds: f64| if excess > 0.0 { seconds / excess } else { 0.0 };
        let mut blame: Vec<Part> = now
            .blame
            .iter()
            .map(|b| {
                let same = |c: &&tracer_snapshot::Blame| {
                    c.op == b.op && names::is_same(&c.actor, &b.actor)
                };
                let earlier = before.blame.iter().find(same).map_or(0.0, |c| c.seconds);
                let seconds = b.seconds - earlier;
                Part { actor: b.actor.clone(), op: b.op, seconds, share: share(seconds) }
            })
            .filter(|part| part.seconds > 0.0)
            .collect();
        blame.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let quantile = |q| latency.value_at_quantile(q) as f64 / 1e9;
        ActReport {
            act,
            seconds: length.as_secs_f64(),
            syncs: latency.len(),
            sync_seconds: latency.mean() * latency.len() as f64 / 1e9,
            p50_seconds: quantile(0.50),
            p99_seconds: quantile(0.99),
            max_seconds: latency.max() as f64 / 1e9,
            undisturbed_p99_seconds: wal.and_then(|v| v.undisturbed_p99_seconds),
            excess_seconds: excess,
            device_alone_share: share(now.device_alone_seconds - before.device_alone_seconds),
            self_share: share(now.self_seconds - before.self_seconds),
            blame,
        }
    }
}

const TICK: Duration = Duration::from_secs(1);

/// The engine settles blame at its ticks, once a second.
const SETTLED: Duration = Duration::from_millis(1500);

/// Waits for a key; without a terminal it waits forever.
async fn next_key(screen: &mut Option<Screen>) -> Option<Input> {
    match screen {
        Some(screen) => screen.keys.recv().await,
        None => std::future::pending().await,
    }
}
