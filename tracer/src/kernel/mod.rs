//! The only room that asks what kernel this is.
//!
//! [`types`] reads its BTF, [`offsets`] turns that into the programs'
//! configuration, [`facts`] is the sum as a value, [`ladder`] lists the ways to
//! each capability, [`load`] climbs it on the running kernel and
//! [`selftest`] proves each rung on an operation that the tracer makes itself.

pub mod facts;
pub mod ladder;
pub mod load;
pub mod offsets;
pub mod selftest;
pub mod types;
