//! The live tests on other kernels, in emulated machines.
//!
//! Debian's kernels, QEMU and the guests' programs are fetched once into `.vm`
//! and installed nowhere; no root is needed. All boots are done before anything
//! is judged, so that one run tells of every kernel.

mod apt;
pub mod arch;
mod archive;
mod boot;
mod closure;
mod console;
mod files;
mod guest;
mod kernels;
mod matrix;
mod modules;
pub mod plan;
mod programs;
pub mod report;
mod results;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;

use crate::{
    build,
    setup::{self, Need, Talk},
    step::{self, workspace},
    vm::{
        apt::Apt,
        arch::Arch,
        boot::{Machine, Qemu},
        console::Console,
        files::Refresh,
        kernels::{Kernel, Series},
        plan::{Boot, Cgroup, Lockdown, Plan, Wishes},
        report::{Report, Verdict},
    },
};

/// Enough for all tests in a guest on a machine that has other things to do.
const LIMIT_MINUTES: u64 = 45;

#[derive(Args, Default)]
pub struct VmArgs {
    /// Only this kernel (`6.1`, `7`, `6.12-rt`); without a plan, any that
    /// Debian has. May be repeated.
    #[arg(long = "kernel", value_name = "VERSION")]
    kernels: Vec<Series>,
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    #[arg(long, value_enum)]
    lockdown: Option<Lockdown>,
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    #[arg(long, value_enum)]
    cgroup: Option<Cgroup>,
    /// Only tests whose name contains this. May be repeated.
    #[arg(long = "test", value_name = "FILTER")]
    tests: Vec<String>,
    /// Only cells on this filesystem.
    #[arg(long, value_name = "NAME")]
    fs: Option<String>,
    /// Only cells under this scheduler.
    #[arg(long, value_name = "NAME")]
    scheduler: Option<String>,
    /// For the tests' environment. May be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_variable)]
    environment: Vec<(String, String)>,
    /// The boots for every change (the default, unless kernels are named).
    #[arg(long, conflicts_with = "all")]
    short: bool,
    /// All kernels, lockdowns and machines.
    #[arg(long)]
    all: bool,
    /// Boots at a time (default: one per processor).
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// How long a boot may take (default 45).
    #[arg(long, value_name = "MINUTES")]
    timeout: Option<u64>,
    /// Run this shell script in the guest instead of the tests, and show what
    /// it says.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tests", "docs"])]
    script: Option<PathBuf>,
    /// In the tests' place beside such a script.
    #[arg(skip)]
    program: Option<PathBuf>,
    /// A kernel of your own instead of Debian's; its modules go with it.
    #[arg(long, value_name = "FILE", requires = "modules", conflicts_with_all = ["kernels", "short", "all"])]
    vmlinuz: Option<PathBuf>,
    /// Its folder `lib/modules/RELEASE`.
    #[arg(long, value_name = "FOLDER", requires = "vmlinuz")]
    modules: Option<PathBuf>,
    /// The folder of a QEMU to use instead of Debian's.
    #[arg(long, value_name = "FOLDER")]
    qemu: Option<PathBuf>,
    /// Ask the archive for newer packages than those fetched before.
    #[arg(long)]
    refresh: bool,
    /// Write `docs/kernels.md` from the results of all boots.
    #[arg(long, requires = "all")]
    docs: bool,
    /// Take the results of boots that have passed before, where the tracer is
    /// still the same.
    #[arg(long, conflicts_with = "script")]
    resume: bool,
    /// Only say what would be booted.
    #[arg(long)]
    list: bool,
    /// Print one JSON object for each boot instead of a table.
    #[arg(long)]
    json: bool,
}

