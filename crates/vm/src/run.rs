//! Does the boots of a plan: fetches and builds what they need, then does all of them,
//! several at a time.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use tracer_step as step;

use crate::{
    Builds,
    apt::{self, Apt},
    arch::Arch,
    args::VmArgs,
    boot::{Machine, Qemu},
    console::Console,
    files::{self, Refresh},
    guest,
    kernels::{self, Kernel, Series},
    modules,
    plan::{Boot, Lockdown},
    programs,
    report::{self, Report, Verdict},
    results,
};

/// This is enough for all tests in a guest, on a machine that is busy.
const LIMIT_MINUTES: u64 = 45;

/// The files that come from Debian.
pub struct Fetched {
    qemu: Qemu,
    /// The archive of programs for a guest.
    programs: BTreeMap<Arch, PathBuf>,
    /// `None` if Debian has no such kernel.
    kernels: BTreeMap<(Series, Arch), Option<Kernel>>,
}

/// The files that are built here, for one architecture.
struct Built {
    tracer: PathBuf,
    /// `None` if a script runs instead of the tests, with only a program for it.
    tests: Option<PathBuf>,
}

/// All that a boot needs besides the plan. It is complete before the first boot.
struct Ready<'a> {
    fetched: Fetched,
    built: BTreeMap<Arch, Built>,
    args: &'a VmArgs,
    /// Set when ^C was pressed.
    interrupted: Arc<AtomicBool>,
}

/// Does all boots, several at a time. Each report is passed to `ended` when its boot has
/// ended; all are returned in the order of the plan.
pub fn run_all(
    boots: &[Boot],
    fetched: Fetched,
    args: &VmArgs,
    builds: &Builds,
    ended: &(dyn Fn(&Report) + Sync),
) -> Result<Vec<Report>> {
    let built = build(boots, args, builds)?;
    files::create_folder(&files::cache().join("logs"))?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .context("failed to watch for signals")?;
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

pub fn fetch(boots: &[Boot], args: &VmArgs) -> Result<Fetched> {
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
    let qemu = Qemu::obtain(args.qemu.as_deref(), refresh)?;
    let mut programs = BTreeMap::new();
    for arch in arches {
        programs.insert(arch, programs::obtain(arch, refresh)?);
    }
    let mut kernels = BTreeMap::new();
    for boot in boots {
        let Entry::Vacant(entry) = kernels.entry((boot.series.clone(), boot.arch)) else {
            continue;
        };
        entry.insert(match (&args.vmlinuz, &args.modules) {
            (Some(vmlinuz), Some(modules)) => Some(Kernel::given(vmlinuz, modules)?),
            _ => kernels::obtain(&boot.series, boot.arch, refresh)?,
        });
    }
    Ok(Fetched { qemu, programs, kernels })
}

fn build(boots: &[Boot], args: &VmArgs, builds: &Builds) -> Result<BTreeMap<Arch, Built>> {
    let mut built = BTreeMap::new();
    for boot in boots {
        if let Entry::Vacant(entry) = built.entry(boot.arch) {
            let tracer = (builds.tracer)(boot.arch)?;
            let tests = match args.script {
                Some(_) => args.program.clone(),
                None => Some((builds.tests)(boot.arch)?),
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
            eprintln!("vm: {boot}: failed to keep its result: {error:#}");
        }
        report
    }

    /// Does one boot, from the archive of its modules to its report.
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
        report.read_console(console, begin.elapsed());
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
        let of = "everything is fetched for every boot";
        let built = self.built.get(&boot.arch).context(of)?;
        let programs = self.fetched.programs.get(&boot.arch).context(of)?;
        let modules = {
            let _lock = files::lock()?;
            modules::obtain(boot.arch, kernel)?
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
            File::create(log).with_context(|| format!("failed to create `{}`", log.display()))?;
        let limit = Duration::from_secs(60 * self.args.timeout.unwrap_or(LIMIT_MINUTES));
        machine.boot(&self.fetched.qemu, limit, &self.interrupted, &mut log, console)
    }
}

/// The path of a boot's log.
pub fn log_of(boot: &Boot) -> PathBuf {
    files::cache().join("logs").join(format!("{boot}.log"))
}

/// The environment of the tests in a guest.
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
