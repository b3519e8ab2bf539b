//! One file for each file that they are about.

mod complaint;
mod curve;
mod machine;
mod page;
mod plot;
mod requirements;
mod spread;
mod table;
