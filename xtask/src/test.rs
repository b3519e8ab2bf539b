//! All tests: the pure ones as the user, those of the `tests` crate as root,
//! and some of these on other kernels.
//!
//! Everything goes to standard error as it happens, but for one closing line
//! on standard output: `N passed, N failed, N skipped`.

use std::{
    env,
    ffi::OsString,
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build, check, root,
    setup::{self, Need, Talk},
    step::{self, cargo},
    tally::Tally,
    vm::{self, arch::Arch},
};

/// Makes a live test that finds it cannot run fail instead of being skipped.
const NO_SKIP: &str = "TRACER_NO_SKIP_LIVE";

/// Whether to boot other kernels at the end.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Machines {
    Boot,
    LeaveOut,
}

pub fn run(filter: Option<&str>, machines: Machines) -> Result<()> {
    setup::bring(&[Need::Build, Need::Test], Talk::Changes)?;
    if filter.is_none() {
        check::lint()?;
    }
    // The file that is deployed: a container's root and the machines have no
    // libraries.
    let tracer = build::build_static_tracer(Arch::host())?;
    let mut build = cargo("test");
    build.args(["--package", "tracer-tests", "--test", "tests", "--no-run"]);
    let live = step::timed("build (tests)", || step::build_executable(&mut build, "tests"))?;

    let mut tally = Tally::default();
    let mut pure = cargo("test");
    pure.args(["--workspace", "--exclude", "tracer-tests", "--no-fail-fast", "--"]).args(filter);
    count("pure tests", &mut pure, &mut tally)?;

    let mut variables =
        vec![("PATH", root::search_path()), ("TRACER_BIN", OsString::from(&tracer))];
    for name in [NO_SKIP, "RUST_BACKTRACE", "CI"] {
        variables.extend(env::var_os(name).map(|value| (name, value)));
    }
    let mut live = root::command(live, &variables)?;
    live.current_dir(step::workspace().join("tests"));
    // One at a time: they share the kernel that they look at.
    live.args(["--test-threads=1", "--nocapture", "--skip", "guest::"]).args(filter);
    count("tests from outside, as root", &mut live, &mut tally)?;
    if filter.is_none() && machines == Machines::Boot {
        let must_run = env::var_os(NO_SKIP).is_some_and(|value| value == "1");
        step::timed("tests in virtual machines", || vm::count_short(&mut tally, must_run))?;
    }

    println!("{tally}");
    match (tally.failed, tally.passed()) {
        (0, 0) => bail!("no test ran"),
        (0, _) => Ok(()),
        (failed, _) => bail!("{failed} tests failed"),
    }
}

/// Runs a program that speaks as libtest does, shows and counts what it says.
fn count(name: &str, command: &mut Command, tally: &mut Tally) -> Result<()> {
    eprintln!("== {name}");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {name}: `{}`", command.get_program().display()))?;
    let mut output = child.stdout.take().context("the tests have no output")?;
    let mut buffer = [0; 4096];
    loop {
        let length = output.read(&mut buffer).context("cannot read what the tests say")?;
        if length == 0 {
            break;
        }
        // Not by lines: a test's name is shown before the test begins.
        std::io::stderr().write_all(&buffer[..length])?;
        tally.feed(&buffer[..length]);
    }
    let status = child.wait().with_context(|| format!("cannot wait for {name}"))?;
    tally.end(status.success());
    eprintln!("== {name}: {status}");
    Ok(())
}
