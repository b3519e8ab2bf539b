//! The hooks: a directory for each capability, named like it.
//!
//! The hooks lie on top: each reads what the kernel hands out and says what has
//! happened to the state below (`requests`, `syncs`, `journals`, …). None
//! knows another, and no state knows a hook. The user's side of each lies
//! in a folder of the same name.

mod bio;
mod complete;
mod contender;
mod dirtied;
mod freeze;
mod issue;
mod journal;
mod log;
mod metadata;
mod reclaim;
mod submit;
mod sync;
mod throttle;
mod tickets;
mod writeback;
mod writers;
