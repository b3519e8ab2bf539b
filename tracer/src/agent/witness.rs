//! Notices changes on the node that may explain why a victim's syncs change, and sets marks.
//!
//! A thread of its own looks every two seconds, because a read about a disk that hangs may block,
//! and the agent's loop must not wait. The loop gives it the victims and culprits of each period;
//! it sets marks, as people do through the socket.

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use tracer_kernel::clock::monotonic_ns;
use tracer_node::changes::{Changes, Watched, WatchedActor};
use tracer_snapshot::{Actor, Snapshot};

use super::{log, marks::Mark, shared::Shared};
use crate::output::names;

/// The time between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// At most this number of victims, and of culprits, is looked at.
const VICTIMS: usize = 16;
const CULPRITS: usize = 16;

/// A culprit is looked at for this long after it was last named.
const NAMED_NS: u64 = 600_000_000_000;

/// A culprit with a smaller part of the excess is not looked at.
const CULPRIT_SHARE: f64 = 0.1;

const STACK_BYTES: usize = 256 << 10;

/// The list of what the thread looks at; the loop replaces it each period.
pub struct Witness {
    watched: Arc<Mutex<Watched>>,
    /// Culprits, and the time at which each was last named, the latest at the end.
    culprits: VecDeque<(WatchedActor, u64)>,
}

impl Witness {
    /// Starts the thread; it looks below `root`, and ends with the process.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(root: PathBuf, shared: Arc<Shared>) -> io::Result<Self> {
        let watched = Arc::<Mutex<Watched>>::default();
        let orders = Arc::clone(&watched);
        let look = move || {
            let mut changes = Changes::new(&root);
            loop {
                thread::sleep(EVERY);
                let watched = orders.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let found = changes.look(monotonic_ns(), &watched).into_iter();
                let refused = found.filter(|one| !shared.marks.put(Mark::seen(one.clone())));
                let refused = refused.count();
                if refused > 0 {
                    log::warn(&format!(
                        "sets no marks for {refused} changes, because too many came at once"
                    ));
                }
            }
        };
        let thread = thread::Builder::new().name("witness".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(look)?;
        Ok(Self { watched, culprits: VecDeque::new() })
    }

    /// From now on the thread looks at the victims of this period, and at culprits that were
    /// named in the last minutes.
    pub fn follow(&mut self, s: &Snapshot, now_ns: u64) {
        for victim in s.victims.iter().filter(|victim| victim.verdict.slower_than.is_some()) {
            let named = victim.verdict.culprits.iter();
            for culprit in named.filter(|culprit| culprit.share >= CULPRIT_SHARE) {
                if culprit.actor.kernel_thread {
                    continue;
                }
                let actor = watched_actor(&culprit.actor, true);
                self.culprits.retain(|(known, _)| *known != actor);
                self.culprits.push_back((actor, now_ns));
            }
        }
        self.culprits.retain(|(_, then)| now_ns.saturating_sub(*then) < NAMED_NS);
        self.culprits.drain(..self.culprits.len().saturating_sub(CULPRITS));
        let mut watched = Watched::default();
        let disk = |at: Option<usize>| s.disks.get(at?).map(|disk| &disk.name);
        for victim in s.victims.iter().take(VICTIMS) {
            watched.actors.push(watched_actor(&victim.actor, false));
            watched.disks.extend(disk(victim.disk).into_iter().chain(&victim.disks_below).cloned());
            watched.devices.push(victim.device.clone());
        }
        for names in [&mut watched.disks, &mut watched.devices] {
            names.sort();
            names.dedup();
        }
        watched.actors.extend(self.culprits.iter().map(|(actor, _)| actor.clone()));
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = watched;
    }
}

fn watched_actor(actor: &Actor, is_culprit: bool) -> WatchedActor {
    WatchedActor {
        name: names::actor(actor),
        tgid: actor.tgid,
        cgroup: actor.cgroup.clone(),
        is_culprit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::fixture;

    #[test]
    fn victims_and_culprits_of_the_last_minutes_are_looked_at() {
        let mut witness = Witness { watched: Arc::default(), culprits: VecDeque::new() };
        let s = fixture::trimmed();
        let watched = |witness: &Witness| witness.watched.lock().unwrap().clone();
        witness.follow(&s, 5);
        let now = watched(&witness);
        let culprits: Vec<_> = now.actors.iter().filter(|actor| actor.is_culprit).collect();
        assert_eq!(culprits.len(), 1, "{now:?}");
        assert!(culprits[0].name.starts_with("fstrim"), "{now:?}");
        assert!(now.actors.iter().any(|actor| actor.name.starts_with("etcd")), "{now:?}");
        assert!(now.disks.contains(&s.disks[0].name), "{now:?}");

        let nothing = Snapshot { victims: Vec::new(), ..s };
        witness.follow(&nothing, 5 + NAMED_NS - 1);
        assert_eq!(watched(&witness).actors.len(), 1);
        witness.follow(&nothing, 5 + NAMED_NS);
        assert_eq!(watched(&witness), Watched::default());
    }
}
