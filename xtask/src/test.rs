//! All tests: the pure ones as the user, those of the `tests` crate as root,
//! and some of these on other kernels.
//!
//! There are two tiers. A commit is tested in some 30 minutes, with five short guests
//! and with some of the tests that commits take in turns ([`rotation`]); `--all` leaves
//! nothing out, can be resumed ([`state`]) and writes down what it found ([`table`]).
//!
//! Everything goes to standard error as it happens, except for one closing line
//! on standard output: `N passed, N failed, N skipped`.

pub(crate) mod program;
mod record;
mod replays;
mod rotation;
mod scratch;
pub(crate) mod state;
pub(crate) mod table;
mod times;
pub(crate) mod tree;

use std::{
    collections::BTreeSet,
    env, fs,
    path::Path,
    process::Command,
    sync::Mutex,
    thread,
    time::{Instant, SystemTime},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use tracer_step::{self as step, workspace};
use tracer_vm::{
    Builds,
    guests::Guests,
    plan::Plan,
    report::Report,
    tally::{Outcome, Tally},
};

use crate::{
    setup::{self, Need, Talk},
    test::{
        program::{Built, Program},
        record::{record, record_boot, time},
        rotation::{GROUPS, MANY_KILLS, Turn},
        scratch::Scratch,
        state::{State, Timed},
        table::ANY_KERNEL,
        times::{Time, Times},
        tree::{TABLE, Tree},
    },
    vm,
};

/// The number of timelines that the engine's verdicts are checked with: from a fixed seed,
/// and from a fresh one. `cargo xtask check` plays only a few.
const TIMELINES: [(&str, &str); 2] =
    [("TRACER_TIMELINES", "20000"), ("TRACER_FRESH_TIMELINES", "2000")];

/// With this variable, a live test that cannot run fails instead of being skipped.
const NO_SKIP: &str = "TRACER_NO_SKIP_LIVE";

const LIVE: &str = "live::";
/// Names of tests that only guests run.
const GUEST: &str = "guest::";
pub(crate) const CELLS: &str = "live::matrix::cells::";
/// Tests with a container engine, and those of what the recorder costs, take minutes, so they
/// run only with `--all` or when they are named.
const LONGEST: [&str; 2] = ["live::engine::", "live::recorder::cost::"];
/// Cells whose verdict is known to be wrong: only `cargo xtask matrix --live` plays them.
const KNOWN_WRONG: &str = "live::matrix::cells::wrong::";

pub const EXAMPLES: &str = "\
Examples:
  cargo xtask test                      Run what a commit must pass, in some 30 minutes
  cargo xtask test --no-vm              Run the same, on this kernel only
  cargo xtask test an_fstrim_is_named   Run the tests whose name contains this
  cargo xtask test tracer_engine::      Run all tests of a crate
  cargo xtask test --all                Run everything, for hours, and write docs/tested.md
  cargo xtask test --all --resume       Continue that run after a failure or a ^C
  cargo xtask test --times              List what was slow in the last run
docs/testing.md has more.";

#[derive(Args)]
pub struct TestArgs {
    /// Run only the tests whose name contains this, on this kernel, without lints.
    filter: Option<String>,
    /// Do not boot other kernels.
    #[arg(long)]
    no_vm: bool,
    /// Run all scenarios and the whole plan of other kernels, and write
    /// docs/tested.md.
    #[arg(long)]
    all: bool,
    /// Skip the tests that have passed before at exactly this tree.
    #[arg(long, requires = "all")]
    resume: bool,
    /// List the slowest tests and steps of the last run, and run nothing.
    #[arg(long, conflicts_with_all = ["filter", "no_vm", "all"])]
    times: bool,
}

/// The programs that are tested: those that people would get, with `--all`.
fn builds(all: bool) -> &'static Builds {
    if all { &vm::RELEASED } else { &vm::QUICK }
}

/// A run under way, and its results so far.
struct Run<'a> {
    args: &'a TestArgs,
    begun: Instant,
    tree: Tree,
    /// This machine's kernel, as the table has it.
    kernel: String,
    tally: Tally,
    times: Vec<Time>,
    /// The tests that failed, by the names that their programs give them.
    failed: Vec<String>,
    /// The failed tests that have passed since.
    unsteady: Vec<String>,
    /// The temporary folder of all tests on this kernel.
    scratch: Scratch,
    /// Present with `--all`.
    state: Option<State>,
}