fn parse_variable(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once('=').context("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The kernel that benches run on in a guest.
const BENCH_KERNEL: &str = "6.12";

/// Has a bench measure on null_blk in a guest, with such arguments; the line of
/// JSON that it says in the end.
pub fn bench_null_blk(bench: PathBuf, arguments: &str) -> Result<String> {
    let args = VmArgs {
        kernels: vec![BENCH_KERNEL.parse()?],
        arch: Some(Arch::host()),
        script: Some(workspace().join("xtask/src/vm/null_blk.sh")),
        program: Some(bench),
        environment: vec![("BENCH_ARGUMENTS".to_owned(), arguments.to_owned())],
        ..VmArgs::default()
    };
    let boots = plan(&args)?;
    let fetched = fetch(&boots, &args)?;
    let reports = run_all(&boots, fetched, &args, &|_| {})?;
    if reports.iter().any(|report| report.verdict != Verdict::Passed) {
        bail!("the bench in the guest failed:\n{}", report::summary(&reports));
    }
    let boot = boots.first().context("a kernel makes a boot")?;
    let said = report::read(&log_of(boot), report::Part::Whole);
    // After the time at which it was said.
    let json = said.lines().find_map(|line| Some(&line[line.find("{\"machine\"")?..]));
    json.map(str::to_owned).context("the bench in the guest said no figures")
}

/// What comes from Debian.
struct Fetched {
    qemu: Qemu,
    /// The archive of programs for a guest.
    programs: BTreeMap<Arch, PathBuf>,
    /// None where Debian has no such kernel.
    kernels: BTreeMap<(Series, Arch), Option<Kernel>>,
}

/// What is built here, for one architecture.
struct Built {
    tracer: PathBuf,
    /// None when a script runs in their place, but for the program beside it.
    tests: Option<PathBuf>,
}

/// All that a boot needs beside the plan; it is there before the first one.
struct Ready<'a> {
    fetched: Fetched,
    built: BTreeMap<Arch, Built>,
    args: &'a VmArgs,
    /// Set by a ^C.
    interrupted: Arc<AtomicBool>,
}

pub fn run(args: &VmArgs) -> Result<()> {
    let boots = plan(args)?;
    if args.list {
        for boot in &boots {
            println!("{boot}: {}", boot.tests.join(" "));
        }
        return Ok(());
    }
    setup::bring(&[Need::Build], Talk::Changes)?;
    let fetched = fetch(&boots, args)?;
    let reports = run_all(&boots, fetched, args, &|_| {})?;
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

/// The boots of a plan as a part of all tests, with what they need from Debian,
/// or why there is none.
pub struct Guests {
    boots: Vec<Boot>,
    /// Names of boots that need not be done again.
    finished: Vec<String>,
    args: VmArgs,
    fetched: Option<Result<Fetched, String>>,
}

impl Guests {
    pub fn plan(of: Plan) -> Result<Self> {
        let (short, all) = (of == Plan::Short, of == Plan::All);
        let args = VmArgs { short, all, ..VmArgs::default() };
        Ok(Self { boots: plan(&args)?, finished: Vec::new(), args, fetched: None })
    }

    /// Takes boots out of the plan that have been done before.
    pub fn leave_out_boots(&mut self, is_finished: impl Fn(&str) -> bool) {
        let names = self.boots.iter().map(Boot::to_string);
        self.finished = names.filter(|name| is_finished(name)).collect();
        self.boots.retain(|boot| !self.finished.contains(&boot.to_string()));
    }

    pub fn finished(&self) -> &[String] {
        &self.finished
    }

    /// Takes tests out of boots in which they have passed before; how many
    /// that were.
    pub fn leave_out_tests(
        &mut self,
        all: &[String],
        has_passed: impl Fn(&str, &str) -> bool,
    ) -> u64 {
        let boots = self.boots.iter_mut().map(|boot| {
            let name = boot.to_string();
            boot.leave_out(all, |test| has_passed(&name, test))
        });
        boots.sum()
    }

    /// It waits more than it works, so something else can be done meanwhile.
    pub fn fetch(&mut self) {
        if !self.boots.is_empty() {
            let fetched = fetch(&self.boots, &self.args);
            self.fetched = Some(fetched.map_err(|error| format!("{error:#}")));
        }
    }

    /// Does all boots, and hands over the report of each when it has ended. A
    /// machine that cannot have the kernels skips them, and says why, unless
    /// they `must_run`.
    pub fn run(self, must_run: bool, ended: &(dyn Fn(&Report) + Sync)) -> Result<Vec<Report>> {
        let reports = match self.fetched {
            None => return Ok(Vec::new()),
            Some(Ok(fetched)) => run_all(&self.boots, fetched, &self.args, ended)?,
            Some(Err(why)) if must_run => bail!("no virtual machine can be had: {why}"),
            Some(Err(why)) => {
                let skip = |boot| Report::new(boot, "", Verdict::Skipped(why.clone()));
                self.boots.iter().map(skip).collect()
            }
        };
        eprint!("{}", report::summary(&reports));
        Ok(reports)
    }
}

fn plan(args: &VmArgs) -> Result<Vec<Boot>> {
    let plan = match (args.short, args.all) {
        (true, _) => Some(Plan::Short),
        (_, true) => Some(Plan::All),
        _ => None,
    };
    let mut kernels = args.kernels.clone();
    if let Some(modules) = &args.modules {
        // Only for its name.
        let release = modules.file_name().unwrap_or_default().to_string_lossy();
        let numbers: Vec<_> = release.split(['.', '-']).take(2).collect();
        kernels = vec![numbers.join(".").parse()?];
    }
    let wishes = Wishes {
        kernels,
        arch: args.arch,
        lockdown: args.lockdown,
        cpus: args.cpus,
        cgroup: args.cgroup,
        tests: args.tests.clone(),
    };
    let boots = plan::boots(plan, &wishes)?;
    if boots.is_empty() {
        bail!("the plan has no such boot: see `cargo xtask vm --all --list`");
    }
    Ok(boots)
}

/// Does all boots, several at a time. Each report is handed over when the boot
/// has `ended`; all are returned in the order of the plan.
fn run_all(
    boots: &[Boot],
    fetched: Fetched,
    args: &VmArgs,
    ended: &(dyn Fn(&Report) + Sync),
) -> Result<Vec<Report>> {
    let built = build(boots, args)?;
    files::create_folder(&files::cache().join("logs"))?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .context("cannot watch for signals")?;
    }
    let jobs = args.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
    let ready = Ready { fetched, built, args, interrupted };
    let next = AtomicUsize::new(0);
    let work = || {
        let mut reports = Vec::new();
        while !ready.interrupted.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(boot) = boots.get(index) else { break };
            let report = ready.run_or_resume(boot);
            ended(&report);
            reports.push((index, report));
        }
        reports
    };
    let mut reports = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.clamp(1, boots.len())).map(|_| scope.spawn(work)).collect();
        let reports = workers.into_iter().map(thread::ScopedJoinHandle::join);
        reports.collect::<Result<Vec<_>, _>>()
    })
    .map_err(|_| anyhow!("a boot's thread has panicked"))?
    .concat();
    if ready.interrupted.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    reports.sort_by_key(|(index, _)| *index);
    Ok(reports.into_iter().map(|(_, report)| report).collect())
}

