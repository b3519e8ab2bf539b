//! Names the actors that the engine and the ledger refer to.
//!
//! Actors come in as soon as they are seen, with the process that acted last;
//! their names can be read at any later time. A name stays known after the
//! process has ended and its cgroup is gone, for as long as the actor is in
//! use. Names are resolved through [`Identify`], at most `ASKED_PER_TICK`
//! a second.

use std::collections::{HashMap, HashSet};

use tracer_ebpf::pid;
use tracer_engine::blame::ActorId;
use tracer_snapshot::{Actor, labels::Identify};

use super::snapshot::comm_text;

/// Actors remembered, at about 300 bytes each.
const MAX_ACTORS: usize = 16_384;

/// With more names than this, those that are not in use are dropped.
const CROWDED: usize = 8192;

/// Identities asked for in one second; each may read some files of /proc.
const ASKED_PER_TICK: u32 = 256;

/// How long an answer holds; after that it is asked again, since a process may execute
/// another program.
const BELIEVED_NS: u64 = 5_000_000_000;

/// For this many seconds in a row the name of an actor without a cgroup is asked for again,
/// since the walk through all cgroups is not made each second.
const TRIES: u8 = 30;

#[derive(Debug)]
struct NamedActor {
    actor: Actor,
    asked_ns: u64,
}

/// Everybody who was seen.
#[derive(Debug)]
pub struct Actors {
    known: HashMap<ActorId, NamedActor>,
    /// Actors whose names are new since the last [`Actors::drain_changed`].
    news: Vec<ActorId>,
    /// Newcomers of a second in which no more could be resolved, with their
    /// processes: they may be seen only once.
    waiting: Vec<(ActorId, u32)>,
    /// Actors whose cgroup is not resolved yet, and how often it is still tried.
    unnamed: Vec<(ActorId, u8)>,
    asks_left: u32,
    evicted: u64,
}

impl Default for Actors {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            news: Vec::new(),
            waiting: Vec::new(),
            unnamed: Vec::new(),
            asks_left: ASKED_PER_TICK,
            evicted: 0,
        }
    }
}

impl Actors {
    /// Finds out who somebody is, unless that is known. `tgid` is the process
    /// that acted last, 0 where none is known.
    pub fn resolve(&mut self, names: &mut dyn Identify, id: ActorId, tgid: u32, now_ns: u64) {
        let tgid = pid::here(tgid);
        let known = self.known.get(&id);
        let is_known = known.is_some_and(|known| {
            let is_named = !known.actor.cgroup.is_empty() || known.actor.kernel_thread;
            let is_fresh = now_ns.saturating_sub(known.asked_ns) < BELIEVED_NS;
            // Without a process there is nothing new to ask.
            is_named && (tgid == 0 || tgid == known.actor.tgid && is_fresh)
        });
        if is_known {
            return;
        }
        let is_new = known.is_none();
        if is_new && self.asks_left == 0 {
            self.wait(id, tgid);
            return;
        }
        self.ask(names, id, tgid, now_ns);
        if is_new && self.is_unnamed(&id) {
            self.unnamed.push((id, TRIES));
        }
    }

    fn wait(&mut self, id: ActorId, tgid: u32) {
        if self.waiting.len() < MAX_ACTORS {
            self.waiting.push((id, tgid));
        } else {
            self.evicted += 1;
        }
    }

    /// Finds out who those are that have no name yet; to be called once a second.
    pub fn ask_again(&mut self, names: &mut dyn Identify, now_ns: u64) {
        for (id, tgid) in std::mem::take(&mut self.waiting) {
            self.resolve(names, id, tgid, now_ns);
        }
        let mut unnamed = std::mem::take(&mut self.unnamed);
        unnamed.retain_mut(|(id, tries)| {
            // The actor was named or forgotten meanwhile, and asking would add it again.
            if !self.is_unnamed(id) {
                return false;
            }
            // The other half is left for newcomers.
            if self.asks_left <= ASKED_PER_TICK / 2 {
                return true;
            }
            let tgid = self.find(id).map_or(0, |actor| actor.tgid);
            self.ask(names, *id, tgid, now_ns);
            *tries -= 1;
            *tries > 0 && self.is_unnamed(id)
        });
        self.unnamed = unnamed;
    }

    fn is_unnamed(&self, id: &ActorId) -> bool {
        self.find(id).is_some_and(|actor| actor.cgroup.is_empty() && !actor.kernel_thread)
    }

