//! The node agent: what it measures, as metrics, as JSON and as a page.
//!
//! The loop (`commands::agent`) owns the session; each period a snapshot goes
//! into [`series`] and [`disk_series`], from there into [`families`], and a [`published::Published`] is
//! handed to the thread that speaks HTTP. Nothing flows back: that thread knows
//! no session and holds no capability.

mod address;
pub mod checks;
pub mod config;
pub mod disk_series;
pub mod exposition;
pub mod families;
pub mod http;
pub mod keeper;
pub mod log;
pub mod marks;
pub mod past;
pub mod privileges;
pub mod published;
pub mod recall;
pub mod series;
pub mod shared;
pub mod socket;
pub mod web;
pub mod witness;
