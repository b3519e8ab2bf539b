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
mod plan;
mod report;

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    build,
    setup::{self, Need, Talk},
    vm::{
        arch::Arch,
        boot::{Machine, Qemu},
        console::Console,
        files::Refresh,
        kernels::{Kernel, Series},
        plan::{Boot, Cgroup, Lockdown, Plan, Wishes},
        report::{Report, Verdict},
    },
};

#[derive(Args)]
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
    /// How long a boot may take.
    #[arg(long, value_name = "MINUTES", default_value_t = 15)]
    timeout: u64,
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

/// What a boot needs beside the plan; all of it is there before the first one.
struct Ready {
    qemu: Qemu,
    machines: BTreeMap<Arch, Binaries>,
    /// By series and architecture; none where Debian has no such kernel.
    kernels: BTreeMap<(Series, Arch), Option<Kernel>>,
}

struct Binaries {
    tracer: PathBuf,
    tests: PathBuf,
    programs: PathBuf,
}

pub fn run(args: &VmArgs) -> Result<()> {
    let boots = plan(args)?;
    if args.list {
        for boot in &boots {
            println!("{boot}: {}", boot.tests.join(" "));
        }
        return Ok(());
    }
    if let Some(why) = apt::find_obstacle() {
        bail!("no kernel can be fetched: {why}");
    }
    setup::bring(&[Need::Build], Talk::Changes)?;
    let reports = run_all(&boots, args)?;
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

/// Does all boots, several at a time, and tells of each in the order of the
/// plan.
fn run_all(boots: &[Boot], args: &VmArgs) -> Result<Vec<Report>> {
    let ready = prepare(boots, args)?;
    files::create_folder(&files::cache().join("logs"))?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .context("cannot watch for signals")?;
    }
    let jobs = args.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
    let next = AtomicUsize::new(0);
    let (sender, finished) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, boots.len()) {
            let (sender, next, ready, interrupted) = (sender.clone(), &next, &ready, &*interrupted);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(boot) = boots.get(index) else { break };
                    if interrupted.load(Ordering::Relaxed) {
                        break;
                    }
                    let report = run_one(boot, ready, args, interrupted);
                    // The receiver outlives all of us.
                    let _ = sender.send((index, report));
                }
            });
        }
    });
    drop(sender);
    let mut reports: Vec<_> = finished.into_iter().collect();
    if interrupted.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    reports.sort_by_key(|(index, _)| *index);
    Ok(reports.into_iter().map(|(_, report)| report).collect())
}

/// Fetches and builds everything, before any time is measured.
fn prepare(boots: &[Boot], args: &VmArgs) -> Result<Ready> {
    let _lock = files::lock()?;
    let refresh = if args.refresh { Refresh::Yes } else { Refresh::No };
    let mut machines = BTreeMap::new();
    let mut kernels = BTreeMap::new();
    if refresh == Refresh::Yes {
        let arches = boots.iter().map(|boot| boot.arch).chain([Arch::host()]);
        for arch in arches.collect::<std::collections::BTreeSet<_>>() {
            apt::Apt::open(arch, refresh)?;
        }
    }
    let qemu = Qemu::bring(args.qemu.as_deref(), refresh)?;
    for boot in boots {
        let arch = boot.arch;
        if let std::collections::btree_map::Entry::Vacant(entry) = machines.entry(arch) {
            let tracer = build::build_static_tracer(arch)?;
            let tests = build::build_static_tests(arch)?;
            let programs = guest::bring_programs(arch, refresh)?;
            entry.insert(Binaries { tracer, tests, programs });
        }
        let key = (boot.series.clone(), arch);
        if kernels.contains_key(&key) {
            continue;
        }
        let kernel = match (&args.vmlinuz, &args.modules) {
            (Some(vmlinuz), Some(modules)) => Some(Kernel::given(vmlinuz, modules)?),
            _ => kernels::bring(&boot.series, arch, refresh)?,
        };
        kernels.insert(key, kernel);
    }
    Ok(Ready { qemu, machines, kernels })
}

