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

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result, bail};

use super::exit::Passed;
use crate::{
    cli::kubectl::{KubectlArgs, Target, View},
    output::escape::escape,
};
use cluster::{Agent, Kubectl};

/// The agent's port in its pod, and the page's on this machine.
const PORT: u16 = 9464;

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
    let (agent, made) = match kubectl.find_agent(&node)? {
        Some(agent) => (agent, None),
        None => {
            let agent = make(&kubectl, args, &node)?;
            (agent.clone(), Some(agent))
        }
    };
    let asked = ask(&kubectl, args, &agent);
    match made {
        Some(pod) if !args.keep => kubectl.delete(&pod).and(asked),
        _ => asked,
    }
}

/// Runs what was asked for in the agent's pod.
fn ask(kubectl: &Kubectl, args: &KubectlArgs, agent: &Agent) -> Result<()> {
    let Some(command) = args.view.command() else {
        say(&format!("the page of `{}`: http://127.0.0.1:{PORT}/ (^C ends it)", agent.node));
        return kubectl.forward(agent, PORT);
    };
    let mut words = vec!["/tracer".to_owned(), command.to_owned()];
    if let (View::Why, Target::Pod { namespace, pod }) = (args.view, &args.target) {
        words.push(format!("{namespace}/{pod}"));
    }
    words.push("--host-root=/host".to_owned());
    words.extend(args.more.iter().cloned());
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    match kubectl.run_in(agent, &words, is_terminal)? {
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
        bail!("{question} Nobody is here to ask: say it with --yes");
    }
    let mut error = io::stderr().lock();
    write!(error, "{} [y/N] ", escape(question)).and_then(|()| error.flush())?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A line for people, on standard error.
fn say(line: &str) {
    // Nobody can read it if standard error is gone.
    let _ = writeln!(io::stderr(), "tracer: {}", escape(line));
}