fn fetch(boots: &[Boot], args: &VmArgs) -> Result<Fetched> {
    if let Some(why) = apt::find_obstacle() {
        bail!("no kernel can be fetched: {why}");
    }
    let _lock = files::lock()?;
    let refresh = if args.refresh { Refresh::Yes } else { Refresh::No };
    let arches: BTreeSet<_> = boots.iter().map(|boot| boot.arch).collect();
    if refresh == Refresh::Yes {
        for &arch in arches.union(&BTreeSet::from([Arch::host()])) {
            Apt::open(arch, refresh)?;
        }
    }
    let qemu = Qemu::bring(args.qemu.as_deref(), refresh)?;
    let mut programs = BTreeMap::new();
    for arch in arches {
        programs.insert(arch, programs::bring(arch, refresh)?);
    }
    let mut kernels = BTreeMap::new();
    for boot in boots {
        let Entry::Vacant(entry) = kernels.entry((boot.series.clone(), boot.arch)) else {
            continue;
        };
        entry.insert(match (&args.vmlinuz, &args.modules) {
            (Some(vmlinuz), Some(modules)) => Some(Kernel::given(vmlinuz, modules)?),
            _ => kernels::bring(&boot.series, boot.arch, refresh)?,
        });
    }
    Ok(Fetched { qemu, programs, kernels })
}

fn build(boots: &[Boot], args: &VmArgs) -> Result<BTreeMap<Arch, Built>> {
    let mut built = BTreeMap::new();
    for boot in boots {
        if let Entry::Vacant(entry) = built.entry(boot.arch) {
            let tracer = build::build_static_tracer(boot.arch)?;
            let tests = match args.script {
                Some(_) => args.program.clone(),
                None => Some(build::build_static_tests(boot.arch)?),
            };
            entry.insert(Built { tracer, tests });
        }
    }
    Ok(built)
}

