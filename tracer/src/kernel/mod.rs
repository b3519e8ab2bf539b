//! The only room that asks what kernel this is.
//!
//! [`types`] reads its BTF, [`offsets`] turns that into the programs'
//! configuration, [`facts`] is the sum as a value. [`capability`] lists what is
//! observed, [`program`] with which programs on which hooks, [`ladder`] the ways
//! to each capability; [`load`] climbs it on the running kernel, with [`loader`]
//! for maps and programs and [`refusal`] for what the kernel says, and
//! [`selftest`] proves each rung on an operation that the tracer makes itself.
//! [`floor`] loads programs that do nothing, to compare costs with.

pub mod blind;
mod bpf;
pub mod capability;
pub mod facts;
pub mod floor;
pub mod ladder;
pub mod load;
pub mod loader;
pub mod offsets;
pub mod pods;
pub mod program;
mod quiet;
pub mod refusal;
pub mod selftest;
pub mod types;
