//! The programs of tests, and the names of what is in them.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use tracer_step::{self as step, Executable, cargo, root};
use tracer_vm::{Builds, arch::Arch};

use crate::{
    build::QUICK,
    check,
    setup::{self, Talk},
    test::NO_SKIP,
    vm,
};

/// The step that builds all other tests.
const TESTS: &str = "build (tests)";

/// The package of the tests that play thousands of hours.
pub const PLAYED: &str = "tracer-queueing";

/// All that is built before the first test runs.
pub struct Built {
    pub tracer: PathBuf,
    /// The tests of all packages except `tests`.
    pub pure: Vec<Program>,
    pub live: Program,
}

/// A program of tests.
pub struct Program {
    pub executable: Executable,
    /// Libtest's names, in its order.
    pub tests: Vec<String>,
    prefix: String,
}

impl Built {
    pub fn build() -> Result<Self> {
        Self::build_beside_lints(false, &BTreeSet::new(), &vm::QUICK)
    }

    /// Builds the tests, with the lints if they are asked for, and at the same time what
    /// is linked statically, for the guests too.
    ///
    /// Optimised builds have directories of their own, so cargo lets both run. One of them
    /// leaves a CPU idle now and then, for example at the end of a released program, which
    /// is one unit of code.
    pub fn build_beside_lints(
        has_lints: bool,
        guests: &BTreeSet<Arch>,
        builds: &Builds,
    ) -> Result<Self> {
        // rustup must not change the toolchain while it compiles.
        for arch in guests.iter().copied().chain([Arch::host()]) {
            setup::ensure_target(arch.static_target(), Talk::Changes)?;
        }
        thread::scope(|scope| {
            let optimised = scope.spawn(|| Self::build_optimised(guests, builds));
            let programs = match has_lints {
                true => Self::lint_and_build_tests(),
                false => Self::build_tests(TESTS, &mut tests()),
            };
            let optimised = optimised.join().map_err(|_| anyhow!("a build panicked"))?;
            let (mut live, mut pure): (Vec<_>, Vec<_>) =
                programs?.into_iter().partition(|program| program.prefix.is_empty());
            let live = live.pop().context("the workspace has no test binary `tests`")?;
            let (tracer, played) = optimised?;
            for program in played {
                pure.retain(|other| other.executable.target != program.executable.target);
                pure.push(program);
            }
            Ok(Self { tracer, pure, live })
        })
    }

    /// Builds the tracer, the tests that play for hours, and what guests run.
    fn build_optimised(
        guests: &BTreeSet<Arch>,
        builds: &Builds,
    ) -> Result<(PathBuf, Vec<Program>)> {
        // The tests use the static tracer, as it is deployed: a container's root and the
        // guests have no libraries.
        let tracer = (builds.tracer)(Arch::host())?;
        let played = Self::build_tests("build (timelines)", &mut played(&["--no-run"]))?;
        for arch in guests {
            (builds.tracer)(*arch)?;
            (builds.tests)(*arch)?;
        }
        Ok((tracer, played))
    }

    fn lint_and_build_tests() -> Result<Vec<Program>> {
        check::format()?;
        let programs = Self::build_tests(TESTS, check::refuse_warnings(&mut tests()))?;
        check::lint_ebpf()?;
        Ok(programs)
    }

    fn build_tests(step: &str, command: &mut Command) -> Result<Vec<Program>> {
        let built = step::timed(step, || step::build_executables(command))?;
        let is_test = |built: &Executable| built.is_test && built.kind != "bench";
        built.into_iter().filter(is_test).map(Program::list).collect()
    }

    /// The full names of all tests that there are.
    pub fn all_tests(&self) -> BTreeSet<String> {
        let names = |program: &Program| {
            let names = program.tests.iter().map(|test| program.full_name(test));
            names.collect::<Vec<_>>()
        };
        self.pure.iter().chain([&self.live]).flat_map(names).collect()
    }
}

/// The command that builds the tests of all packages at once: alone, each would compile its
/// dependencies again, with the features that it alone asks for. Benches are built for the
/// lints' sake.
fn tests() -> Command {
    let mut command = cargo("test");
    command.args(["--workspace", "--all-targets", "--no-run"]);
    command
}

/// The command that builds or runs the tests that play thousands of hours. The engine is
/// optimised for them, but not for its own tests, because that takes a CPU a minute and saves
/// seconds.
pub fn played(more: &[&str]) -> Command {
    let mut command = cargo("test");
    command.args(["--profile", QUICK, "--package", PLAYED]).args(more);
    command
}

