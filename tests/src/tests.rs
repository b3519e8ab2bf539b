//! Everything that runs the tracer from outside, in one binary.
//!
//! `cargo xtask test` runs it as root, one test at a time; what needs neither
//! root nor a kernel to trace is also part of `cargo xtask check`, which leaves
//! out whatever is below `live`.

#![expect(clippy::unwrap_used, reason = "a test that fails here shows the line and the error")]

/// No heap allocation per record.
mod allocations;
/// The command line: help, usage errors, exit codes, completions, manual.
mod cli;
/// The files in `deploy`: manifests, rules and dashboards, without a cluster.
#[cfg(not(target_env = "musl"))]
mod deploy;
/// Pages, templates and workflows, which a newcomer to the project meets first.
#[cfg(not(target_env = "musl"))]
mod door;
/// Only in a virtual machine: devices, modules and cgroups of any kind.
mod guest;
/// The agent through kubectl, for which a script stands in.
mod kubectl;
/// With root on this kernel: a known delay is caused, and must be explained.
mod live;
/// Counts that are compared everywhere, and how results are reported.
mod matrix;
/// Names that are defined in one place, and where they must not stand.
#[cfg(not(target_env = "musl"))]
mod names;
/// Kinds of nodes: what `docs/nodes.md` says of each, and by which test.
#[cfg(not(target_env = "musl"))]
mod nodes;
/// Names that changed: no old one is left in the tree.
#[cfg(not(target_env = "musl"))]
mod renamed;
/// Recordings, by a user with no rights.
mod replay;
/// TLS, client certificates and passwords of a running agent.
#[cfg(not(target_env = "musl"))]
mod secured;
/// A disk whose slowness is known, and culprits for it.
mod simulated;
/// How a test says that this machine cannot run it.
mod skip;
/// The program under test: where it is, and a running one.
mod subject;
