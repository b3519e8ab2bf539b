//! The kernel's side of user space, and the only crate that asks what kernel
//! this is.
//!
//! [`types`] reads its BTF, [`offsets`] turns that into the programs'
//! configuration, [`facts`] is the sum as a value. [`capability`] lists what is
//! observed, [`program`] with which programs on which hooks; each capability has a
//! folder in [`hooks`] with its attach strategies, with what its programs must know
//! of the kernel and with what they do not see. [`load`] selects a strategy for each
//! on the running kernel ([`strategies`] has the outcome), with
//! [`loader`] for maps and programs and [`refusal`] for what the kernel says, and
//! [`selftest`] tests each strategy on an operation that the tracer makes itself.
//! [`unsupported`] says what is not seen all the same, and [`late`] what a module that
//! came later would add. [`maps`] reads what the programs write. [`memlock`] is about
//! the limit on locked memory. [`floor`] loads programs that do nothing, to compare
//! costs with.
//!
//! Records, owners, rates and ticks flow out, to the session. It knows nobody
//! who shows them.

mod bpf;
#[cfg(test)]
#[path = "../build/environment.rs"]
mod build_environment;
pub mod capability;
pub mod cgroups;
pub mod clock;
pub mod confinement;
mod eviction;
pub mod facts;
pub mod floor;
pub mod hook;
pub mod hooks;
mod kernel_btf;
pub mod late;
pub mod load;
pub mod loader;
pub mod maps;
pub mod memlock;
pub mod offsets;
pub mod pids;
pub mod program;
mod quiet;
pub mod refusal;
pub mod selftest;
pub mod strategies;
pub mod types;
pub mod unsupported;
