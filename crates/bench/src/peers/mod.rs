//! Other tracers, which answer a part of what ours answers and are measured beside it:
//! the list of them, and how they are started.
//!
//! They run as the distribution ships them. Scripts of our own replace shipped ones that
//! need hooks which a kernel may lack. A tracer that is not installed, or does not run
//! here, has a row that says why.

pub mod beside;
pub(crate) mod complaint;
pub mod kernel;

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount, umount};
use tracer_lab::{cgroup::Cgroup, process::Process, tool::Tool};

use crate::{
    loaded::Since,
    report::{
        rows::{
            BESIDE, BIOLATENCY, BIOLATENCY_BT, BIOSNOOP_BT, BPFTRACE_FDATASYNC, BPFTRACE_HISTOGRAM,
            BPFTRACE_LINES, LIBBPF_BIOSNOOP, NOBODY, OURS, OURS_SYNC, REQUEST, SYNC,
        },
        table::Table,
    },
};

#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Asks {
    Requests,
    Syncs,
}

#[derive(Clone, Copy)]
pub struct Peer {
    pub name: &'static str,
    pub asks: Asks,
    run: Run,
}

#[derive(Clone, Copy)]
enum Run {
    /// A program by its name.
    Program(Tool),
    /// A script that comes with bpftrace, by its name.
    Shipped(&'static str),
    /// A script of our own.
    Script(&'static str),
}

const BPFTRACE: Tool = Tool { name: "bpftrace", package: "bpftrace" };

const fn libbpf(name: &'static str) -> Run {
    Run::Program(Tool { name, package: "libbpf-tools" })
}

pub const PEERS: [Peer; 7] = {
    use Asks::{Requests, Syncs};
    const fn peer(name: &'static str, asks: Asks, run: Run) -> Peer {
        Peer { name, asks, run }
    }
    [
        peer(BIOLATENCY, Requests, libbpf("biolatency")),
        peer(LIBBPF_BIOSNOOP, Requests, libbpf("biosnoop")),
        peer(BIOLATENCY_BT, Requests, Run::Shipped("biolatency.bt")),
        peer(BIOSNOOP_BT, Requests, Run::Shipped("biosnoop.bt")),
        peer(BPFTRACE_HISTOGRAM, Requests, Run::Script(include_str!("histogram.bt"))),
        peer(BPFTRACE_LINES, Requests, Run::Script(include_str!("lines.bt"))),
        peer(BPFTRACE_FDATASYNC, Syncs, Run::Script(include_str!("fdatasync.bt"))),
    ]
};

/// A peer's programs must be attached within this time.
const READY: Duration = Duration::from_secs(20);
/// A peer is complete when it has loaded no further program for this long.
const SETTLED: Duration = Duration::from_millis(400);

/// The peers that can be measured, and the reasons why the others cannot.
pub struct Peers {
    /// The directory into which the bench's own copies are unpacked.
    folder: Option<PathBuf>,
    /// The reasons why peers were given up.
    given_up: BTreeMap<&'static str, String>,
    _tracefs: Option<Tracefs>,
}

/// A running peer; it is ended when dropped.
pub struct Running {
    process: Process,
    pub since: Since,
}

/// A tracefs that we have mounted, because bpftrace looks up tracepoints there.
struct Tracefs;

/// Sets the bases when all rounds are over: rows are compared with the tracer, or with
/// no tracer.
pub fn hold_against_ours(table: &mut Table) {
    table.hold_against(&REQUEST, OURS);
    table.hold_against(&SYNC, OURS_SYNC);
    for (_, section) in BESIDE {
        if !section.base.is_empty() {
            table.hold_against(section, NOBODY);
        }
    }
}

impl Peers {
    pub fn find() -> Self {
        let folder = env::var_os("TRACER_PEERS").map(PathBuf::from).filter(|path| path.is_dir());
        Self { folder, given_up: BTreeMap::new(), _tracefs: Tracefs::mount() }
    }

    /// Starts a peer and waits until its programs are attached. `Err` is the reason why it
    /// cannot be measured, now and in later rounds.
    pub async fn start(&mut self, peer: &Peer) -> Result<Running, String> {
        if let Some(why) = self.given_up.get(peer.name) {
            return Err(why.clone());
        }
        match self.try_start(peer).await {
            Ok(running) => Ok(running),
            Err(error) => Err(self.give_up(peer, format!("{error:#}"))),
        }
    }

    /// Stops a peer that runs but sees nothing, and notes that.
    pub fn give_up_silent(&mut self, peer: &Peer, running: Running) -> String {
        let said = running.stop();
        self.give_up(peer, said)
    }

    fn give_up(&mut self, peer: &Peer, why: String) -> String {
        self.given_up.insert(peer.name, why.clone());
        why
    }

    async fn try_start(&self, peer: &Peer) -> Result<Running> {
        let mut command = match peer.run {
            Run::Program(tool) => self.command(tool)?,
            Run::Shipped(script) => {
                let mut command = self.command(BPFTRACE)?;
                command.arg(self.locate(script).with_context(|| format!("no `{script}` here"))?);
                command
            }
            Run::Script(text) => {
                let mut command = self.command(BPFTRACE)?;
                command.args(["-e", text]);
                command
            }
        };
        command.stdout(Stdio::null());
        let since = Since::now();
        let process = Process::spawn(command, &Cgroup::none())?;
        let running = Running { process, since };
        let (begin, mut settled, mut programs) = (Instant::now(), Instant::now(), 0);
        while programs == 0 || settled.elapsed() < SETTLED {
            if let Some(ended) = running.process.ended() {
                bail!("{}", complaint::find(&ended.stderr));
            }
            if begin.elapsed() > READY {
                bail!("its programs were not loaded after {} s", READY.as_secs());
            }
            let now = running.since.runs().programs;
            if now != programs {
                (programs, settled) = (now, Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(running)
    }

    fn command(&self, tool: Tool) -> Result<Command> {
        let Some(program) = self.locate(tool.name) else {
            bail!("`{}` is not installed (Debian package {})", tool.name, tool.package);
        };
        let mut command = Command::new(program);
        if let Some(folder) = &self.folder {
            command.env("LD_LIBRARY_PATH", libraries(folder));
        }
        Ok(command)
    }

    /// Finds the bench's own copy, or the machine's; Debian has renamed libbpf's tools.
    fn locate(&self, name: &str) -> Option<PathBuf> {
        self.locate_exactly(name).or_else(|| self.locate_exactly(&format!("{name}-libbpf")))
    }

    fn locate_exactly(&self, name: &str) -> Option<PathBuf> {
        let own = self.folder.iter().flat_map(|folder| {
            ["usr/bin", "usr/sbin", "usr/share/bpftrace/tools"].map(|bin| folder.join(bin))
        });
        let system =
            ["/usr/bin", "/usr/sbin", "/usr/share/bpftrace/tools"].into_iter().map(PathBuf::from);
        own.chain(system).map(|bin| bin.join(name)).find(|file| file.is_file())
    }
}

/// The directories in which Debian puts libraries, below a root directory.
fn libraries(root: &Path) -> OsString {
    let triplet = format!("{}-linux-gnu", env::consts::ARCH);
    let folders = [root.join("usr/lib").join(&triplet), root.join("lib").join(triplet)];
    // This fails only for a name with a colon, which no loader could use.
    env::join_paths(folders).unwrap_or_default()
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Ends it, and returns what it complained about.
    pub fn stop(mut self) -> String {
        match self.process.stop(Duration::from_secs(5)) {
            Ok(ended) => complaint::find(&ended.stderr),
            Err(error) => format!("{error:#}"),
        }
    }
}

impl Tracefs {
    const AT: &str = "/sys/kernel/tracing";

    /// Mounts tracefs. Returns `None` if it is mounted already, or if that fails: a tracer
    /// that needs it reports that itself.
    fn mount() -> Option<Self> {
        if Path::new(Self::AT).join("events").is_dir() {
            return None;
        }
        let none: Option<&str> = None;
        mount(none, Self::AT, Some("tracefs"), MsFlags::empty(), none).ok().map(|()| Self)
    }
}

impl Drop for Tracefs {
    fn drop(&mut self) {
        if let Err(error) = umount(Self::AT) {
            eprintln!("bench: failed to unmount `{}`: {error}", Self::AT);
        }
    }
}
