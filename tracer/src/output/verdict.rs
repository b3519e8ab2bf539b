//! The verdict on a victim, in a sentence and in a word.
//!
//! The engine has decided; this module only words it, and words it alike in the
//! text and on the screen. Sentences are escaped but not cut: they know no width.

use super::{
    escape::escape,
    freeze, handles, helper, names, pause, stack, stop,
    units::{clock, date, duration, percent, share},
};
use tracer_snapshot::{
    BASELINE_SYNCS, Culprit, HeldHelper, Kind, Op, Phase, Shares, SlowerThan, Trigger, Verdict,
    Victim,
};

/// A smaller share of a disk's requests is not worth mentioning.
const UNCOUNTED: f64 = 0.0005;

/// The word for a filesystem that was frozen, by whom is not known.
const FROZEN: &str = "frozen";

/// At most this number of facts about a stack is in one sentence.
const STACK: usize = 2;

/// One sentence, such as `fstrim (fstrim.service) discard makes it wait: 83%
/// of 12.1 s excess`, with how much of the disk's work is in nobody's counts, and what
/// is not well with its stack.
pub fn sentence(victim: &Victim) -> String {
    let uncounted = victim.verdict.device.uncounted_share;
    let mut sentence = blame(victim);
    if uncounted >= UNCOUNTED {
        sentence +=
            &format!(" ({:.1}% of the disk's requests were not counted)", 100.0 * uncounted);
    }
    if !matches!(victim.verdict.kind, Kind::None | Kind::Unknown) {
        for fact in victim.verdict.stack.iter().take(STACK) {
            sentence += &format!("; {}", stack::sentence(fact));
        }
    }
    sentence
}

/// Says who had a culprit's data written, when, and for how long that call took.
pub fn triggered(trigger: &Trigger) -> String {
    let Trigger { actor, call, at, seconds } = trigger;
    let did = match *call {
        "freeze" => "it froze the filesystem, which took",
        "filesystem_sync" => "it synced the whole filesystem for",
        call => &format!("it called {call} for"),
    };
    let (who, at) = (names::actor(actor), clock(*at));
    format!("{who} had it written at {at}: {did} {}", duration(*seconds))
}

/// The means by which a trigger had the data written.
pub fn means(trigger: &Trigger) -> &'static str {
    match trigger.call {
        "freeze" => "a freeze of the filesystem",
        "filesystem_sync" => "a sync of the whole filesystem",
        call => call,
    }
}

