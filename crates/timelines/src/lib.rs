//! A victim and its neighbours on a simulated disk, and who truly makes it slow.
//!
//! The engine's verdicts are compared with this truth, and so are the tracer's on a real
//! kernel, where the same cells are played. This crate knows neither of them: the truth
//! follows from what was changed.

#![forbid(unsafe_code)]

pub mod cell;
pub mod dice;
pub mod timeline;
pub mod truth;
