//! All tests: the pure ones as the user, those of the `tests` crate as root,
//! and some of these on other kernels.
//!
//! Everything goes to standard error as it happens, but for one closing line
//! on standard output: `N passed, N failed, N skipped`.

use std::{
    env,
    ffi::OsString,
    io::{Read as _, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    build, check, root,
    setup::{self, Need, Talk},
    step::{self, Executable, cargo},
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

/// What is built before the first test runs.
struct Built {
    tracer: PathBuf,
    /// The tests of all packages but `tests`.
    pure: Vec<Executable>,
    live: Executable,
}

pub fn run(filter: Option<&str>, machines: Machines) -> Result<()> {
    setup::bring(&[Need::Build, Need::Test], Talk::Changes)?;
    let boots = filter.is_none() && machines == Machines::Boot;
    // What the machines need is fetched beside the compilers, but not beside the
    // tests: some of these measure.
    let (Built { tracer, pure, live }, short) = thread::scope(|scope| -> Result<_> {
        let short = boots.then(|| scope.spawn(vm::Short::fetch));
        if filter.is_none() {
            check::lint()?;
        }
        let built = build()?;
        let short = short.map(|thread| thread.join().map_err(|_| anyhow!("fetching panicked"))?);
        Ok((built, short.transpose()?))
    })?;

    let mut tally = Tally::default();
    for tests in pure {
        let name = format!("pure tests of {} ({})", tests.target, tests.kind);
        let mut command = Command::new(tests.file);
        count(&name, command.current_dir(tests.folder).args(filter), &mut tally)?;
    }

    let mut variables =
        vec![("PATH", root::search_path()), ("TRACER_BIN", OsString::from(&tracer))];
    for name in [NO_SKIP, "RUST_BACKTRACE", "CI"] {
        variables.extend(env::var_os(name).map(|value| (name, value)));
    }
    let mut command = root::command(live.file, &variables)?;
    command.current_dir(live.folder);
    // One at a time: they share the kernel that they look at.
    command.args(["--test-threads=1", "--nocapture", "--skip", "guest::"]).args(filter);
    count("tests from outside, as root", &mut command, &mut tally)?;
    if let Some(short) = short {
        let must_run = env::var_os(NO_SKIP).is_some_and(|value| value == "1");
        step::timed("tests in virtual machines", || short.count(&mut tally, must_run))?;
    }

    if tally.unnamed() > 0 {
        eprintln!("{} tests ended without a name that was recognised", tally.unnamed());
    }
    println!("{tally}");
    match (tally.failed(), tally.passed()) {
        (0, 0) => bail!("no test ran"),
        (0, _) => Ok(()),
        (failed, _) => bail!("{failed} tests failed"),
    }
}

fn build() -> Result<Built> {
    // The file that is deployed: a container's root and the machines have no
    // libraries.
    let tracer = build::build_static_tracer(Arch::host())?;
    // All at once: by itself each package would have its dependencies compiled
    // anew, with the features that it alone asks for.
    let mut command = cargo("test");
    command.args(["--workspace", "--no-run"]);
    let built = step::timed("build (tests)", || step::build_executables(&mut command))?;
    let (mut live, pure): (Vec<_>, Vec<_>) =
        built.into_iter().filter(|built| built.is_test).partition(|built| built.target == "tests");
    let live = live.pop().context("the workspace has no test binary `tests`")?;
    Ok(Built { tracer, pure, live })
}

/// Runs a program that speaks as libtest does, shows and counts what it says.
fn count(name: &str, command: &mut Command, tally: &mut Tally) -> Result<()> {
    eprintln!("== {name}");
    let begun = Instant::now();
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
        tally.feed(&buffer[..length], begun.elapsed());
    }
    let status = child.wait().with_context(|| format!("cannot wait for {name}"))?;
    tally.end(status.success());
    eprintln!("== {name}: {status}");
    Ok(())
}