impl Ready<'_> {
    fn run_or_resume(&self, boot: &Boot) -> Report {
        let tracer = self.built.get(&boot.arch).map(|built| built.tracer.as_path());
        if self.args.resume
            && let Some(report) = tracer.and_then(|tracer| results::find(boot, tracer))
        {
            eprintln!("vm: kept: {}", report.line());
            return report;
        }
        let report = self.run_one(boot);
        let VmArgs { fs, scheduler, script, environment, .. } = self.args;
        let whole = fs.is_none() && scheduler.is_none() && environment.is_empty();
        let kept = match tracer {
            Some(tracer) if whole && script.is_none() => results::keep(&report, tracer),
            _ => Ok(()),
        };
        if let Err(error) = kept {
            eprintln!("vm: {boot}: its result is not kept: {error:#}");
        }
        report
    }

    /// One boot, from the archive of its modules to its report.
    fn run_one(&self, boot: &Boot) -> Report {
        let kernel = self.fetched.kernels.get(&(boot.series.clone(), boot.arch));
        let Some(Some(kernel)) = kernel else {
            let why =
                format!("Debian has no kernel {} for {} now", boot.series, boot.arch.debian());
            let report = Report::new(boot, "", Verdict::Skipped(why));
            eprintln!("vm: {}", report.line());
            return report;
        };
        eprintln!("vm: {boot}: boots {}", kernel.release());
        let begin = Instant::now();
        let mut console = Console::default();
        let log = log_of(boot);
        let result = self.boot(boot, kernel, &log, &mut console);
        let all_passed = console.verdict == Some(0) && console.failures.is_empty();
        console.tally.end(all_passed && result.is_ok());
        let verdict = match result {
            Err(error) => Verdict::Failed(format!("{error:#}")),
            Ok(()) if all_passed => Verdict::Passed,
            Ok(()) => Verdict::Failed("tests failed".to_owned()),
        };
        let mut report = Report::new(boot, &kernel.release(), verdict);
        report.take(console, begin.elapsed());
        step::note(&format!("boot {boot}"), begin.elapsed());
        eprintln!("vm: {}", report.line());
        if self.args.script.is_some() && self.args.program.is_none() {
            eprint!("{}", report::read(&log, report::Part::Whole));
        } else if report.verdict.is_failure() {
            eprint!("{}", report::read(&log, report::Part::End));
        }
        report
    }

    fn boot(&self, boot: &Boot, kernel: &Kernel, log: &Path, console: &mut Console) -> Result<()> {
        let of = "everything is brought for every boot";
        let built = self.built.get(&boot.arch).context(of)?;
        let programs = self.fetched.programs.get(&boot.arch).context(of)?;
        let modules = {
            let _lock = files::lock()?;
            modules::bring(boot.arch, kernel)?
        };
        let scratch = tempfile::Builder::new().prefix("boot").tempdir_in(files::cache())?;
        let root = scratch.path().join("root.cpio");
        let mut arguments = vec!["--test-threads=1".to_owned(), "--nocapture".to_owned()];
        arguments.extend(boot.tests.iter().cloned());
        arguments.extend(boot.without.iter().flat_map(|test| ["--skip".to_owned(), test.clone()]));
        let contents = guest::Contents {
            tracer: &built.tracer,
            tests: built.tests.as_deref(),
            cgroup: boot.cgroup.name(),
            environment: &environment(boot, self.args),
            arguments: &arguments,
            script: self.args.script.as_deref(),
        };
        guest::write_root(boot.arch, &[programs, &modules], &contents, &root)?;
        let kernel_arguments = match boot.lockdown {
            Lockdown::Off => String::new(),
            lockdown => format!("lockdown={}", lockdown.name()),
        };
        let machine = Machine {
            arch: boot.arch,
            vmlinuz: &kernel.vmlinuz,
            root: &root,
            scratch: scratch.path(),
            cpus: boot.cpus,
            kernel_arguments: &kernel_arguments,
        };
        let mut log =
            File::create(log).with_context(|| format!("cannot create `{}`", log.display()))?;
        let limit = Duration::from_secs(60 * self.args.timeout.unwrap_or(LIMIT_MINUTES));
        machine.boot(&self.fetched.qemu, limit, &self.interrupted, &mut log, console)
    }
}

/// What a boot has said.
fn log_of(boot: &Boot) -> PathBuf {
    files::cache().join("logs").join(format!("{boot}.log"))
}

/// What the tests find in their environment.
fn environment(boot: &Boot, args: &VmArgs) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from(
        [
            ("TRACER_BIN", "/root/tracer"),
            ("TRACER_GUEST", "1"),
            ("TRACER_GUEST_LOCKDOWN", boot.lockdown.name()),
            ("TRACER_GUEST_CGROUP", boot.cgroup.name()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    for (name, value) in [("TRACER_CELL_FS", &args.fs), ("TRACER_CELL_SCHEDULER", &args.scheduler)]
    {
        if let Some(value) = value {
            variables.insert(name.to_owned(), value.clone());
        }
    }
    variables.extend(args.environment.iter().cloned());
    variables
}
