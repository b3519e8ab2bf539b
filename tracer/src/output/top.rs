//! The full screen of `tracer top`.
//!
//! [`state`] turns keys into a view, [`draw`] turns a view and a snapshot into
//! cells, [`terminal`] owns the terminal. The caller owns the loop: it waits
//! for snapshots, keys and signals, and decides when to draw.

pub mod draw;
pub mod ink;
pub mod state;
pub mod tables;
pub mod terminal;
