//! Counts on every device, filesystem and kernel, and reports
//! of the results.
//!
//! Both `live` and `guest` use it. Checks here return what is wrong instead of
//! panicking, so that all cells of a matrix are tried and reported.

/// One line per cell, and the verdict at the end.
pub mod cells;
/// Block requests: ours against the kernel's own.
pub mod requests;
/// The ways to sync, each seen once per call.
pub mod ways;
