//! The measurements, and their presentation: as a table, as JSON, as a page.
//!
//! Figures go in, text comes out. Nothing here measures or knows the tracer. So a page
//! can be written again from the JSON of an earlier run, and tests need no kernel
//! (`tests`).

pub mod curve;
pub mod machine;
pub mod page;
pub mod paired;
pub mod plot;
pub mod requirements;
pub mod rows;
pub mod signed_rank;
pub mod spread;
pub mod table;

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use curve::Curve;
use machine::Machine;
use requirements::Requirement;
use table::Table;

/// All results of one run.
#[derive(Deserialize, Serialize)]
pub struct Report {
    pub machine: Machine,
    #[serde(rename = "rows")]
    pub table: Table,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Curve>,
    /// The requirements and whether they are met; derived from the rest, and not read back.
    #[serde(default, skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<Requirement>,
}

impl Report {
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }

    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        self.machine.write_text(out)?;
        self.table.write_text(out)
    }
}