pub fn run(args: &TestArgs) -> Result<()> {
    let folder = workspace().join("target/tested");
    let times = folder.join("times.json");
    if args.times {
        print!("{}", Times::load(&times)?.describe());
        return Ok(());
    }
    setup::ensure(&[Need::Build, Need::Test], Talk::Changes)?;
    fs::create_dir_all(&folder)
        .with_context(|| format!("failed to create `{}`", folder.display()))?;
    let mut run = Run::begin(args, &folder.join("state.jsonl"))?;
    let result = run.run_all();
    // A run that broke off saves its times, too.
    run.save_times(&times)?;
    result
}

impl<'a> Run<'a> {
    fn begin(args: &'a TestArgs, state: &Path) -> Result<Self> {
        let tree = Tree::find(workspace());
        let begin = || begin_state(args.resume, args.filter.is_some(), &tree, state);
        let state = args.all.then(begin).transpose()?;
        let kernel = kernel()?;
        Ok(Self {
            args,
            begun: Instant::now(),
            tree,
            kernel,
            tally: Tally::default(),
            times: Vec::new(),
            failed: Vec::new(),
            unsteady: Vec::new(),
            scratch: Scratch::make()?,
            state,
        })
    }

    fn run_all(&mut self) -> Result<()> {
        let args = self.args;
        let filter = args.filter.as_deref();
        let mut guests = None;
        if filter.is_none() && !args.no_vm {
            let mut plan = Guests::plan(if args.all { Plan::All } else { Plan::Short })?;
            if let Some(state) = &self.state {
                plan.leave_out_boots(|boot| state.has_finished(boot));
            }
            guests = Some(plan);
        }
        // The guests' files are fetched while the compilers run, but not while the
        // tests do: some of these measure.
        let built = thread::scope(|scope| -> Result<_> {
            let arches = guests.as_ref().map(Guests::arches).unwrap_or_default();
            let fetching = guests.as_mut().map(|guests| scope.spawn(move || guests.fetch()));
            let built = Built::build_beside_lints(filter.is_none(), &arches, builds(args.all))?;
            if let Some(thread) = fetching {
                thread.join().map_err(|_| anyhow!("fetching panicked"))?;
            }
            Ok(built)
        })?;
        let known = built.all_tests();
        let Built { tracer, pure, live } = built;
        let left = self.divide(&live)?;

        for program in &pure {
            let name = format!(
                "pure tests of {} ({})",
                program.executable.target, program.executable.kind
            );
            let tests = self.choose(program, ANY_KERNEL, &BTreeSet::new());
            let mut command = Command::new(&program.executable.file);
            command.args(["--exact"]).args(&tests).env(scratch::VARIABLE, self.scratch.path());
            for (name, timelines) in TIMELINES {
                if env::var_os(name).is_none() {
                    command.env(name, timelines);
                }
            }
            if !tests.is_empty() {
                self.run_program(&name, program, ANY_KERNEL, &mut command)?;
            }
        }
        let kernel = self.kernel.clone();
        let tests = self.choose(&live, &kernel, &left);
        if !tests.is_empty() {
            let mut more = vec![self.scratch.variable()];
            more.extend(self.args.all.then_some(MANY_KILLS));
            let mut command = live.as_root(&tracer, &more)?;
            // One at a time: they share the kernel that they look at.
            command.args(["--test-threads=1", "--nocapture", "--exact"]).args(&tests);
            self.run_program("tests from outside, as root", &live, &kernel, &mut command)?;
            self.play_again(&live, &tracer)?;
        }
        self.write_table(&known)?;
        if let Some(guests) = guests {
            self.run_guests(guests, &live)?;
            self.write_table(&known)?;
        }
        self.close(left.len())
    }

    /// The tests that are left to other commits, and those that are left to `--all`.
    fn divide(&self, live: &Program) -> Result<BTreeSet<String>> {
        if self.args.all || self.args.filter.is_some() {
            return Ok(BTreeSet::new());
        }
        let turn = Turn::find();
        let is_longest = |test: &&String| LONGEST.iter().any(|prefix| test.starts_with(prefix));
        let mut left: BTreeSet<_> = live.tests.iter().filter(is_longest).cloned().collect();
        let tests = live.tests.iter().filter(|test| !test.starts_with(KNOWN_WRONG));
        let tests: Vec<_> = tests.filter(|test| !left.contains(*test)).cloned().collect();
        for group in &GROUPS {
            let division = group.divide(group.select(&tests)?, &turn);
            eprint!("{}", group.describe(&division, &turn));
            left.extend(division.left);
        }
        Ok(left)
    }

