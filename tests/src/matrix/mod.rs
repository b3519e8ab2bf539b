//! Counts requests and syncs on every device, filesystem and kernel, and reports the results.
//!
//! Both `live` and `guest` use it. Checks here return what is wrong instead of panicking, so
//! that all cells of a matrix are tried and reported.

/// One line per cell, and the result at the end.
pub mod cells;
/// Block requests: the tracer's counts compared with the kernel's.
pub mod requests;
/// The ways to sync, each seen once per call.
pub mod ways;
