//! Runs the tracer and its tests on other kernels, in virtual machines.
//!
//! Debian's kernels, QEMU and the guests' programs are fetched once into `.vm`, and are
//! not installed; no root is needed. A failed boot does not stop the others, so one run
//! reports on every kernel. [`plan`] lists what is booted, [`tally`] reads what tests
//! print, and [`report`] describes how a boot ended. The caller knows how the tracer and
//! its tests are built ([`Builds`]).

mod apt;
pub mod arch;
mod archive;
pub mod args;
mod boot;
mod closure;
mod console;
mod files;
mod guest;
pub mod guests;
mod kernels;
mod matrix;
mod modules;
pub mod plan;
mod programs;
pub mod report;
mod results;
mod run;
pub mod tally;

use std::{path::PathBuf, time::SystemTime};

use anyhow::{Context as _, Result, bail};
use tracer_step::workspace;

use crate::{arch::Arch, args::VmArgs, plan::Boot, report::Verdict};

/// Static builds of this workspace, for one architecture each.
pub struct Builds {
    pub tracer: fn(Arch) -> Result<PathBuf>,
    pub tests: fn(Arch) -> Result<PathBuf>,
}

/// The kernel that benches run on in a guest.
const BENCH_KERNEL: &str = "6.12";

/// Runs a bench with these arguments on null_blk in a guest, and returns the line of JSON
/// that it prints at the end.
///
/// # Errors
///
/// The guest could not be started, or failed, or printed no such line.
pub fn bench_null_blk(bench: PathBuf, arguments: &str, builds: &Builds) -> Result<String> {
    let args = VmArgs {
        kernels: vec![BENCH_KERNEL.parse()?],
        arch: Some(Arch::host()),
        script: Some(workspace().join("crates/vm/src/null_blk.sh")),
        program: Some(bench),
        environment: vec![("BENCH_ARGUMENTS".to_owned(), arguments.to_owned())],
        ..VmArgs::default()
    };
    let boots = args.plan()?;
    let fetched = run::fetch(&boots, &args)?;
    let reports = run::run_all(&boots, fetched, &args, builds, &|_| {})?;
    if reports.iter().any(|report| report.verdict != Verdict::Passed) {
        bail!("the bench in the guest failed:\n{}", report::summary(&reports));
    }
    let boot = boots.first().context("a kernel makes a boot")?;
    let said = report::read(&run::log_of(boot), report::Part::Whole);
    // The JSON follows the time at which it was printed.
    let json = said.lines().find_map(|line| Some(&line[line.find("{\"machine\"")?..]));
    json.map(str::to_owned).context("the bench in the guest printed no figures")
}

/// Does these boots, and prints their results.
///
/// # Errors
///
/// A boot failed, or something that it needs cannot be fetched.
pub fn run(args: &VmArgs, boots: &[Boot], builds: &Builds) -> Result<()> {
    let fetched = run::fetch(boots, args)?;
    let reports = run::run_all(boots, fetched, args, builds, &|_| {})?;
    if args.docs {
        let today = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let page = {
            let command: Vec<_> = std::env::args().skip(1).collect();
            matrix::render(&reports, today.get(..10).unwrap_or_default(), &command.join(" "))
        };
        let folder = workspace().join("docs");
        files::create_folder(&folder)?;
        files::write(&folder.join("kernels.md"), page.as_bytes())?;
    }
    if args.json {
        for report in &reports {
            println!("{}", serde_json::to_string(report)?);
        }
    } else {
        print!("{}", report::summary(&reports));
    }
    let failed = reports.iter().filter(|report| report.verdict.is_failure()).count();
    if failed > 0 {
        bail!("{failed} of {} boots failed", reports.len());
    }
    Ok(())
}