    /// The tests of a program that are to be run now; those that need not be run
    /// again are counted.
    fn choose<'p>(
        &mut self,
        program: &'p Program,
        kernel: &str,
        left: &BTreeSet<String>,
    ) -> Vec<&'p str> {
        let mut chosen = Vec::new();
        let mut kept = 0;
        for test in &program.tests {
            let name = program.full_name(test);
            let is_asked = self.args.filter.as_ref().is_none_or(|filter| name.contains(filter));
            let is_others = test.starts_with(GUEST) || test.starts_with(KNOWN_WRONG);
            if !is_asked || left.contains(test) || is_others {
                continue;
            }
            let state = self.state.as_ref().filter(|_| self.args.resume);
            if state.is_some_and(|state| state.has_passed(&name, kernel)) {
                kept += 1;
            } else {
                chosen.push(test.as_str());
            }
        }
        self.keep(&program.executable.target, kept, 0);
        chosen
    }

    /// Counts tests that are not run again.
    fn keep(&mut self, of: &str, passed: u64, skipped: u64) {
        if passed + skipped > 0 {
            eprintln!("kept: {passed} tests of `{of}` have passed at this tree");
            self.tally.add(passed, 0, skipped);
        }
    }

    /// Runs a program that prints as libtest does; shows its output and counts its tests.
    fn run_program(
        &mut self,
        name: &str,
        program: &Program,
        kernel: &str,
        command: &mut Command,
    ) -> Result<()> {
        let begun = Instant::now();
        let status = program.stream(name, command, |bytes, now| {
            self.tally.feed(bytes, now);
            self.take_ended(program, kernel)
        })?;
        self.tally.end(status.success());
        self.take_ended(program, kernel)?;
        step::note(name, begun.elapsed());
        let left = self.scratch.clear()?;
        // A test that broke off may leave something.
        if status.success() && !left.is_empty() {
            eprintln!("{name} have left in their temporary folder: {}", left.join(", "));
            self.tally.add(0, 1, 0);
        }
        Ok(())
    }

    fn take_ended(&mut self, program: &Program, kernel: &str) -> Result<()> {
        for mut test in self.tally.take_ended() {
            if test.outcome == Outcome::Failed {
                self.failed.push(test.name.clone());
            }
            test.name = program.full_name(&test.name);
            record(self.state.as_mut(), &mut self.times, &self.tree.name, kernel, test)?;
        }
        Ok(())
    }

    /// Plays live tests again that may have failed by chance.
    fn play_again(&mut self, live: &Program, tracer: &Path) -> Result<()> {
        let failed = std::mem::take(&mut self.failed);
        let may = |name: &String| name.starts_with(LIVE) && !self.tally.is_final(name);
        if self.args.all || self.args.filter.is_some() || !failed.iter().all(may) {
            return Ok(());
        }
        self.unsteady = replays::play(&failed, |name| {
            let mut command = live.as_root(tracer, &[self.scratch.variable()])?;
            command.args(["--test-threads=1", "--nocapture", "--exact", name]);
            let mut tally = Tally::default();
            let status = live.stream(&format!("{name}, again"), &mut command, |bytes, now| {
                tally.feed(bytes, now);
                Ok(())
            })?;
            tally.end(status.success());
            Ok((tally.passed(), tally.failed()) == (1, 0))
        })?;
        self.unsteady.iter().for_each(|_| self.tally.mend());
        Ok(())
    }

    fn run_guests(&mut self, mut guests: Guests, live: &Program) -> Result<()> {
        let must_run = env::var_os(NO_SKIP).is_some_and(|value| value == "1");
        let (mut passed, mut skipped) = (0, 0);
        if let Some(state) = &self.state {
            let is_of = |test: &&Timed, boot: &str| table::kernel_key(&test.row.kernel) == boot;
            for boot in guests.finished() {
                for test in state.tests().filter(|test| is_of(test, boot)) {
                    let has_passed = test.row.outcome == Outcome::Passed;
                    *(if has_passed { &mut passed } else { &mut skipped }) += 1;
                }
            }
            passed +=
                guests.leave_out_tests(&live.tests, |boot, test| state.has_passed(test, boot));
        }
        self.keep("other kernels", passed, skipped);
        let (tree, begun) = (&self.tree.name, Instant::now());
        let results = Mutex::new((self.state.as_mut(), &mut self.times, Ok(())));
        let reports = guests.run(must_run, builds(self.args.all), &|report: &Report| {
            let Ok(mut guard) = results.lock() else { return };
            let (state, times, result) = &mut *guard;
            if let Err(error) = record_boot(state.as_deref_mut(), times, tree, report) {
                *result = Err(error);
            }
        })?;
        let (_, _, result) = results.into_inner().map_err(|_| anyhow!("a boot has panicked"))?;
        result?;
        step::note("tests in virtual machines", begun.elapsed());
        for report in &reports {
            self.tally.add(report.passed, report.failed, report.skipped);
        }
        Ok(())
    }

    /// Writes the results to `docs/tested.md`, with `--all`.
    fn write_table(&self, known: &BTreeSet<String>) -> Result<()> {
        let Some(state) = &self.state else { return Ok(()) };
        let path = workspace().join(TABLE);
        let (old, unread) = table::parse(&fs::read_to_string(&path).unwrap_or_default());
        if unread > 0 {
            eprintln!("{TABLE}: {unread} rows could not be parsed, and are dropped");
        }
        let new: Vec<_> = state.tests().map(|test| test.row.clone()).collect();
        let (before, ran) = (old.len(), new.len());
        let rows = table::merge(old, new, known);
        fs::write(&path, table::render(&rows))
            .with_context(|| format!("failed to write `{}`", path.display()))?;
        eprintln!("{TABLE}: {ran} results of this tree; {before} rows before, {} now", rows.len());
        Ok(())
    }

    fn close(&self, left: usize) -> Result<()> {
        if self.tally.unnamed() > 0 {
            eprintln!("{} tests ended whose names were not recognised", self.tally.unnamed());
        }
        if left > 0 {
            eprintln!("left to other commits: {left} tests");
        }
        for name in &self.unsteady {
            eprintln!("unsteady: {name} failed once and passed twice when it was played again");
        }
        println!("{}", self.tally);
        match (self.tally.failed(), self.tally.passed()) {
            (0, 0) => bail!("no test ran"),
            (0, _) => Ok(()),
            (failed, _) => bail!("{failed} tests failed"),
        }
    }

    fn save_times(&mut self, path: &Path) -> Result<()> {
        let arguments: Vec<_> = env::args().skip(1).collect();
        let steps = step::take_times().into_iter();
        let tests = match &self.state {
            // The times of the runs that this one continues count, too.
            Some(state) => {
                let timed = state.tests().filter(|test| test.seconds > 0.0);
                timed.map(|test| time(&test.row.test, &test.row.kernel, test.seconds)).collect()
            }
            None => std::mem::take(&mut self.times),
        };
        let times = Times {
            command: format!("cargo xtask {}", arguments.join(" ")),
            commit: self.tree.name.clone(),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            seconds: self.begun.elapsed().as_secs_f64(),
            tests,
            steps: steps.map(|(name, seconds)| Time { name, seconds }).collect(),
        };
        times.save(path)
    }
}

/// This machine's kernel, as tables have it.
pub(crate) fn kernel() -> Result<String> {
    let release = step::read_output(Command::new("uname").arg("-r"))
        .context("`uname` does not say which kernel this is")?;
    Ok(format!("{release} {}", env::consts::ARCH))
}

/// `2026-11-28`
pub(crate) fn today() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.get(..10).unwrap_or_default().to_owned()
}

/// Continues the last run if it is to be resumed, or if only a part of it is to be played
/// again; otherwise begins a new one.
pub(crate) fn begin_state(resume: bool, part: bool, tree: &Tree, path: &Path) -> Result<State> {
    let Some(key) = &tree.key else {
        eprintln!("git does not know which tree this is: this run cannot be resumed");
        return State::begin(path, "unknown");
    };
    // With a filter its tests run again, and the results of all others stay.
    if resume || part {
        if let Some(state) = State::resume(path, key)? {
            return Ok(state);
        }
        if resume {
            eprintln!("nothing to resume: the last run was of another tree than {}", tree.name);
        }
    }
    State::begin(path, key)
}
