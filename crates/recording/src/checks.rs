//! Bounds of all that a recording says, checked before anything else sees it.

use tracer_ebpf::record::{ACCOUNTS, UNDERLYING};
use tracer_snapshot::{Actor, Hanging, Kernel, StackFact, Workload};

/// Longer lists in one line are no session's.
pub(super) const LIST: usize = 1 << 14;

/// Names, paths, settings.
pub(super) const TEXT_BYTES: usize = 4096;

/// Later moments and longer times are no kernel's: 36 years, and 19 hours.
pub(super) const MAX_TIME_NS: u64 = 1 << 60;
pub(super) const MAX_LENGTH_NS: u64 = 1 << 46;

pub(super) fn check_time(ns: u64) -> Result<(), String> {
    if ns <= MAX_TIME_NS { Ok(()) } else { Err(format!("a moment of {ns} ns")) }
}

pub(super) fn check_texts(texts: &[&str]) -> Result<(), String> {
    match texts.iter().find(|text| text.len() > TEXT_BYTES) {
        None => Ok(()),
        Some(text) => Err(format!("a name of {} bytes", text.len())),
    }
}

pub(super) fn check_actor(actor: &Actor) -> Result<(), String> {
    let unit = actor.unit.as_deref().unwrap_or_default();
    check_texts(&[&actor.comm, &actor.cgroup, unit])?;
    let texts: Vec<_> = actor.workload.iter().flat_map(Workload::texts).collect();
    check_texts(&texts)
}

pub(super) fn check_kernel(kernel: &Kernel) -> Result<(), String> {
    let Kernel { release, unproven, strategies, unsupported } = kernel;
    if strategies.len().max(unsupported.len()) > LIST {
        return Err("a kernel of which too much is said".to_owned());
    }
    let strategies = strategies.iter().flat_map(|(capability, strategy)| [capability, strategy]);
    let texts = strategies.chain(unproven).chain(unsupported).chain([release]);
    check_texts(&texts.map(String::as_str).collect::<Vec<_>>())
}

pub(super) fn check_facts(facts: &[StackFact]) -> Result<(), String> {
    if facts.len() > ACCOUNTS {
        return Err("a stack of which too much is said".to_owned());
    }
    if facts.iter().flat_map(StackFact::shares).any(|share| !(0.0..=1.0).contains(&share)) {
        return Err("a stack that is more than full".to_owned());
    }
    check_texts(&facts.iter().flat_map(StackFact::texts).collect::<Vec<_>>())
}

pub(super) fn check_hanging(one: &Hanging) -> Result<(), String> {
    let disks = || one.disk.iter().chain(&one.disks_below);
    if one.disks_below.len() > UNDERLYING || one.others.len() > ACCOUNTS {
        return Err("a sync that waits for too many".to_owned());
    }
    check_facts(&one.stack)?;
    let names = disks().map(|disk| disk.name.as_str());
    check_texts(&names.chain([&*one.call, &one.path, &one.device]).collect::<Vec<_>>())?;
    check_actor(&one.actor)?;
    one.others.iter().try_for_each(|other| check_actor(&other.actor))?;
    let ages = disks().flat_map(|disk| [disk.oldest_seconds, disk.completed_seconds_ago]);
    let most = MAX_TIME_NS as f64 / 1e9;
    match ages.flatten().chain([one.seconds]).find(|age| !(0.0..=most).contains(age)) {
        None => Ok(()),
        Some(age) => Err(format!("a sync that has not ended for {age} s")),
    }
}
