//! The arguments of `tracer kubectl`: which view of which node, and how its kubectl is called.

use std::{ffi::OsString, path::Path, time::Duration};

use clap::{Args, ValueEnum};

use super::values;

/// A view of a node or a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum View {
    /// The verdict on a pod, with its evidence.
    Why,
    /// The screen of a node, or of the node of a pod.
    Top,
    /// Each slow sync of a node as it ends.
    Watch,
    /// A list of everything that the tracer can see on a node, and why the rest is missing.
    Doctor,
    /// The report on what the agent has recorded, on standard output.
    Report,
    /// The page of a node's agent, on a port of this machine.
    Page,
}

impl View {
    /// The tracer's command in the pod; none where its page is asked for.
    pub fn command(self) -> Option<&'static str> {
        match self {
            Self::Why => Some("why"),
            Self::Top => Some("top"),
            Self::Watch => Some("watch"),
            Self::Doctor => Some("doctor"),
            Self::Report => Some("report"),
            Self::Page => None,
        }
    }
}

#[derive(Args, Clone, Debug)]
pub struct KubectlArgs {
    #[arg(value_enum)]
    pub view: View,

    /// `NAMESPACE/POD`, or the name of a node.
    #[arg(value_parser = parse_target)]
    pub target: Target,

    /// Arguments for the tracer's command in the pod, such as `--for 2m` or `--json`.
    #[arg(last = true, value_name = "ARGS")]
    pub more: Vec<String>,

    /// Use this context of kubectl instead of the current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// Run this image of the tracer, named by its digest, on a node without an agent.
    #[arg(long, value_name = "NAME@sha256:…", value_parser = parse_image)]
    pub image: Option<String>,

    /// Create the pod on a node without an agent, and do not ask first.
    #[arg(long)]
    pub yes: bool,

    /// Do not delete that pod afterwards; it ends by itself after 15 minutes.
    #[arg(long)]
    pub keep: bool,

    /// For `report`: record for this long, then report on that, instead of on what the agent
    /// has recorded [default on a node without an agent: 2m].
    #[arg(long, value_name = "DURATION", value_parser = values::parse_duration)]
    pub record: Option<Duration>,

    /// The program to call.
    #[arg(
        long,
        value_name = "PROGRAM",
        env = "TRACER_KUBECTL",
        default_value = "kubectl",
        hide = true
    )]
    pub kubectl: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    Node(String),
    Pod { namespace: String, pod: String },
}

/// Whether this is a name of a Kubernetes object, which kubectl cannot mistake for an option.
fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    let ends = [text.chars().next(), text.chars().last()];
    text.len() <= 253
        && text.chars().all(is_part)
        && ends.iter().all(|end| end.is_some_and(|c| c.is_ascii_alphanumeric()))
}

fn parse_target(text: &str) -> Result<Target, String> {
    let name = |text: &str| {
        let is_wrong =
            || format!("`{text}` is not a name in Kubernetes: write NAMESPACE/POD, or NODE");
        is_name(text).then(|| text.to_owned()).ok_or_else(is_wrong)
    };
    match text.split_once('/') {
        Some(("node" | "no" | "nodes", node)) => Ok(Target::Node(name(node)?)),
        Some((namespace, pod)) => Ok(Target::Pod { namespace: name(namespace)?, pod: name(pod)? }),
        None => Ok(Target::Node(name(text)?)),
    }
}

/// Parses an image with its digest. A tag is refused: it may name another image tomorrow, and
/// the image gets rights on a node.
fn parse_image(text: &str) -> Result<String, String> {
    let Some((name, digest)) = text.split_once("@sha256:") else {
        return Err("name the image by its digest, NAME@sha256:…: a tag may change".into());
    };
    let is_digest = digest.len() == 64 && digest.chars().all(|c| c.is_ascii_hexdigit());
    let is_name = !name.is_empty() && !name.starts_with('-') && !name.contains(char::is_whitespace);
    if is_digest && is_name {
        Ok(text.to_owned())
    } else {
        Err("the digest does not have 64 hexadecimal digits".into())
    }
}

/// The name under which kubectl finds a plugin `tracer`.
const PLUGIN: &str = "kubectl-tracer";

/// Adds the command `kubectl` to the arguments if the program is called as a plugin.
pub fn as_plugin(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<_> = args.into_iter().collect();
    let name = args.first().and_then(|program| Path::new(program).file_name());
    if name.is_some_and(|name| name == PLUGIN) {
        args.insert(1, "kubectl".into());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn called_as_a_plugin_it_is_the_command() {
        let check = |args: &[&str], expected: &[&str]| {
            assert_eq!(as_plugin(args.iter().map(OsString::from)), expected);
        };
        check(
            &["/usr/bin/kubectl-tracer", "top", "n"],
            &["/usr/bin/kubectl-tracer", "kubectl", "top", "n"],
        );
        check(&["kubectl-tracer"], &["kubectl-tracer", "kubectl"]);
        check(&["/kubectl-tracer/tracer", "top"], &["/kubectl-tracer/tracer", "top"]);
        check(&[], &[]);
    }

    #[test]
    fn a_target_is_a_pod_or_a_node_and_never_an_option() {
        let pod = Target::Pod { namespace: "shop".into(), pod: "web-0".into() };
        assert_eq!(parse_target("shop/web-0"), Ok(pod));
        assert_eq!(parse_target("cp1.example"), Ok(Target::Node("cp1.example".into())));
        assert_eq!(parse_target("node/cp1"), Ok(Target::Node("cp1".into())));
        for wrong in ["", "/", "a/", "/b", "--all", "a/-n", "a b", "A", "a/b/c", "a;b", "é"] {
            assert!(parse_target(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse_target(&"a".repeat(254)).is_err());
    }

    #[test]
    fn an_image_has_a_digest() {
        let good = format!("r.example/tracer@sha256:{}", "0a".repeat(32));
        assert_eq!(parse_image(&good), Ok(good.clone()));
        for wrong in ["tracer:0.1.0", "tracer@sha256:12", "@sha256:", &good[1..].replace('a', "x")]
        {
            assert!(parse_image(wrong).is_err(), "{wrong}");
        }
        assert!(parse_image(&format!("-{good}")).is_err());
    }
}