    fn ask(&mut self, names: &mut dyn Identify, id: ActorId, tgid: u32, now_ns: u64) {
        if self.asks_left == 0 {
            return;
        }
        self.asks_left -= 1;
        let known = self.known.get(&id);
        let comm = comm_text(&id.comm);
        let mut actor = names.actor(&comm, tgid, id.cgroup, id.kthread, now_ns);
        if let Some(NamedActor { actor: before, .. }) = known {
            if actor.cgroup.is_empty() {
                (actor.cgroup, actor.unit) = (before.cgroup.clone(), before.unit.clone());
                actor.workload = before.workload.clone();
            }
            if actor.tgid == 0 {
                actor.tgid = before.tgid;
            }
        }
        self.learn(id, actor, now_ns);
    }

    /// Adds an actor that was resolved elsewhere, such as one in a recording.
    pub fn learn(&mut self, id: ActorId, actor: Actor, now_ns: u64) {
        if self.known.len() >= MAX_ACTORS && !self.known.contains_key(&id) {
            self.evicted += 1;
            return;
        }
        let before = self.known.insert(id, NamedActor { actor, asked_ns: now_ns });
        let is_news = before.is_none_or(|before| before.actor != self.known[&id].actor);
        if is_news && self.news.len() < MAX_ACTORS {
            self.news.push(id);
        }
    }

    /// The names of an actor; only the kernel's own fields if they are not resolved yet.
    pub fn actor(&self, id: &ActorId) -> Actor {
        self.find(id).cloned().unwrap_or_else(|| Actor {
            comm: comm_text(&id.comm),
            kernel_thread: id.kthread,
            ..Actor::default()
        })
    }

    pub fn find(&self, id: &ActorId) -> Option<&Actor> {
        self.known.get(id).map(|known| &known.actor)
    }

    /// Passes on all actors whose name is new since the last call.
    pub fn drain_changed(&mut self, mut take: impl FnMut(&ActorId, &Actor)) {
        for id in self.news.drain(..) {
            if let Some(known) = self.known.get(&id) {
                take(&id, &known.actor);
            }
        }
    }

    /// Makes all names new again, for a reader that has none of them yet.
    pub fn mark_all_changed(&mut self) {
        self.news.clear();
        self.news.extend(self.known.keys());
    }

    /// Allows `ASKED_PER_TICK` more names to be asked for; to be called once a second.
    pub fn refill(&mut self) {
        self.asks_left = ASKED_PER_TICK;
    }

    /// Whether there are enough names that unused ones should be forgotten.
    pub fn is_crowded(&self) -> bool {
        self.known.len() >= CROWDED
    }

    /// Forgets all actors that are not in `spoken_of`.
    pub fn forget_others(&mut self, spoken_of: &HashSet<ActorId>) {
        self.known.retain(|id, _| spoken_of.contains(id));
    }

    /// Actors for whom there was no room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use tracer_node::identity::Identities;

    use super::*;

    fn id(cgroup: u64) -> ActorId {
        let mut comm = [0; 16];
        comm[..4].copy_from_slice(b"etcd");
        ActorId { cgroup, comm, kthread: false }
    }

    fn actor(tgid: u32, cgroup: &str) -> Actor {
        Actor { comm: "etcd".to_owned(), tgid, cgroup: cgroup.to_owned(), ..Actor::default() }
    }

    fn news(actors: &mut Actors) -> Vec<(u64, u32)> {
        let mut news = Vec::new();
        actors.drain_changed(|id, actor| news.push((id.cgroup, actor.tgid)));
        news
    }

    #[test]
    fn who_had_no_name_at_first_is_asked_for_again() {
        let node = tempfile::tempdir().unwrap();
        let mut identities = Identities::new(node.path(), node.path());
        let mut actors = Actors::default();
        actors.resolve(&mut identities, id(5), 7, 0);
        assert!(actors.is_unnamed(&id(5)));
        let process = node.path().join("proc/7");
        std::fs::create_dir_all(&process).unwrap();
        let stat = "7 (etcd) S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0";
        std::fs::write(process.join("stat"), stat).unwrap();
        std::fs::write(process.join("cgroup"), "0::/a.slice/etcd.service\n").unwrap();
        actors.refill();
        actors.ask_again(&mut identities, 10_000_000_000);
        assert_eq!(actors.actor(&id(5)).cgroup, "/a.slice/etcd.service");
        assert!(actors.unnamed.is_empty());
    }

    #[test]
    fn who_was_forgotten_is_not_asked_for_again() {
        let node = tempfile::tempdir().unwrap();
        let mut identities = Identities::new(node.path(), node.path());
        let mut actors = Actors::default();
        actors.resolve(&mut identities, id(5), 7, 0);
        actors.forget_others(&HashSet::new());
        actors.refill();
        actors.ask_again(&mut identities, 10_000_000_000);
        assert!(actors.find(&id(5)).is_none() && actors.unnamed.is_empty());
        assert_eq!(actors.asks_left, ASKED_PER_TICK);
    }

