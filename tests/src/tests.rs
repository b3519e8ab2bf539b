//! All tests that run the tracer as a program, in one binary.
//!
//! `cargo xtask test` runs them as root, one at a time. Tests that need neither root nor a
//! kernel to trace are also part of `cargo xtask check`, which leaves out everything in
//! `live`.

#![expect(clippy::unwrap_used, reason = "a test that fails here shows the line and the error")]

/// No heap allocation per record.
mod allocations;
/// The command line: help, usage errors, exit codes, completions, manual.
mod cli;
/// The files in `deploy`: manifests, rules and dashboards, without a cluster.
#[cfg(not(target_env = "musl"))]
mod deploy;
/// Pages, templates and workflows, which a newcomer to the project sees first.
#[cfg(not(target_env = "musl"))]
mod door;
/// Only in a virtual machine: devices, modules and cgroups of any kind.
mod guest;
/// The agent through kubectl, with a script in the place of kubectl.
mod kubectl;
/// Tests as root on this kernel: each causes a known delay, which must be explained.
mod live;
/// Counts of requests and syncs on each filesystem and kernel, and their reports.
mod matrix;
/// Names that may be written in one place only.
#[cfg(not(target_env = "musl"))]
mod names;
/// Two hours of a simulated node, asked afterwards.
mod night;
/// Kinds of nodes: `docs/nodes.md` names a test for each.
#[cfg(not(target_env = "musl"))]
mod nodes;
/// Names that changed: no old name is left in the tree.
#[cfg(not(target_env = "musl"))]
mod renamed;
/// Recordings, replayed by a user without rights.
mod replay;
/// TLS, client certificates and passwords of a running agent.
#[cfg(not(target_env = "musl"))]
mod secured;
/// A disk whose slowness is known, and culprits for it.
mod simulated;
/// Lets a test say that this machine cannot run it.
mod skip;
/// The program under test: its path, and a running instance.
mod subject;
