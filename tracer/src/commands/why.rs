//! `tracer why`: watches, and reports who makes one victim slow, with the evidence.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    Stop, Wakeup,
    past::{Asked, AskedAbout, Gap, Source, Until, finish},
    start_beside_references,
};
use crate::{
    cli::WhyArgs,
    filter::{self, Filter},
    output::{escape::escape, json, names, text, why},
    session::Options,
};
use tracer_engine::victim::Span;
use tracer_recording::replay::Replay;
use tracer_snapshot::{FileClass, Hanging, Kind, Snapshot, Victim};

/// The length without `--for` and `--every`.
const USUAL: Duration = Duration::from_secs(30);

/// # Errors
///
/// When the tracer cannot start, nobody was seen to sync, or the output cannot
/// be written.
pub async fn run(args: &WhyArgs, options: &Options) -> Result<()> {
    if args.past.is_asked() || args.agent.is_some() {
        let (named, agent) = (args.past.recording.as_deref(), args.agent.as_ref());
        let source = Source::find(named, agent, &args.past.time, args.duration).await?;
        let (mut past, asked) = args.past.time.open(&source, args.duration)?;
        let shown = replay(args, &mut past, asked.as_ref());
        return finish(&past).and(shown);
    }
    let mut session = start_beside_references(options)?;
    let wakeup = Wakeup::new(&session)?;
    let length = args.duration.or(args.every.is_none().then_some(USUAL));
    let mut stop = Stop::new(length)?;
    let until = length.map_or("until ^C".to_owned(), |l| format!("for {} s", l.as_secs()));
    // Standard error may be closed; the verdict goes to standard output.
    let _ = writeln!(io::stderr(), "watching {until}; ^C prints the verdict so far");
    let far = Duration::from_secs(365 * 86_400);
    let every = args.every.unwrap_or(far);
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut slow = Vec::new();
    loop {
        let last = tokio::select! {
            () = wakeup.wait() => {
                session.poll(None, &mut slow);
                continue;
            }
            _ = ticks.tick() => false,
            () = stop.wait() => true,
        };
        session.poll(None, &mut slow);
        let snapshot = session.snapshot_of(Span::Period);
        let verdict = verdict(args, &snapshot, None)?;
        verdict.iter().try_for_each(|bytes| print(bytes))?;
        let is_said = verdict.is_some();
        if last {
            // A period in which nobody synced is worth a line of a log, but a
            // command that has nothing to say has failed.
            let has_failed = !is_said && args.every.is_none();
            return if has_failed { Err(nobody(args, &snapshot)) } else { Ok(()) };
        }
        session.begin_period();
    }
}

/// Does the same over a recording; `--for` and `--every` are in its time.
///
/// # Errors
///
/// When nobody was seen to sync, or the output cannot be written.
pub fn replay(args: &WhyArgs, replay: &mut Replay, asked: Option<&Asked>) -> Result<()> {
    replay_to(args, replay, asked, print)
}

/// Does it with any output: each verdict is given to `print`.
///
/// # Errors
///
/// As [`replay`].
pub fn replay_to(
    args: &WhyArgs,
    replay: &mut Replay,
    asked: Option<&Asked>,
    mut print: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let end = Until::of(replay, asked, args.duration);
    loop {
        let began = replay.now();
        let is_over = end.play(replay, args.every, None, &mut Vec::new());
        let snapshot = replay.snapshot_of(Span::Period);
        let past = asked.map(|asked| match args.every {
            None => (asked, asked.all_gaps(replay, began)),
            Some(_) => {
                let part = Asked { from: began, to: replay.now(), ..asked.clone() };
                (asked, part.gaps(replay.breaks()))
            }
        });
        let past = past.as_ref().map(|(asked, gaps)| (*asked, gaps.as_slice()));
        let verdict = verdict(args, &snapshot, past)?;
        verdict.iter().try_for_each(|bytes| print(bytes))?;
        let is_said = verdict.is_some();
        if is_over {
            let has_failed = !is_said && args.every.is_none();
            return if has_failed { Err(nobody(args, &snapshot)) } else { Ok(()) };
        }
        replay.begin_period();
    }
}

/// A verdict on a time that is over.
#[derive(Serialize)]
struct Afterwards<'a, T> {
    asked: AskedAbout<'a>,
    #[serde(flatten)]
    verdict: T,
}

/// The verdict on whom was asked for, and what of the time that was asked about is not
/// known, as it is printed; `None` where nobody is.
fn verdict(
    args: &WhyArgs,
    s: &Snapshot,
    past: Option<(&Asked, &[Gap])>,
) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let mut narrowed = s.clone();
    Filter::new(None, &args.narrow).narrow(&mut narrowed);
    let s = &narrowed;
    let victim = choose(args.victim.as_deref(), s);
    let hanging = match victim {
        Some(_) => Vec::new(),
        None => hanging(args.victim.as_deref(), s),
    };
    if victim.is_none() && hanging.is_empty() {
        return Ok(None);
    }
    if !args.json {
        for (asked, gaps) in past.into_iter().filter(|_| args.every.is_none()) {
            writeln!(bytes, "{}", escape(&asked.sentence()))?;
            gaps.iter().try_for_each(|gap| writeln!(bytes, "{}", asked.gap_line(gap)))?;
            writeln!(bytes)?;
        }
        match victim {
            Some(victim) => why::write_why(&mut bytes, victim, s)?,
            None => {
                if let Some(line) = filter::line(s) {
                    writeln!(bytes, "{line}")?;
                }
                why::write_hangs(&mut bytes, &hanging)?;
            }
        }
        return Ok(Some(bytes));
    }
    let asked = past.map(|(asked, gaps)| asked.about(gaps));
    match (victim, asked) {
        (Some(victim), None) => json::write_json(&mut bytes, &why::why(victim, s))?,
        (Some(victim), Some(asked)) => {
            json::write_json(&mut bytes, &Afterwards { asked, verdict: why::why(victim, s) })?;
        }
        (None, None) => json::write_json(&mut bytes, &why::hangs(hanging, s))?,
        (None, Some(asked)) => {
            json::write_json(&mut bytes, &Afterwards { asked, verdict: why::hangs(hanging, s) })?;
        }
    }
    Ok(Some(bytes))
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).context("failed to print")
}