impl Program {
    fn list(executable: Executable) -> Result<Self> {
        let cannot = || format!("failed to list the tests of `{}`", executable.file.display());
        let mut command = Command::new(&executable.file);
        let listed = step::read_output(command.arg("--list").current_dir(&executable.folder))
            .with_context(cannot)?;
        let tests = parse_list(&listed).with_context(cannot)?;
        let prefix = prefix(&executable.target, &executable.kind);
        Ok(Self { executable, tests, prefix })
    }

    /// Runs a command that runs this program. Shows its output and passes it on as it
    /// comes, with the time since the start.
    pub fn stream(
        &self,
        name: &str,
        command: &mut Command,
        mut take: impl FnMut(&[u8], Duration) -> Result<()>,
    ) -> Result<ExitStatus> {
        eprintln!("== {name}");
        command.current_dir(&self.executable.folder);
        let begun = Instant::now();
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| {
            format!("failed to run {name}: `{}`", command.get_program().display())
        })?;
        let mut output = child.stdout.take().context("the tests have no output")?;
        let mut buffer = [0; 4096];
        loop {
            let length = output.read(&mut buffer).context("failed to read the tests' output")?;
            if length == 0 {
                break;
            }
            // This does not wait for whole lines: a test's name is shown before the test begins.
            std::io::stderr().write_all(&buffer[..length])?;
            take(&buffer[..length], begun.elapsed())?;
        }
        let status = child.wait().with_context(|| format!("failed to wait for {name}"))?;
        eprintln!("== {name}: {status}, {:.1} s", begun.elapsed().as_secs_f64());
        Ok(status)
    }

    /// Runs this program as root with this tracer, and with more variables.
    pub fn as_root(&self, tracer: &Path, more: &[(&'static str, &str)]) -> Result<Command> {
        let mut variables =
            vec![("PATH", root::search_path()), ("TRACER_BIN", OsString::from(tracer))];
        variables.extend(more.iter().map(|(name, value)| (*name, OsString::from(value))));
        let given =
            ["TRACER_REPEAT", "TRACER_KILLS", "TRACER_KEEP_RECORDINGS", "RUST_BACKTRACE", "CI"];
        for name in [NO_SKIP].into_iter().chain(given) {
            variables.extend(env::var_os(name).map(|value| (name, value)));
        }
        root::command(&self.executable.file, &variables)
    }

    /// The name that a test has in filters and in the table.
    pub fn full_name(&self, test: &str) -> String {
        format!("{}{test}", self.prefix)
    }
}

/// The prefix that keeps tests of different programs apart. The live tests, which people
/// name most often, have none.
fn prefix(target: &str, kind: &str) -> String {
    match kind {
        "test" if target == "tests" => String::new(),
        "lib" | "test" => format!("{target}::"),
        kind => format!("{target}-{kind}::"),
    }
}

/// The names in what libtest prints for `--list`.
fn parse_list(listed: &str) -> Result<Vec<String>> {
    let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    let names: Vec<_> = names.map(str::to_owned).collect();
    let count = listed.lines().last().and_then(|line| line.split(" test").next()?.parse().ok());
    ensure!(
        count == Some(names.len()),
        "the list has {} names and says that it has {count:?}",
        names.len()
    );
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_listed_as_libtest_names_them() {
        let listed = "a::b: test\nc: test\nd: benchmark\n\n2 tests, 1 benchmark";
        assert_eq!(parse_list(listed).unwrap(), ["a::b", "c"]);
        assert_eq!(parse_list("0 tests, 0 benchmarks").unwrap(), [""; 0]);
        assert_eq!(parse_list("a: test\n\n1 test, 0 benchmarks").unwrap(), ["a"]);
    }

    #[test]
    fn a_list_that_is_not_whole_is_refused() {
        for listed in ["", "a: test", "a: test\n\n2 tests, 0 benchmarks", "usage: bench"] {
            assert!(parse_list(listed).is_err(), "{listed}");
        }
    }

    #[test]
    fn a_test_is_called_by_its_crate_but_from_outside() {
        assert_eq!(prefix("tests", "test"), "");
        assert_eq!(prefix("tracer_engine", "lib"), "tracer_engine::");
        assert_eq!(prefix("tracer", "bin"), "tracer-bin::");
    }
}
