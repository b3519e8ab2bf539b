//! `tracer doctor`: reports what the tracer can see on this kernel, and why the rest is missing.

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tracer_kernel::{
    pids::Translation,
    strategies::{Outcome, Selection},
    types::Pointers,
};

use crate::{
    agent::checks::{Check, State, checks},
    cli::DoctorArgs,
    output::{escape::escape, json},
    session::{CannotRun, Capabilities, Options, Session},
};
use tracer_snapshot::SCHEMA;

/// Everything that `doctor` says; also its JSON form.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    release: String,
    arch: &'static str,
    btf: String,
    /// Whether the kernel itself provides its types (BTF); else they came from a file.
    typed: bool,
    lockdown: String,
    privileges: String,
    /// Kernel memory of the tables.
    kernel_memory_bytes: u64,
    disks: Vec<String>,
    capabilities: Vec<Selection>,
    run_delay: bool,
    /// Why it is not known whether the hooks fire.
    unproven: Option<String>,
    unsupported: Vec<String>,
    remedies: Vec<String>,
    can_run: bool,
    /// The checks for the agent, if `--agent` asked for them.
    agent: Vec<Check>,
}

/// # Errors
///
/// `CannotRun` where the tracer cannot do its main job here.
pub fn run(args: &DoctorArgs, options: &Options) -> Result<()> {
    let agent =
        if args.agent { checks(&options.root, &options.btf, args.listen) } else { Vec::new() };
    if !args.json {
        // These lines come first, because something missing may keep the tracer from starting.
        write_checks(&mut io::stdout().lock(), &agent).context("failed to print")?;
    }
    let lacks = agent.iter().any(|check| check.state == State::Bad);
    let mut session = Session::start(options)?;
    session.finish_loading();
    let snapshot = session.snapshot();
    let facts = session.facts();
    let verdict = session.check_capabilities();
    let report = Report {
        schema: SCHEMA,
        release: facts.release.clone(),
        arch: std::env::consts::ARCH,
        btf: options.btf.display().to_string(),
        typed: facts.pointers == Pointers::Typed,
        lockdown: facts.lockdown.clone(),
        privileges: Capabilities::read().to_string(),
        kernel_memory_bytes: session.kernel_memory_bytes(),
        disks: snapshot.disks.iter().map(|d| d.name.clone()).collect(),
        capabilities: session.selections().to_vec(),
        run_delay: facts.sees_run_delay(),
        unproven: snapshot.kernel.unproven.clone(),
        unsupported: snapshot.kernel.unsupported.clone(),
        remedies: remedies(session.selections(), facts.sees_run_delay(), facts.translation),
        can_run: verdict.is_ok(),
        agent,
    };
    let mut out = io::stdout().lock();
    if args.json {
        json::write_json(&mut out, &report)?;
    } else {
        write(&mut out, &report).context("failed to print")?;
    }
    out.flush().context("failed to print")?;
    let why = match verdict {
        Err(_) => "this kernel does not support what the tracer needs; see the capabilities above",
        Ok(()) if lacks => "the agent lacks something that it needs; see its lines above",
        Ok(()) => return Ok(()),
    };
    Err(CannotRun(why.to_owned()).into())
}

fn write_checks(out: &mut impl Write, checks: &[Check]) -> io::Result<()> {
    for check in checks {
        let state = match check.state {
            State::Good => "ok",
            State::Weak => "warn",
            State::Bad => "FAIL",
        };
        writeln!(out, "{state:<5}{:<20} {}", escape(&check.what), escape(&check.says))?;
        if let Some(remedy) = &check.remedy {
            writeln!(out, "     {:<20} to do: {}", "", escape(remedy))?;
        }
    }
    if checks.is_empty() { Ok(()) } else { writeln!(out) }
}

fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    if let Some(unproven) = &report.unproven {
        writeln!(out, "unproven: {}", escape(unproven))?;
    }
    let mib = report.kernel_memory_bytes as f64 / f64::from(1 << 20);
    writeln!(out, "kernel        {} ({})", escape(&report.release), report.arch)?;
    let whose = if report.typed { "" } else { " (from --btf; this kernel has none)" };
    writeln!(out, "types (BTF)   {}{whose}", escape(&report.btf))?;
    writeln!(out, "lockdown      {}", escape(&report.lockdown))?;
    writeln!(out, "privileges    {}", report.privileges)?;
    writeln!(out, "disks         {}", escape(&report.disks.join(" ")))?;
    writeln!(out, "memory        {mib:.1} MiB in the kernel")?;
    writeln!(out)?;
    for selection in &report.capabilities {
        let state = match selection.selected() {
            Some(strategy) => format!("seen by `{strategy}`"),
            None if selection.required => "NOT SEEN, but required".to_owned(),
            None => "not seen".to_owned(),
        };
        writeln!(out, "{:<11}{} - {state}", selection.capability, selection.purpose)?;
        for (strategy, outcome) in &selection.strategies {
            let mark = match outcome {
                Outcome::Selected | Outcome::Untested(_) => '*',
                Outcome::NotNeeded => ' ',
                _ => '-',
            };
            writeln!(out, "         {mark} {strategy:<10} {}", escape(&outcome.to_string()))?;
            if Some(*strategy) == selection.selected() {
                for note in &selection.notes {
                    writeln!(out, "                      {}", escape(note))?;
                }
            }
        }
    }
    let delay = if report.run_delay { "seen" } else { "not seen" };
    writeln!(out, "runqueue   how long a sync waited for a CPU - {delay}")?;
    writeln!(out)?;
    for sentence in &report.unsupported {
        writeln!(out, "unsupported: {}", escape(sentence))?;
    }
    for sentence in &report.remedies {
        writeln!(out, "to do: {sentence}")?;
    }
    let verdict = if report.can_run { "can" } else { "cannot" };
    writeln!(out, "The tracer {verdict} find who makes syncs slow here.")
}

/// For each strategy that failed, what the user can do about it.
fn remedies(capabilities: &[Selection], run_delay: bool, translation: Translation) -> Vec<String> {
    let mut remedies = Vec::new();
    for selection in capabilities.iter().filter(|c| c.selected().is_none()) {
        for (strategy, outcome) in &selection.strategies {
            let what = match outcome {
                Outcome::Unsupported(_) => {
                    "is unsupported here: it may need a newer kernel, one built with \
                     CONFIG_DEBUG_INFO_BTF=y and CONFIG_DEBUG_INFO_BTF_MODULES=y, or its module \
                     to be loaded before the tracer starts"
                }
                Outcome::Refused(why) if why.contains("CAP_SYS_ADMIN") => {
                    "was refused: give the tracer CAP_SYS_ADMIN at its start"
                }
                Outcome::Refused(_) => {
                    "was refused for the reason above; if that names nothing you can fix, it \
                     needs another kernel"
                }
                Outcome::Silent(_) if translation != Translation::None => {
                    "attaches but does not see the tracer, which runs in a PID namespace of its \
                     own: set hostPID: true in the pod's spec, or run it on the node"
                }
                Outcome::Silent(_) => {
                    "attaches but does not fire: this kernel's compiler has inlined it; please \
                     report the release above"
                }
                _ => continue,
            };
            remedies.push(format!("{} by `{strategy}` {what}", selection.capability));
        }
    }
    if !run_delay {
        remedies.push(
            "to see waits for a CPU, use a kernel from 5.11 on with CONFIG_SCHED_INFO".to_owned(),
        );
    }
    remedies
}

#[cfg(test)]
mod tests {
    use tracer_kernel::capability::Capability;

    use super::*;

    fn check(outcome: Outcome, translation: Translation, word: &str) {
        let capability = Capability::Sync;
        let selection = Selection {
            capability,
            purpose: capability.purpose(),
            required: true,
            without: capability.without(),
            strategies: vec![("tracepoint", outcome)],
            attached: Vec::new(),
            notes: Vec::new(),
        };
        let remedies = remedies(&[selection], true, translation);
        let [remedy] = remedies.as_slice() else { panic!("{remedies:?}") };
        for cause in ["inlined", "hostPID: true", "CAP_SYS_ADMIN", "reason above", "module"] {
            assert_eq!(remedy.contains(cause), cause == word, "{cause}: {remedy}");
        }
    }

    #[test]
    fn a_silent_hook_is_inlined_only_where_the_tracer_would_see_itself() {
        let silent = || Outcome::Silent("it saw 0".to_owned());
        check(silent(), Translation::None, "inlined");
        check(silent(), Translation::OwnOnly, "hostPID: true");
        check(silent(), Translation::Impossible, "hostPID: true");
    }

    #[test]
    fn a_refusal_asks_for_a_capability_only_where_it_needs_one() {
        let refused = |why: &str| Outcome::Refused(why.to_owned());
        check(refused("needs CAP_SYS_ADMIN to name types"), Translation::None, "CAP_SYS_ADMIN");
        check(refused("`x`: permits no such program"), Translation::None, "reason above");
        check(Outcome::Unsupported("no `x`".to_owned()), Translation::None, "module");
    }
}