fn blame(victim: &Victim) -> String {
    let verdict = &victim.verdict;
    let excess = duration(verdict.excess_seconds);
    let excess = match verdict.slower_than {
        Some(SlowerThan::Guidance) => {
            format!("{excess} beyond 10 ms per sync, never faster while watched")
        }
        _ => format!("{excess} excess"),
    };
    let of = |share: f64| format!("{} of {excess}", percent(share));
    let shares = &verdict.shares;
    let worst = verdict.culprits.first();
    match verdict.kind {
        Kind::None => "nobody: no sync was slower than its own baseline".to_owned(),
        Kind::Unknown if victim.syncs_total < BASELINE_SYNCS => {
            format!("not enough history yet ({} syncs)", victim.syncs_total)
        }
        Kind::Unknown => "nobody can be named: too few syncs to judge".to_owned(),
        Kind::Owners | Kind::Own if let Some(worst) = freeze::freezer(verdict) => {
            freeze::sentence(verdict, worst)
        }
        Kind::Owners | Kind::Own if let Some(worst) = pause::dirtier(verdict) => {
            pause::sentence(verdict, worst)
        }
        Kind::Owners if verdict.is_frozen_by_unknown => freeze::by_unknown(verdict),
        Kind::Owners | Kind::Own if let Some((worst, stop)) = stop::tracing(verdict) => {
            stop::traced(worst, stop)
        }
        Kind::Owners | Kind::Own if let Some(worst) = handles::holder(verdict) => {
            format!("{}: {}", handles::sentence(worst), of(worst.share))
        }
        Kind::Owners => match worst {
            Some(worst) => {
                let trigger = worst.trigger.as_ref().map(|trigger| {
                    let who = names::actor(&trigger.actor);
                    format!("; {who} had it written by {}", means(trigger))
                });
                let blamed = format!("{} makes it wait: {}", culprit(worst), of(worst.share));
                blamed + &trigger.unwrap_or_default()
            }
            None => format!("others on its disk, none of them large enough to name: {excess}"),
        },
        Kind::Cpu if let Some(one) = starved(victim) => {
            format!("{}: {}", helper::wait(one, worst), of(shares.cpu))
        }
        Kind::Cpu => {
            let share = percent(share(victim.phases[Phase::Runqueue], victim.phases.total()));
            let why = format!("runnable but not running for {share} of its sync time");
            match worst.filter(|worst| worst.op == Op::Cpu) {
                Some(worst) => {
                    format!("it waits for a CPU, behind {}: {why}", names::actor(&worst.actor))
                }
                None => format!("it waits for a CPU: {why}"),
            }
        }
        Kind::Memory if let Some(worst) = worst.filter(|worst| worst.op == Op::DropCaches) => {
            // The kernel may say no more than that it was done.
            let is_known = !worst.actor.comm.is_empty();
            let actor = if is_known { names::actor(&worst.actor) } else { "somebody".to_owned() };
            format!(
                "{actor} dropped the kernel's caches (drop_caches), and it waits for what is read \
                 back: {}",
                of(worst.share)
            )
        }
        Kind::Memory => match worst.filter(|worst| worst.op == Op::Memory) {
            Some(worst) => {
                let actor = names::actor(&worst.actor);
                format!("it waits for memory, which {actor} uses up: {}", of(worst.share))
            }
            // A first read looks like a refault in the counters.
            None => format!(
                "it waits for memory (direct reclaim, or pages read into the cache): {}",
                of(shares.memory)
            ),
        },
        Kind::Limit if let Some(stop) = stop::halted(verdict) => stop::sentence(stop),
        Kind::Limit if let Some(one) = helper::limited(verdict) => {
            format!("{}: {}", helper::limit(one), of(shares.limit))
        }
        Kind::Limit => {
            let limit = verdict.limit.as_deref().unwrap_or("a limit");
            let is_mostly_outside =
                2.0 * verdict.outside_seconds > shares.limit * verdict.excess_seconds;
            let when = if is_mostly_outside { ", most of it outside its syncs" } else { "" };
            format!("its own limit, {}: {}{when}", escape(limit), of(shares.limit))
        }
        Kind::Filesystem => format!(
            "the filesystem's own work, on a CPU inside the sync: {}",
            of(shares.filesystem)
        ),
        Kind::Own if pause::is_by_itself(verdict) => pause::own_sentence(verdict),
        Kind::Own => match (in_house(victim), own_work(verdict)) {
            (Some(worst), _) => {
                format!("its own cgroup's {} makes it wait: {}", culprit(worst), of(worst.share))
            }
            (None, Some(work)) => {
                format!("its own other work makes it wait, {work}: {}", of(shares.own))
            }
            (None, None) => format!("its own other requests make it wait: {}", of(shares.own)),
        },
        Kind::Device if let Some((server, disk)) = helper::disk_of_server(verdict) => {
            let (server, waited) = (helper::name(server), percent(server.disk));
            let disk = escape(disk);
            format!(
                "{server}, the server of its disk, waits for its own disk {disk} for {waited} of \
                 the time: {}",
                of(shares.device)
            )
        }
        Kind::Device => {
            let below = below(victim);
            let slow = match (stack::own_work(&verdict.stack), verdict.device.reference_at) {
                // RAID 5 and 6 do it in the thread that does others' work, which is never named.
                (Some(work), _) => format!("{work}, or the device below it{below}"),
                (None, Some(at)) => format!("the device is slower than it was on {}", date(at)),
                (None, None) => format!("the device itself, or what is below it{below}"),
            };
            let served = helper::served(verdict).map(|by| format!(", {by}")).unwrap_or_default();
            format!("nobody on this node: {slow}{served}: {}", of(shares.device))
        }
        Kind::Undecided => {
            let who = worst.map_or("a neighbour".to_owned(), |worst| names::actor(&worst.actor));
            format!("either the device is slower or {who} asks too much of it: {excess}")
        }
        Kind::Unseen => {
            let by = helper::served(verdict).unwrap_or_else(|| "FUSE, or a file server".to_owned());
            format!("no disk of this node holds the file ({by}): {excess} unexplained")
        }
        Kind::Unexplained => {
            format!("not explained by any disk, CPU or neighbour: {}", of(shares.unexplained))
        }
    }
}

