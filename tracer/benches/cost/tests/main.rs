//! The tests of what of the bench is pure: a bench has none of its own.

#![allow(dead_code, reason = "what measures is not part of this target")]

#[path = "../peers/complaint.rs"]
mod complaint;
#[path = "../paired/order.rs"]
mod order;
#[path = "../report/mod.rs"]
mod report;

mod cases;
