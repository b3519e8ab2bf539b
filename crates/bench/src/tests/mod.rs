//! Tests of the pure modules, one file for each module.

mod complaint;
mod curve;
mod machine;
mod order;
mod page;
mod paired;
mod plot;
mod requirements;
mod signed_rank;
mod spread;
mod table;
