//! kubectl, called once for each question.
//!
//! Names from the cluster go back to kubectl only behind an option's name or where
//! nothing is taken for an option; they were looked at before.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::output::escape::escape;

/// The labels of an agent's pod, be it of the manifests, of the chart or of our own.
const SELECTOR: &str =
    "app.kubernetes.io/name in (tracer,tracer-visit),app.kubernetes.io/component=agent";
/// A pod of our own lies where the DaemonSet's would.
const NAMESPACE: &str = "tracer";
const READY: &str = "90s";
/// A message of kubectl's in one of ours.
const MESSAGE_CHARS: usize = 400;

pub struct Kubectl {
    program: String,
    context: Option<String>,
}

/// A pod in which a tracer can be run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Agent {
    pub node: String,
    pub namespace: String,
    pub pod: String,
}

impl Agent {
    /// The pod that is made on a node without an agent. Its name is the node's, so that
    /// two who ask for one node do not make two.
    pub fn of_our_own(node: &str) -> Self {
        let mut pod = format!("tracer-{}", node.replace('.', "-"));
        pod.truncate(63);
        let pod = pod.trim_end_matches('-').to_owned();
        Self { node: node.to_owned(), namespace: NAMESPACE.to_owned(), pod }
    }
}

impl Kubectl {
    pub fn new(program: &str, context: Option<&str>) -> Self {
        Self { program: program.to_owned(), context: context.map(str::to_owned) }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(context) = &self.context {
            command.arg(format!("--context={context}"));
        }
        command.args(args);
        command
    }

