//! `tracer kubectl`, which kubectl knows as `kubectl tracer`: asks the agent on a
//! node, through kubectl.
//!
//! It finds the node of a pod and the agent's pod on that node, and runs the tracer's
//! own command in there, so that what is printed is what the command prints. Where a
//! node has no agent it makes a pod, if it may: of the rights of the DaemonSet's,
//! for 15 minutes at most. Whatever it makes it names, with the command that removes it.
//! It speaks to no API server itself: rights and settings are kubectl's.

pub mod cluster;
pub mod pod;

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::exit::Passed;
use crate::{
    cli::kubectl::{KubectlArgs, Target, View},
    output::escape::escape,
};
use cluster::{Agent, Kubectl};

/// The agent's port in its pod, and the page's on this machine.
const PORT: u16 = 9464;

/// The node's files in the pod.
const HOST_ROOT: &str = "--host-root=/host";

/// A recording that is made for a report: the one folder in the pod that can be written.
const RECORDING: &str = "/var/tmp/report.rec";
/// A pod that was just made has recorded nothing yet. A verdict needs twenty syncs.
const RECORDED: Duration = Duration::from_mins(2);
/// The pod ends after 15 minutes.
const LONGEST: Duration = Duration::from_mins(10);

/// # Errors
///
/// When kubectl fails, nobody allows a pod, or the tracer in the pod ends with an error.
pub fn run(args: &KubectlArgs) -> Result<()> {
    let kubectl = Kubectl::new(&args.kubectl, args.context.as_deref());
    let node = match &args.target {
        Target::Node(node) => node.clone(),
        Target::Pod { namespace, pod } => kubectl.node_of(namespace, pod)?,
    };
    if args.view == View::Why && matches!(args.target, Target::Node(_)) {
        bail!("`why` takes a pod, NAMESPACE/POD; `tracer kubectl top {node}` shows the node's");
    }
    if args.record.is_some() && args.view != View::Report {
        bail!("--record is for `report`; other views watch for as long as `-- --for` says");
    }
    if args.record.is_some_and(|length| length > LONGEST) {
        bail!("--record takes ten minutes at most: the flight recorder of an agent keeps more");
    }
    let (agent, made) = match kubectl.find_agent(&node)? {
        Some(agent) => (agent, None),
        None => {
            let agent = make(&kubectl, args, &node)?;
            (agent.clone(), Some(agent))
        }
    };
    let record = args.record.or(made.as_ref().map(|_| RECORDED));
    let asked = ask(&kubectl, args, &agent, record);
    match made {
        Some(pod) if !args.keep => kubectl.delete(&pod).and(asked),
        _ => asked,
    }
}

/// Runs what was asked for in the agent's pod; a report is of a recording that is made
/// first, where `record` says for how long.
fn ask(
    kubectl: &Kubectl,
    args: &KubectlArgs,
    agent: &Agent,
    record: Option<Duration>,
) -> Result<()> {
    let Some(command) = args.view.command() else {
        say(&format!("the page of `{}`: http://127.0.0.1:{PORT}/ (^C ends it)", agent.node));
        return kubectl.forward(agent, PORT);
    };
    let mut words = vec!["/tracer".to_owned(), command.to_owned()];
    match (args.view, &args.target) {
        (View::Why, Target::Pod { namespace, pod }) => words.push(format!("{namespace}/{pod}")),
        (View::Report, target) => {
            if let Some(length) = record {
                make_recording(kubectl, agent, length)?;
                words.push(RECORDING.to_owned());
            }
            if let Target::Pod { namespace, pod } = target {
                words.push(format!("--filter={namespace}/{pod}"));
            }
        }
        _ => (),
    }
    // A report is made of a recording, and asks the node for nothing.
    if args.view != View::Report {
        words.push(HOST_ROOT.to_owned());
    }
    words.extend(args.more.iter().cloned());
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    pass_on(kubectl.run_in(agent, &words, is_terminal)?)
}

/// Records for a while in the agent's pod.
fn make_recording(kubectl: &Kubectl, agent: &Agent, length: Duration) -> Result<()> {
    let seconds = length.as_secs().max(1);
    say(&format!("records `{}` for {seconds} s; the report follows", agent.node));
    let output = format!("--output={RECORDING}");
    let length = format!("--for={seconds}s");
    let words = ["/tracer", "record", &output, "--force", &length, HOST_ROOT].map(str::to_owned);
    pass_on(kubectl.run_in(agent, &words, false)?)
}

fn pass_on(code: u8) -> Result<()> {
    match code {
        0 => Ok(()),
        code => Err(Passed(code).into()),
    }
}

/// Makes a pod with a tracer on the node, once somebody has allowed it.
fn make(kubectl: &Kubectl, args: &KubectlArgs, node: &str) -> Result<Agent> {
    let Some(image) = &args.image else {
        bail!(
            "no agent runs on node `{}`: install the DaemonSet (docs/kubernetes.md), or name the \
             tracer's image with --image NAME@sha256:… to run it there for 15 minutes",
            escape(node)
        );
    };
    let agent = Agent::of_our_own(node);
    let Agent { namespace, pod, .. } = &agent;
    let question = format!(
        "no agent runs on node `{node}`: make the pod `{pod}` in namespace `{namespace}` there, of \
         {image}, with the node's /proc and /sys, its process ids and {} capabilities, for 15 minutes?",
        pod::CAPABILITIES.len()
    );
    if !args.yes && !is_allowed(&question)? {
        bail!("nothing was made");
    }
    kubectl.create(&pod::manifest(&agent, image))?;
    say(&format!(
        "made the pod `{pod}` in namespace `{namespace}`; to remove it: {}",
        kubectl.removal(&agent)
    ));
    let ready = kubectl.wait_until_ready(&agent);
    if ready.is_err() && !args.keep {
        kubectl.delete(&agent)?;
    }
    ready.map(|()| agent)
}

/// Asks whoever sits there.
fn is_allowed(question: &str) -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("{question} There is no terminal to ask on: answer with --yes");
    }
    let mut error = io::stderr().lock();
    write!(error, "{} [y/N] ", escape(question)).and_then(|()| error.flush())?;
    let mut answer = String::new();
    let length = io::stdin().lock().read_line(&mut answer).context("failed to read the answer")?;
    if length == 0 {
        // After ^D the cursor still stands behind the question.
        writeln!(error).context("failed to write to the terminal")?;
    }
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A line for people, on standard error.
fn say(line: &str) {
    // Nobody can read it if standard error is gone.
    let _ = writeln!(io::stderr(), "tracer: {}", escape(line));
}
