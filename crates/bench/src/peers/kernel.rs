//! Measures the kernel time of programs under the same load in the same round: the
//! tracer's, almost empty ones, and the peers'.

use std::{
    fs,
    path::Path,
    process,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::sys::{Stats, enable_stats};
use tracer::{
    commands::Wakeup,
    session::{Options, Session},
};
use tracer_kernel::{
    capability::Capability,
    facts::{Facts, VMLINUX_BTF},
    floor::{CLOCK, Floor},
    program::Program,
};
use tracer_lab::{disk::read_stat, node};

use super::{Asks, PEERS, Peer, Peers};
use crate::{
    Round,
    fio::{FioWork, Rate, Rates, Stand},
    growth::KERNEL,
    load::{Action, Spec},
    loaded::{Runs, Since},
    programs::{BLOCK, empty_programs, programs_of},
    report::{
        curve::Curve,
        requirements::USER_CPU,
        rows::{
            CLOCK_FLOOR, COMMIT, EMPTY_FLOOR, OURS, OURS_BLOCK, OURS_EVERYTHING, OURS_NOTED,
            OURS_SYNC, REQUEST, SYNC,
        },
        table::Table,
    },
    usage::Usage,
};

/// Reads per second on an emulated machine; the last stands for "as fast as it goes".
const RATES: [u32; 4] = [250, 500, 1000, 2000];
const UNLIMITED: f64 = 10_000.0;

/// The loader whose programs run.
enum Whose {
    Ours,
    Floor(&'static str, Vec<Program>),
    Peer(&'static Peer),
}

/// Everybody in the order of the table.
fn everybody() -> Result<Vec<Whose>> {
    // The hooks on system calls are not part of the cost of a request.
    let of_requests = empty_programs()?
        .into_iter()
        .filter(|program| !matches!(program, Program::EmptyEnter | Program::EmptyExit));
    let floors = [
        Whose::Floor(EMPTY_FLOOR, of_requests.collect()),
        Whose::Floor(CLOCK_FLOOR, CLOCK.to_vec()),
    ];
    Ok([Whose::Ours].into_iter().chain(floors).chain(PEERS.iter().map(Whose::Peer)).collect())
}

pub async fn measure(
    stand: &Stand,
    peers: &mut Peers,
    round: &Round,
    table: &mut Table,
) -> Result<()> {
    let _counting = enable_stats(Stats::RunTime)
        .context("failed to turn BPF statistics on: they need kernel 5.8 or newer")?;
    for whose in round.order(everybody()?) {
        match whose {
            Whose::Ours => measure_ours(stand, round, table).await?,
            Whose::Floor(name, programs) => {
                round.say(&format!("BPF run time, {name}"));
                let since = Since::now();
                let btf = Path::new(VMLINUX_BTF);
                let floor =
                    Floor::attach(&programs, &Facts::of_this_machine(btf, &[Path::new("/")])?)?;
                let window = Window::of(stand, &since, FioWork::Reads, length(round)).await?;
                drop(floor);
                note(table, name, Asks::Requests, &window);
            }
            Whose::Peer(peer) => measure_peer(stand, peers, peer, round, table).await?,
        }
    }
    Ok(())
}

/// Even the slowest disk gives enough runs for a mean in that time.
fn length(round: &Round) -> Duration {
    (round.length / 2).max(Duration::from_millis(500))
}

fn note(table: &mut Table, name: &str, asks: Asks, window: &Window) {
    match asks {
        Asks::Requests => table.note(&REQUEST, name, "ns", window.per_request()),
        Asks::Syncs => table.note(&SYNC, name, "ns", window.per_sync()),
    }
}

async fn measure_peer(
    stand: &Stand,
    peers: &mut Peers,
    peer: &Peer,
    round: &Round,
    table: &mut Table,
) -> Result<()> {
    round.say(&format!("BPF run time, {}", peer.name));
    let section = match peer.asks {
        Asks::Requests => &REQUEST,
        Asks::Syncs => &SYNC,
    };
    let running = match peers.start(peer).await {
        Ok(running) => running,
        Err(why) => {
            table.note_missing(section, peer.name, &why);
            return Ok(());
        }
    };
    let work = match peer.asks {
        Asks::Requests => FioWork::Reads,
        Asks::Syncs => FioWork::Syncs,
    };
    let window = Window::of(stand, &running.since, work, length(round)).await?;
    if window.runs.runs == 0 {
        let why = peers.give_up_silent(peer, running);
        table.note_missing(section, peer.name, &why);
        return Ok(());
    }
    note(table, peer.name, peer.asks, &window);
    running.stop();
    Ok(())
}

async fn measure_ours(stand: &Stand, round: &Round, table: &mut Table) -> Result<()> {
    round.say("BPF run time, the tracer");
    let since = Since::now();
    let mut session = Session::start(&Options::default())?;
    session.check_capabilities()?;
    // The ring holds records of the self-test, which are not the load's.
    session.poll(None, &mut Vec::new());
    let mut polling = Polling { session: &mut session, since: &since, stand };

    let (window, named) = polling.run(FioWork::Reads, length(round)).await?;
    table.note(&REQUEST, OURS, "ns", window.per_request());
    let block = total_ns(&named, &BLOCK);
    table.note(&REQUEST, OURS_BLOCK, "ns", block / window.requests.max(1.0));

    let records = polling.session.engine().records();
    let (window, named) = polling.run(FioWork::Syncs, length(round)).await?;
    table.note(&SYNC, OURS_EVERYTHING, "ns", window.per_sync());
    // All syncs count, because the disk may lie on others that sync too.
    let syncs = polling.session.engine().records() - records;
    table.note(&SYNC, OURS_SYNC, "ns", total_ns(&named, &[Capability::Sync]) / syncs.max(1) as f64);

    measure_appends(stand, round, &mut session, table).await?;
    if session.is_attached(Capability::Issue) {
        drop(session);
        measure_noted(stand, round, table).await?;
    }
    Ok(())
}

/// Measures the same requests where no disk needs a hook at their issue.
async fn measure_noted(stand: &Stand, round: &Round, table: &mut Table) -> Result<()> {
    round.say("BPF run time, the tracer on a node without schedulers");
    let since = Since::now();
    let node = node::without_schedulers(None).context("failed to make a node")?;
    let options = Options { root: node.path().to_owned(), ..Options::default() };
    let mut session = Session::start(&options)?;
    // Queues that keep no such notes still need the hook, as in the row above.
    if session.is_attached(Capability::Issue) {
        return Ok(());
    }
    session.poll(None, &mut Vec::new());
    let mut polling = Polling { session: &mut session, since: &since, stand };
    let (window, _) = polling.run(FioWork::Reads, length(round)).await?;
    table.note(&REQUEST, OURS_NOTED, "ns", window.per_request());
    Ok(())
}

async fn measure_appends(
    stand: &Stand,
    round: &Round,
    session: &mut Session,
    table: &mut Table,
) -> Result<()> {
    let before = read_commits(stand);
    let spec = Spec::new(vec![stand.append_file()], Action::Append, length(round));
    let begin = session.run_stats();
    let load = spec.start()?;
    let wakeup = Wakeup::new(session)?;
    while load.is_running() {
        wakeup.wait().await;
        session.poll(None, &mut Vec::new());
    }
    let appended = load.finish()?;
    let named = less(session.run_stats(), &begin);
    match (before, read_commits(stand)) {
        (Some(before), Some(after)) if after > before => {
            let commits = (after - before) as f64;
            let what = "tracer, its journal programs";
            table.note(&COMMIT, what, "ns", total_ns(&named, &[Capability::Journal]) / commits);
            table.note(&COMMIT, "commits per fdatasync", "", commits / appended.done.max(1) as f64);
        }
        _ => table.note_missing(&COMMIT, "tracer, its journal programs", "no journal committed"),
    }
    Ok(())
}

/// Measures the cost of a request by the rate of requests, and the cost in user space.
/// One session serves all points, because a start takes long on an emulated machine.
pub async fn measure_rates(stand: &Stand, round: &Round, curve: &mut Curve) -> Result<()> {
    let _counting = enable_stats(Stats::RunTime)
        .context("failed to turn BPF statistics on: they need kernel 5.8 or newer")?;
    let since = Since::now();
    let mut session = Session::start(&Options::default())?;
    session.poll(None, &mut Vec::new());
    let mut polling = Polling { session: &mut session, since: &since, stand };
    let rates = RATES.into_iter().map(Rate::PerSecond).chain([Rate::Unlimited]);
    for rate in round.order(rates.collect()) {
        round.say(&format!("{}: {rate}", curve.title.to_lowercase()));
        let x = rate.per_second_or(UNLIMITED);
        let before = Usage::read(process::id())?;
        let work = FioWork::Both(Rates { reads: Some(rate), ..Rates::NONE });
        let begin = Instant::now();
        let (window, _) = polling.run(work, length(round)).await?;
        let seconds = begin.elapsed().as_secs_f64();
        let cpu_s = Usage::read(process::id())?.cpu_s - before.cpu_s;
        curve.note(KERNEL, "ns per request", x, window.per_request());
        curve.note(USER_CPU, "% of a core", x, cpu_s * 100.0 / seconds);
        curve.note("requests that there were", "/s", x, window.requests / seconds);
    }
    Ok(())
}

/// Our session, which is polled as usual while a load runs.
struct Polling<'a> {
    session: &'a mut Session,
    since: &'a Since,
    stand: &'a Stand,
}

type Named = Vec<(Program, u64)>;

impl Polling<'_> {
    /// Runs a load; returns the window, and the run time in ns of each of our programs.
    async fn run(&mut self, work: FioWork, length: Duration) -> Result<(Window, Named)> {
        let begin = self.session.run_stats();
        let opened = Opened::now(self.since);
        let load = self.stand.start(work, length)?;
        let wakeup = Wakeup::new(self.session)?;
        while load.is_running()? {
            wakeup.wait().await;
            self.session.poll(None, &mut Vec::new());
        }
        let window = opened.close(self.since, load.finish()?.syncs_per_second, length);
        Ok((window, less(self.session.run_stats(), &begin)))
    }
}

fn less(now: Vec<(Program, u64, u64)>, begin: &[(Program, u64, u64)]) -> Named {
    let before = |of| begin.iter().find(|(program, ..)| *program == of).map_or(0, |(.., ns)| *ns);
    let less =
        |(program, _, ns): (Program, u64, u64)| (program, ns.saturating_sub(before(program)));
    now.into_iter().map(less).collect()
}

fn total_ns(named: &Named, capabilities: &[Capability]) -> f64 {
    let programs = programs_of(capabilities);
    let wanted = named.iter().filter(|(program, _)| programs.contains(program));
    wanted.map(|(_, ns)| *ns as f64).sum()
}

/// The runs of one loader's programs during a load, and the covered share of the load.
struct Window {
    runs: Runs,
    /// Requests on all disks, because programs run for all of them.
    requests: f64,
    syncs: f64,
}

/// The beginning of a [`Window`].
struct Opened {
    runs: Runs,
    requests: u64,
}

impl Opened {
    fn now(since: &Since) -> Self {
        Self { runs: since.runs(), requests: count_requests() }
    }

    fn close(self, since: &Since, syncs_per_second: f64, length: Duration) -> Window {
        Window {
            runs: since.runs().less(self.runs),
            requests: count_requests().saturating_sub(self.requests) as f64,
            syncs: syncs_per_second * length.as_secs_f64(),
        }
    }
}

impl Window {
    async fn of(stand: &Stand, since: &Since, work: FioWork, length: Duration) -> Result<Self> {
        let opened = Opened::now(since);
        let figures = stand.run(work, length).await?;
        Ok(opened.close(since, figures.syncs_per_second, length))
    }

    fn per_request(&self) -> f64 {
        self.runs.ns as f64 / self.requests.max(1.0)
    }

    fn per_sync(&self) -> f64 {
        self.runs.ns as f64 / self.syncs.max(1.0)
    }
}

/// Requests that all disks of this machine have completed.
pub fn count_requests() -> u64 {
    let disks = fs::read_dir("/sys/block").into_iter().flatten().filter_map(Result::ok);
    let stats = disks.filter_map(|disk| read_stat(disk.file_name().to_str()?).ok());
    stats.map(|stat| stat.reads + stat.writes + stat.discards + stat.flushes).sum()
}

/// Transactions that the stand's journal has committed.
fn read_commits(stand: &Stand) -> Option<u64> {
    let prefix = format!("{}-", stand.disk);
    let journals = fs::read_dir("/proc/fs/jbd2").ok()?.filter_map(Result::ok);
    let mut ours = journals.filter(|j| j.file_name().to_string_lossy().starts_with(&prefix));
    let info = fs::read_to_string(ours.next()?.path().join("info")).ok()?;
    info.split_whitespace().next()?.parse().ok()
}