/// The disks below the victim's first one: ` (dm-0, sda)`.
fn below(victim: &Victim) -> String {
    match victim.disks_below.as_slice() {
        [] => String::new(),
        disks => format!(" ({})", escape(&disks.join(", "))),
    }
}

/// A form that fits a column of a table: `83% fstrim (fstrim.service) discard`.
pub fn phrase(victim: &Victim) -> String {
    if victim.verdict.is_frozen_by_unknown {
        return FROZEN.to_owned();
    }
    match (victim.verdict.kind, victim.verdict.culprits.first()) {
        (Kind::Owners | Kind::Cpu | Kind::Memory, Some(worst)) => {
            // The share comes first, as a long name may be cut.
            format!("{} {}", percent(worst.share), culprit(worst))
        }
        (Kind::Own, _) if let Some(worst) = in_house(victim) => {
            format!("{} {}", percent(worst.share), culprit(worst))
        }
        (Kind::Device, _) if stack::own_work(&victim.verdict.stack).is_some() => {
            "the array itself".to_owned()
        }
        (Kind::Device, _) => "device alone".to_owned(),
        (Kind::Undecided, _) => "device or load".to_owned(),
        (Kind::Unseen, _) => "no disk here".to_owned(),
        (Kind::Filesystem, _) => "its filesystem's work".to_owned(),
        (Kind::Limit, _) if let Some(stop) = stop::halted(&victim.verdict) => {
            stop::phrase(stop).to_owned()
        }
        (Kind::Limit, _) => match helper::limited(&victim.verdict) {
            Some(one) => format!("limit of {}", helper::name(one)),
            None => "its own limit".to_owned(),
        },
        _ => word(victim),
    }
}

/// A form that fits six columns: the share of the worst culprit, or the kind of cause.
pub fn word(victim: &Victim) -> String {
    if victim.verdict.is_frozen_by_unknown {
        return FROZEN.to_owned();
    }
    match (victim.verdict.kind, victim.verdict.culprits.first()) {
        (Kind::Owners, Some(worst)) => percent(worst.share),
        (Kind::Own, _) if let Some(worst) = in_house(victim) => percent(worst.share),
        (kind, _) => kind_word(kind).to_owned(),
    }
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Owners => "others",
        Kind::Device => "device",
        Kind::Unseen => "unseen",
        Kind::Own => "itself",
        Kind::Cpu => "cpu",
        Kind::Memory => "memory",
        Kind::Limit => "limit",
        Kind::Filesystem => "fs cpu",
        Kind::Undecided => "either",
        Kind::Unexplained | Kind::Unknown => "?",
        Kind::None => "-",
    }
}

/// The excess by cause: `12.1 s excess: others 83%, itself 10%, device 7%`;
/// nothing when there is no excess.
pub fn split(victim: &Victim) -> Option<String> {
    let excess = victim.verdict.excess_seconds;
    if excess.is_nan() || excess <= 0.0 {
        return None;
    }
    let named = named(&victim.verdict.shares);
    let parts = named.iter().filter(|(_, share)| *share >= 0.005);
    let parts: Vec<_> = parts.map(|(name, share)| format!("{name} {}", percent(*share))).collect();
    Some(format!("{} excess: {}", duration(excess), parts.join(", ")))
}