    /// Runs it, and returns what it prints.
    fn read(&self, args: &[&str]) -> Result<String> {
        let output = self.command(args).stdin(Stdio::null()).output();
        let output = output.with_context(|| self.cannot_start())?;
        if !output.status.success() {
            bail!("`kubectl {}` failed: {}", args.join(" "), message(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn cannot_start(&self) -> String {
        format!("failed to start `{}`: install kubectl, or put it on the search path", self.program)
    }

    fn read_json(&self, args: &[&str]) -> Result<Value> {
        let text = self.read(args)?;
        serde_json::from_str(&text)
            .with_context(|| format!("`kubectl {}` printed no JSON", args.join(" ")))
    }

    /// The node that a pod runs on.
    ///
    /// # Errors
    ///
    /// When there is no such pod, or it has no node yet.
    pub fn node_of(&self, namespace: &str, pod: &str) -> Result<String> {
        let namespace_is = format!("--namespace={namespace}");
        let found = self.read_json(&["get", "pod", pod, &namespace_is, "--output=json"])?;
        match found["spec"]["nodeName"].as_str() {
            Some(node) if !node.is_empty() && !node.starts_with('-') => Ok(node.to_owned()),
            _ => bail!("the pod `{namespace}/{pod}` is on no node yet: it waits to be scheduled"),
        }
    }

    /// The agent's pod on a node, if one runs there.
    ///
    /// # Errors
    ///
    /// When kubectl fails.
    pub fn find_agent(&self, node: &str) -> Result<Option<Agent>> {
        let (selector, field) =
            (format!("--selector={SELECTOR}"), format!("--field-selector=spec.nodeName={node}"));
        let found = self.read_json(&[
            "get",
            "pods",
            "--all-namespaces",
            &selector,
            &field,
            "--output=json",
        ])?;
        let pods = found["items"].as_array().map_or(&[][..], Vec::as_slice);
        let running = pods.iter().filter(|pod| pod["status"]["phase"] == "Running");
        let agent = |pod: &Value| {
            let name = |field: &str| pod["metadata"][field].as_str().map(str::to_owned);
            let (namespace, pod) = (name("namespace")?, name("name")?);
            let is_plain = !namespace.starts_with('-') && !pod.starts_with('-');
            is_plain.then(|| Agent { node: node.to_owned(), namespace, pod })
        };
        Ok(running.filter_map(agent).next())
    }

    /// Runs a command in an agent's container, on this terminal; its exit code.
    ///
    /// # Errors
    ///
    /// When kubectl cannot be started, or is killed.
    pub fn run_in(&self, agent: &Agent, words: &[String], is_terminal: bool) -> Result<u8> {
        let namespace = format!("--namespace={}", agent.namespace);
        let mut command = self.command(&["exec", &agent.pod, &namespace, "--container=tracer"]);
        if is_terminal {
            command.args(["--stdin", "--tty"]);
        }
        command.arg("--").args(words);
        let status = command.status().with_context(|| self.cannot_start())?;
        let code = status.code().with_context(|| format!("kubectl ended with {status}"))?;
        // Codes have eight bits.
        Ok(u8::try_from(code).unwrap_or(1))
    }

    /// Makes the agent's port one of this machine's, until somebody ends it.
    ///
    /// # Errors
    ///
    /// When kubectl says so.
    pub fn forward(&self, agent: &Agent, port: u16) -> Result<()> {
        let (pod, port) = (format!("pod/{}", agent.pod), port.to_string());
        let namespace = format!("--namespace={}", agent.namespace);
        let mut command = self.command(&["port-forward", &pod, &port, &namespace]);
        let status = command.status().with_context(|| self.cannot_start())?;
        if !status.success() && status.code().is_some() {
            bail!("`kubectl port-forward` ended with {status}");
        }
        Ok(())
    }

    /// Makes an object. Kubernetes before 1.30 does not know one field of the pod, and an
    /// annotation of it says the same: that is a warning, and no refusal.
    ///
    /// # Errors
    ///
    /// When the cluster refuses it.
    pub fn create(&self, manifest: &Value) -> Result<()> {
        let mut command = self.command(&["create", "--filename=-", "--validate=warn"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| self.cannot_start())?;
        if let Some(mut input) = child.stdin.take() {
            // One that does not read it says why by its end.
            let _ = std::io::Write::write_all(&mut input, manifest.to_string().as_bytes());
        }
        let output = child.wait_with_output().context("failed to wait for kubectl")?;
        if !output.status.success() {
            bail!(
                "the pod was refused: {}; where its namespace is missing or keeps such pods out, \
                 make it with the label pod-security.kubernetes.io/enforce=privileged",
                message(&output.stderr)
            );
        }
        Ok(())
    }

    /// # Errors
    ///
    /// When it is not ready in time.
    pub fn wait_until_ready(&self, agent: &Agent) -> Result<()> {
        let (pod, namespace) =
            (format!("pod/{}", agent.pod), format!("--namespace={}", agent.namespace));
        let timeout = format!("--timeout={READY}");
        self.read(&["wait", &pod, &namespace, "--for=condition=Ready", &timeout]).map(drop)
    }

    /// # Errors
    ///
    /// When kubectl fails; the message has the command to try again.
    pub fn delete(&self, agent: &Agent) -> Result<()> {
        let namespace = format!("--namespace={}", agent.namespace);
        let deleted = self.read(&["delete", "pod", &agent.pod, &namespace, "--wait=false"]);
        deleted
            .map(drop)
            .with_context(|| format!("the pod is still there: {}", self.removal(agent)))
    }

    /// The command that removes what was made, for people.
    pub fn removal(&self, agent: &Agent) -> String {
        let context = self.context.as_ref().map(|name| format!(" --context={name}"));
        let Agent { namespace, pod, .. } = agent;
        format!("kubectl{} delete pod {pod} --namespace={namespace}", context.unwrap_or_default())
    }
}

/// The last that a program said, on one line and of bounded length.
fn message(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let last =
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it did not say why");
    escape(&last.chars().take(MESSAGE_CHARS).collect::<String>()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_of_our_own_has_a_name_that_kubernetes_takes() {
        let pod = |node: &str| Agent::of_our_own(node).pod;
        assert_eq!(pod("cp1"), "tracer-cp1");
        assert_eq!(
            pod("ip-10-0-0-1.eu-central-1.compute.internal"),
            "tracer-ip-10-0-0-1-eu-central-1-compute-internal"
        );
        let long = pod(&format!("{}.b", "a".repeat(55)));
        assert_eq!(long, format!("tracer-{}", "a".repeat(55)));
        assert!(pod(&"a".repeat(253)).len() <= 63);
    }
}
