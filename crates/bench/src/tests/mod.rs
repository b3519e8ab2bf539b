//! The tests of what is pure, one file for each file that they are about.

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