    #[test]
    fn who_is_never_named_is_asked_for_so_often_and_no_more() {
        let node = tempfile::tempdir().unwrap();
        let mut identities = Identities::new(node.path(), node.path());
        let mut actors = Actors::default();
        for cgroup in 0..2_000 {
            actors.resolve(&mut identities, id(cgroup), 0, 0);
            actors.refill();
        }
        let mut seconds = 0;
        while !actors.unnamed.is_empty() {
            seconds += 1;
            actors.refill();
            actors.ask_again(&mut identities, seconds * 1_000_000_000);
            assert!(actors.asks_left >= ASKED_PER_TICK / 2, "newcomers have no turn");
            assert!(seconds < 2_000, "it never ends");
        }
    }

    #[test]
    fn who_was_met_keeps_the_name_after_the_end() {
        let node = tempfile::tempdir().unwrap();
        let process = node.path().join("proc/7");
        std::fs::create_dir_all(&process).unwrap();
        let stat = "7 (etcd) S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0";
        std::fs::write(process.join("stat"), stat).unwrap();
        std::fs::write(process.join("cgroup"), "0::/a.slice/etcd.service\n").unwrap();
        let mut identities = Identities::new(node.path(), node.path());
        let mut actors = Actors::default();
        actors.resolve(&mut identities, id(5), 7, 0);
        let known = actors.actor(&id(5));
        assert_eq!((known.tgid, &*known.cgroup), (7, "/a.slice/etcd.service"));
        assert_eq!(known.unit.as_deref(), Some("etcd.service"));

        std::fs::remove_dir_all(node.path().join("proc")).unwrap();
        let mut identities = Identities::new(node.path(), node.path());
        actors.resolve(&mut identities, id(5), 8, 1 << 40);
        assert_eq!(actors.actor(&id(5)).cgroup, "/a.slice/etcd.service");
    }

    #[test]
    fn a_stranger_goes_by_the_kernels_words() {
        let actors = Actors::default();
        assert_eq!(actors.actor(&id(1)), Actor { comm: "etcd".to_owned(), ..Actor::default() });
    }

    #[test]
    fn only_what_changed_is_news() {
        let mut actors = Actors::default();
        actors.learn(id(1), actor(10, "/a"), 0);
        actors.learn(id(2), actor(20, "/b"), 0);
        assert_eq!(news(&mut actors), [(1, 10), (2, 20)]);
        actors.learn(id(1), actor(10, "/a"), 1);
        actors.learn(id(2), actor(21, "/b"), 1);
        assert_eq!(news(&mut actors), [(2, 21)]);
        actors.mark_all_changed();
        assert_eq!(news(&mut actors).len(), 2);
    }

    #[test]
    fn no_more_are_asked_for_in_a_second_than_may_be() {
        let mut identities = Identities::new("/nowhere".as_ref(), "/nowhere".as_ref());
        let mut actors = Actors::default();
        for cgroup in 0..1000 {
            actors.resolve(&mut identities, id(cgroup), 0, 0);
        }
        assert_eq!(news(&mut actors).len(), ASKED_PER_TICK as usize);
        actors.refill();
        actors.ask_again(&mut identities, 0);
        assert_eq!(news(&mut actors).len(), ASKED_PER_TICK as usize);
    }

    /// The newcomers are not seen again.
    #[test]
    fn who_has_to_wait_is_not_lost() {
        let mut identities = Identities::new("/nowhere".as_ref(), "/nowhere".as_ref());
        let mut actors = Actors::default();
        for cgroup in 0..1000 {
            actors.resolve(&mut identities, id(cgroup), 0, 0);
        }
        for second in 1..4 {
            actors.refill();
            actors.ask_again(&mut identities, second * 1_000_000_000);
        }
        assert!((0..1000).all(|cgroup| actors.find(&id(cgroup)).is_some()));
        assert_eq!((actors.waiting.len(), actors.evicted()), (0, 0));
    }

    #[test]
    fn who_is_spoken_of_is_not_forgotten_and_others_make_room() {
        let mut actors = Actors::default();
        for cgroup in 0..=MAX_ACTORS as u64 {
            actors.learn(id(cgroup), actor(1, "/a"), 0);
        }
        assert_eq!(actors.evicted(), 1);
        assert!(actors.is_crowded());
        actors.forget_others(&HashSet::from([id(3)]));
        assert!(actors.find(&id(3)).is_some() && actors.find(&id(4)).is_none());
    }
}
