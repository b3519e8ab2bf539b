//! A victim and its neighbours on a simulated disk, and who makes it slow in truth.
//!
//! The engine's verdicts are held against it, and so are the tracer's on a real
//! kernel, which plays the same cells. It knows neither: what is true follows from
//! what was changed.

#![forbid(unsafe_code)]

pub mod cell;
pub mod dice;
pub mod timeline;
pub mod truth;
