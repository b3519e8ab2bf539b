//! Builds what virtual machines run, and runs it there.

use anyhow::Result;
use tracer_vm::{Builds, args::VmArgs};

use crate::{
    build::{build_quick_tests, build_quick_tracer, build_static_tests, build_static_tracer},
    setup::{self, Need, Talk},
};

/// Programs as they are released.
pub static RELEASED: Builds = Builds { tracer: build_static_tracer, tests: build_static_tests };

/// Such programs are built sooner, as none of them is optimised as a whole.
pub static QUICK: Builds = Builds { tracer: build_quick_tracer, tests: build_quick_tests };

pub fn run(args: &VmArgs) -> Result<()> {
    let boots = args.plan()?;
    if args.list {
        for boot in &boots {
            println!("{boot}: {}", boot.tests.join(" "));
        }
        return Ok(());
    }
    setup::ensure(&[Need::Build], Talk::Changes)?;
    tracer_vm::run(args, &boots, &QUICK)
}