/// The syncs of the wanted victim that have not ended.
fn hanging<'a>(wanted: Option<&str>, s: &'a Snapshot) -> Vec<&'a Hanging> {
    let wanted = wanted.map(str::to_lowercase);
    let is_wanted = |one: &&Hanging| match &wanted {
        None => true,
        Some(name) => {
            name.parse() == Ok(one.actor.tgid)
                || names::matches(name, &one.actor, one.class, &one.path, &one.device)
        }
    };
    s.hanging.iter().filter(is_wanted).collect()
}

fn nobody(args: &WhyArgs, s: &Snapshot) -> anyhow::Error {
    let nobody = match &args.victim {
        Some(victim) => anyhow::anyhow!(
            "no sync of `{victim}` was seen: is it the name, pod, virtual machine, unit, cgroup \
             or pid of a process that syncs? `tracer top` lists those that do"
        ),
        None => anyhow::anyhow!("no sync was seen: no process called fsync or the like"),
    };
    let nobody = match Filter::new(None, &args.narrow).only() {
        Some(only) => nobody.context(format!("only {only} was looked at")),
        None => nobody,
    };
    match text::unproven(s) {
        Some(unproven) => nobody.context(unproven),
        None => nobody,
    }
}

/// Chooses the victim: of several that match, the one whose log it is, and of those
/// the one with the worst verdict. Without a name, the worst of all.
fn choose<'a>(wanted: Option<&str>, s: &'a Snapshot) -> Option<&'a Victim> {
    let wanted = wanted.map(str::to_lowercase);
    let is_wanted = |victim: &&Victim| match &wanted {
        None => true,
        Some(name) => is_called(name, victim),
    };
    // Without a name, the victim that waits most beyond its baseline; with one, its log
    // first, because commits wait for the log.
    let rank = |victim: &Victim| {
        let judged = !matches!(victim.verdict.kind, Kind::Unknown);
        let log = wanted.is_some() && victim.class == FileClass::Wal;
        (log, judged)
    };
    s.victims.iter().filter(is_wanted).max_by(|a, b| {
        let excess = a.verdict.excess_seconds.total_cmp(&b.verdict.excess_seconds);
        rank(a).cmp(&rank(b)).then(excess)
    })
}

/// A process id, Proxmox's number of a virtual machine, or what is in one of
/// its names.
fn is_called(name: &str, victim: &Victim) -> bool {
    let vm_id = victim.actor.workload.as_ref().and_then(|workload| workload.vm_id.as_deref());
    match name.parse::<u32>() {
        Ok(tgid) => victim.actor.tgid == tgid || vm_id == Some(name),
        Err(_) => names::matches(name, &victim.actor, victim.class, &victim.path, &victim.device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::fixture;
    use tracer_snapshot::{Workload, WorkloadKind};

    #[track_caller]
    fn check(wanted: Option<&str>, id: Option<u32>) {
        assert_eq!(choose(wanted, &fixture::trimmed()).map(|v| v.id), id, "{wanted:?}");
    }

    #[test]
    fn a_victim_is_chosen_by_pid_or_name_and_its_log_comes_first() {
        check(None, Some(7));
        check(Some("etcd"), Some(7));
        check(Some("812"), Some(7));
        check(Some("snap/db"), Some(8));
        check(Some("systemd-JOURNALD"), Some(9));
        check(Some("9999"), None);
        check(Some("nobody"), None);
    }

    #[test]
    fn a_victim_is_chosen_by_its_pod_and_its_virtual_machine() {
        let mut s = fixture::trimmed();
        let pod = Workload {
            kind: WorkloadKind::Pod,
            name: "kube-system/etcd-node1".into(),
            namespace: Some("kube-system".into()),
            pod: Some("etcd-node1".into()),
            ..Workload::default()
        };
        let vm = Workload {
            kind: WorkloadKind::Vm,
            name: "vm 101 shop/web".into(),
            namespace: Some("shop".into()),
            pod: Some("virt-launcher-web-x7k2p".into()),
            vm: Some("web".into()),
            vm_id: Some("101".into()),
            ..Workload::default()
        };
        s.victims.iter_mut().find(|v| v.id == 7).unwrap().actor.workload = Some(pod);
        s.victims.iter_mut().find(|v| v.id == 9).unwrap().actor.workload = Some(vm);
        for (wanted, id) in [
            ("kube-system/etcd-node1", 7),
            ("etcd-node1", 7),
            ("shop/web", 9),
            ("Shop/virt-launcher-web-x7k2p", 9),
            ("vm 101", 9),
            ("101", 9),
        ] {
            assert_eq!(choose(Some(wanted), &s).map(|v| v.id), Some(id), "{wanted}");
        }
    }
}