/// The shares by kind of cause, with the words for them.
pub fn named(shares: &Shares) -> [(&'static str, f64); Shares::COUNT] {
    let Shares { owners, cpu, memory, limit, filesystem, own, device, unexplained } = *shares;
    [
        ("others", owners),
        ("CPU", cpu),
        ("memory", memory),
        ("limit", limit),
        ("filesystem", filesystem),
        ("itself", own),
        ("device", device),
        ("unexplained", unexplained),
    ]
}

/// A culprit and what it does: `fstrim (fstrim.service) discard`.
pub fn culprit(culprit: &Culprit) -> String {
    format!("{} {}", names::actor(&culprit.actor), culprit.op.name())
}

/// The actor in the victim's own cgroup, such as a backup in its pod, that outweighs
/// what the victim's own process does.
pub(super) fn in_house(victim: &Victim) -> Option<&Culprit> {
    let verdict = &victim.verdict;
    let worst = verdict.culprits.first()?;
    (worst.actor.cgroup == victim.actor.cgroup && worst.share > verdict.shares.own).then_some(worst)
}

/// The helper that waits for a CPU for more of the time than the victim does itself.
pub fn starved(victim: &Victim) -> Option<&HeldHelper> {
    let runqueue = share(victim.phases[Phase::Runqueue], victim.phases.total());
    helper::starved(&victim.verdict, runqueue)
}

/// The class and the file that the victim's own process synced most besides this one.
pub fn own_work(verdict: &Verdict) -> Option<String> {
    let work = verdict.own_work.first()?;
    let class = names::class_in_words(work.class, &work.path);
    Some(format!("{class} {}", escape(&work.path)).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[track_caller]
    fn check(kind: Kind, said: &str, phrased: &str, in_a_word: &str) {
        let mut victim = fixture::trimmed().victims.remove(0);
        victim.verdict.kind = kind;
        assert_eq!(sentence(&victim), said);
        assert_eq!(phrase(&victim), phrased);
        assert_eq!(word(&victim), in_a_word);
        assert!(in_a_word.len() <= 6);
    }

    #[test]
    fn a_limit_that_holds_outside_the_syncs_is_said_to() {
        let mut victim = fixture::trimmed().victims.remove(0);
        let verdict = &mut victim.verdict;
        (verdict.kind, verdict.shares.limit, verdict.outside_seconds) = (Kind::Limit, 0.9, 6.0);
        let said = sentence(&victim);
        assert_eq!(
            said,
            "its own limit, a limit: 90% of 12.1 s excess, most of it outside its syncs"
        );
        victim.verdict.outside_seconds = 5.0;
        assert_eq!(sentence(&victim), "its own limit, a limit: 90% of 12.1 s excess");
    }

    #[test]
    fn a_victim_that_was_never_quick_is_held_against_ten_milliseconds() {
        let mut victim = fixture::trimmed().victims.remove(0);
        victim.verdict.kind = Kind::Device;
        victim.verdict.slower_than = Some(SlowerThan::Guidance);
        let said = sentence(&victim);
        assert!(said.ends_with("3% of 12.1 s beyond 10 ms per sync, never faster while watched"));
    }

    #[test]
    fn a_culprit_in_the_victims_own_cgroup_is_named_in_columns_too() {
        let mut victim = fixture::trimmed().victims.remove(0);
        victim.verdict.kind = Kind::Own;
        assert_eq!(phrase(&victim), "itself");
        victim.verdict.culprits[0].actor.cgroup = victim.actor.cgroup.clone();
        assert_eq!(phrase(&victim), "83% fstrim (demo-trim.service) discard");
        assert_eq!(word(&victim), "83%");
    }

    #[test]
    fn an_array_that_checks_itself_is_named_before_the_device() {
        let mut victim = fixture::trimmed().victims.remove(0);
        victim.verdict.kind = Kind::Device;
        victim.disks_below = vec!["dm-0".to_owned()];
        let action = tracer_snapshot::SyncAction::Check;
        victim.verdict.stack = vec![tracer_snapshot::StackFact {
            disk: "md0".to_owned(),
            name: String::new(),
            state: tracer_snapshot::StackState::Syncing {
                action,
                done: 0.43,
                bytes_per_second: 120_000_000,
            },
        }];
        assert_eq!(
            sentence(&victim),
            "nobody on this node: md0's own check, or the device below it (dm-0): \
             3% of 12.1 s excess; md0 is running its own check: 43% done, 120 MB/s"
        );
        assert_eq!(phrase(&victim), "the array itself");
    }

    #[test]
    fn each_verdict_has_its_words() {
        check(
            Kind::Owners,
            "fstrim (demo-trim.service) discard makes it wait: 83% of 12.1 s excess",
            "83% fstrim (demo-trim.service) discard",
            "83%",
        );
        check(
            Kind::Unseen,
            "no disk of this node holds the file (FUSE, or a file server): 12.1 s excess unexplained",
            "no disk here",
            "unseen",
        );
        check(
            Kind::Device,
            "nobody on this node: the device itself, or what is below it: 3% of 12.1 s excess",
            "device alone",
            "device",
        );
        check(
            Kind::Own,
            "its own other work makes it wait, db /var/lib/etcd/member/snap/db: 5% of 12.1 s excess",
            "itself",
            "itself",
        );
        check(Kind::Limit, "its own limit, a limit: 0% of 12.1 s excess", "its own limit", "limit");
        check(
            Kind::Filesystem,
            "the filesystem's own work, on a CPU inside the sync: 0% of 12.1 s excess",
            "its filesystem's work",
            "fs cpu",
        );
        check(Kind::None, "nobody: no sync was slower than its own baseline", "-", "-");
        check(Kind::Unknown, "nobody can be named: too few syncs to judge", "?", "?");
    }

    #[test]
    fn a_slow_stack_is_named_with_the_disks_below() {
        let mut victim = fixture::trimmed().victims.remove(0);
        victim.verdict.kind = Kind::Device;
        victim.disks_below = vec!["dm-0".to_owned(), "nvme0n1".to_owned()];
        let said = sentence(&victim);
        assert!(said.contains("or what is below it (dm-0, nvme0n1): "), "{said}");
    }

    #[test]
    fn without_history_nothing_is_guessed() {
        let mut victim = fixture::trimmed().victims.remove(0);
        victim.verdict.kind = Kind::Unknown;
        victim.syncs_total = 3;
        assert_eq!(sentence(&victim), "not enough history yet (3 syncs)");
    }

    #[test]
    fn a_device_is_held_against_the_day_of_its_reference() {
        let mut victim = fixture::trimmed().victims.remove(2);
        victim.verdict.device.reference_times = Some(5.0);
        victim.verdict.device.reference_at = Some(1_795_896_762.25);
        assert_eq!(
            sentence(&victim),
            "nobody on this node: the device is slower than it was on 2026-11-28 20:12 UTC: 100% of \
             2.00 s excess"
        );
    }

    #[test]
    fn a_starved_victim_names_who_ran() {
        let mut victim = fixture::trimmed().victims.remove(0);
        victim.verdict.kind = Kind::Cpu;
        victim.verdict.culprits[0].op = Op::Cpu;
        assert_eq!(
            sentence(&victim),
            "it waits for a CPU, behind fstrim (demo-trim.service): runnable but not running for \
             1% of its sync time"
        );
        victim.verdict.culprits.clear();
        assert_eq!(
            sentence(&victim),
            "it waits for a CPU: runnable but not running for 1% of its sync time"
        );
    }

    #[test]
    fn who_uses_memory_up_is_named_with_its_share() {
        let mut victim = fixture::trimmed().victims.remove(0);
        victim.verdict.kind = Kind::Memory;
        victim.verdict.shares.memory = 0.9;
        victim.verdict.culprits[0].op = Op::Memory;
        assert_eq!(
            sentence(&victim),
            "it waits for memory, which fstrim (demo-trim.service) uses up: 83% of 12.1 s excess"
        );
        victim.verdict.culprits.clear();
        assert_eq!(
            sentence(&victim),
            "it waits for memory (direct reclaim, or pages read into the cache): 90% of 12.1 s excess"
        );
    }

    #[test]
    fn who_dropped_the_caches_is_named_where_that_is_known() {
        let mut victim = fixture::trimmed().victims.remove(0);
        victim.verdict.kind = Kind::Memory;
        victim.verdict.culprits[0].op = Op::DropCaches;
        assert_eq!(
            sentence(&victim),
            "fstrim (demo-trim.service) dropped the kernel's caches (drop_caches), and it waits for \
             what is read back: 83% of 12.1 s excess"
        );
        victim.verdict.culprits[0].actor = tracer_snapshot::Actor::default();
        assert!(sentence(&victim).starts_with("somebody dropped the kernel's caches"));
    }

    #[test]
    fn owners_without_a_name_are_not_made_up() {
        let mut victim = fixture::trimmed().victims.remove(0);
        victim.verdict.culprits.clear();
        assert_eq!(
            sentence(&victim),
            "others on its disk, none of them large enough to name: 12.1 s excess"
        );
        assert_eq!(phrase(&victim), "others");
    }

    #[test]
    fn no_excess_is_not_split() {
        let mut victim = fixture::trimmed().victims.remove(0);
        assert_eq!(
            split(&victim).unwrap(),
            "12.1 s excess: others 90%, itself 5%, device 3%, unexplained 2%"
        );
        victim.verdict.excess_seconds = f64::NAN;
        assert_eq!(split(&victim), None);
    }
}
