//! Builds what virtual machines run, and runs it there.

use anyhow::Result;
use tracer_vm::{Builds, args::VmArgs};

use crate::{
    build::{build_guest_tests, build_guest_tracer, build_static_tests, build_static_tracer},
    setup::{self, Need, Talk},
};

/// The programs that guests run.
pub static BUILDS: Builds = Builds { tracer: build_static_tracer, tests: build_static_tests };

/// The programs that the short guests of a commit run: built sooner for another
/// architecture, without optimising the program as a whole.
pub static GUEST_BUILDS: Builds = Builds { tracer: build_guest_tracer, tests: build_guest_tests };

pub fn run(args: &VmArgs) -> Result<()> {
    let boots = args.plan()?;
    if args.list {
        for boot in &boots {
            println!("{boot}: {}", boot.tests.join(" "));
        }
        return Ok(());
    }
    setup::ensure(&[Need::Build], Talk::Changes)?;
    tracer_vm::run(args, &boots, &BUILDS)
}