/// One boot, from the archive of its modules to its report.
fn run_one(boot: &Boot, ready: &Ready, args: &VmArgs, interrupted: &AtomicBool) -> Report {
    let Some(Some(kernel)) = ready.kernels.get(&(boot.series.clone(), boot.arch)) else {
        let why = format!("Debian has no kernel {} for {} now", boot.series, boot.arch.debian());
        eprintln!("vm: {boot}: skipped: {why}");
        return Report::new(boot, "", Verdict::Skipped(why));
    };
    eprintln!("vm: {boot}: boots {}", kernel.release());
    let begin = Instant::now();
    let mut console = Console::default();
    let log = files::cache().join("logs").join(format!("{boot}.log"));
    let result = try_one(boot, kernel, ready, args, interrupted, &log, &mut console);
    let failed_tests =
        console.verdict != Some(0) || result.is_err() || !console.failures.is_empty();
    console.tally.end(!failed_tests);
    let verdict = match result {
        Err(error) => Verdict::Failed(format!("{error:#}")),
        Ok(()) if failed_tests => Verdict::Failed("tests failed".to_owned()),
        Ok(()) => Verdict::Passed,
    };
    let mut report = Report::new(boot, &kernel.release(), verdict);
    report.take(console, begin.elapsed());
    eprintln!("vm: {}", report.line());
    if report.verdict.is_failure() {
        eprint!("{}", report::tail(&log));
    }
    report
}

fn try_one(
    boot: &Boot,
    kernel: &Kernel,
    ready: &Ready,
    args: &VmArgs,
    interrupted: &AtomicBool,
    log: &Path,
    console: &mut Console,
) -> Result<()> {
    let binaries = ready.machines.get(&boot.arch).context("no programs for this machine")?;
    let modules = {
        let _lock = files::lock()?;
        guest::bring_modules(boot.arch, kernel)?
    };
    let scratch = tempfile::Builder::new().prefix("boot").tempdir_in(files::cache())?;
    let root = scratch.path().join("root.cpio");
    let mut arguments = vec!["--test-threads=1".to_owned(), "--nocapture".to_owned()];
    arguments.extend(boot.tests.iter().cloned());
    let contents = guest::Contents {
        tracer: &binaries.tracer,
        tests: &binaries.tests,
        cgroup_v1: boot.cgroup == Cgroup::V1,
        environment: &environment(boot, args),
        arguments: &arguments,
    };
    guest::write_root(boot.arch, &[&binaries.programs, &modules], &contents, &root)?;
    let kernel_arguments = match boot.lockdown {
        Lockdown::Off => "",
        Lockdown::Integrity => "lockdown=integrity",
        Lockdown::Confidentiality => "lockdown=confidentiality",
    };
    let machine = Machine {
        arch: boot.arch,
        vmlinuz: &kernel.vmlinuz,
        root: &root,
        scratch: scratch.path(),
        cpus: boot.cpus,
        kernel_arguments,
    };
    let mut log =
        File::create(log).with_context(|| format!("cannot create `{}`", log.display()))?;
    let limit = Duration::from_secs(60 * args.timeout);
    machine.boot(&ready.qemu, limit, interrupted, &mut log, console)
}

/// What the tests find in their environment.
fn environment(boot: &Boot, args: &VmArgs) -> BTreeMap<String, String> {
    let lockdown = match boot.lockdown {
        Lockdown::Off => "none",
        Lockdown::Integrity => "integrity",
        Lockdown::Confidentiality => "confidentiality",
    };
    let mut variables = BTreeMap::from(
        [
            ("TRACER_BIN", "/root/tracer"),
            ("TRACER_GUEST", "1"),
            ("TRACER_GUEST_LOCKDOWN", lockdown),
            ("TRACER_GUEST_CGROUP", if boot.cgroup == Cgroup::V1 { "v1" } else { "v2" }),
            ("RUST_BACKTRACE", "1"),
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
