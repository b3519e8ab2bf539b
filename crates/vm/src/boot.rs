//! One boot: starts QEMU, reads its output, and ends it.
//!
//! The machine is always emulated, without KVM, so that it runs wherever a user may
//! run programs. One thread emulates all processors in turn, so that the results of
//! tests depend little on how busy this machine is.

use std::{
    fs::File,
    io::{Read, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::Pid,
};

use crate::{
    apt::Apt,
    arch::Arch,
    console::{Console, Port},
    files::{self, Refresh},
};

/// QEMU: the unpacked one, or the user's.
pub struct Qemu {
    folder: PathBuf,
    whose: Whose,
}

enum Whose {
    /// QEMU was unpacked, with its libraries and its own dynamic linker.
    Ours,
    Users,
}

impl Qemu {
    /// Fetches QEMU, unless the user has named a directory with one.
    pub fn obtain(given: Option<&Path>, refresh: Refresh) -> Result<Self> {
        if let Some(folder) = given {
            return Ok(Self { folder: folder.into(), whose: Whose::Users });
        }
        let folder = files::cache().join("qemu");
        if !folder.exists() || refresh == Refresh::Yes {
            let apt = Apt::open(Arch::host(), Refresh::No)?;
            apt.unpack_closure(&["qemu-system-x86", "qemu-system-arm"], &folder)?;
        }
        Ok(Self { folder, whose: Whose::Ours })
    }

    fn command(&self, arch: Arch) -> Result<Command> {
        let name = format!("qemu-system-{}", arch.name());
        if let Whose::Users = self.whose {
            return Ok(Command::new(self.folder.join(name)));
        }
        let at = |path: &str| self.folder.join(path);
        let linkers = ["usr/lib64/ld-linux-x86-64.so.2", "usr/lib/ld-linux-aarch64.so.1"];
        let linker = linkers.map(at).into_iter().find(|file| file.exists());
        let libraries = at(Arch::host().library_folder());
        let mut command = Command::new(linker.context("the unpacked QEMU has no dynamic linker")?);
        command.arg("--library-path").arg(&libraries).arg(at("usr/bin").join(name));
        command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
        for data in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            command.arg("-L").arg(at(data));
        }
        Ok(command)
    }
}

/// The machine to emulate.
pub struct Machine<'a> {
    pub arch: Arch,
    pub vmlinuz: &'a Path,
    /// The initial root filesystem.
    pub root: &'a Path,
    /// A directory for files of this boot, which is removed afterwards.
    pub scratch: &'a Path,
    pub cpus: u32,
    pub kernel_arguments: &'a str,
}

const MAX_CPUS: u32 = 64;
const MEMORY_MIB: u32 = 4096;
const DISK_BYTES: u64 = 2 << 30;

/// How long a processor may be busy before the kernel reports a stall: 120 s instead of 20 s.
/// One thread of a busy host emulates all processors, so that each may get a twentieth of a
/// CPU, and what takes a second elsewhere takes 20 s.
const PATIENT: &str = "rcupdate.rcu_cpu_stall_timeout=120 watchdog_thresh=60";

/// A kernel in trouble is given this long to print why.
const LAST_WORDS: Duration = Duration::from_secs(3);

impl Machine<'_> {
    fn command(&self, qemu: &Qemu) -> Result<Command> {
        let mut command = qemu.command(self.arch)?;
        match self.arch {
            // Without this flag the kernel avoids 16-byte compare-and-exchange, which is
            // expensive to emulate.
            Arch::X86 => command.args(["-machine", "pc", "-cpu", "max,cx16=off"]),
            // `max` would sign pointers, which is even more expensive to emulate.
            Arch::Arm => command.args(["-machine", "virt", "-cpu", "cortex-a76"]),
        };
        command.args(["-accel", "tcg,thread=single", "-nic", "none", "-no-reboot"]);
        command.args(["-display", "none", "-monitor", "none"]);
        command.args(["-smp", &self.processors().to_string(), "-m", &MEMORY_MIB.to_string()]);
        // The kernel's port goes to standard error, the tests' to standard output.
        command.args(["-serial", "file:/dev/stderr", "-serial", "stdio"]);
        command.args(["-device", "virtio-rng-pci"]);
        self.add_disks(&mut command)?;
        if matches!(self.arch, Arch::X86) {
            self.add_paths(&mut command)?;
        }
        let console = format!("console={}0", self.arch.serial());
        // On a busy host the kernel finds its timer too slow while it boots, and gives up:
        // "IO-APIC + timer doesn't work". The emulated timer needs no such check.
        let quiet = "panic=-1 quiet no_timer_check";
        let cpus = format!("maxcpus={}", self.cpus);
        let arguments = format!("{console} {quiet} {PATIENT} {cpus} {}", self.kernel_arguments);
        command.arg("-kernel").arg(self.vmlinuz).arg("-initrd").arg(self.root);
        command.args(["-append", arguments.trim()]);
        Ok(command)
    }

    /// The number of processors that the machine has, of which the kernel starts only `cpus`. A
    /// drive may have a queue for each possible processor, and newer kernels do not count
    /// those that QEMU could add later.
    fn processors(&self) -> u32 {
        match self.arch {
            Arch::X86 => MAX_CPUS.max(self.cpus),
            // The interrupt controller of this machine supports eight.
            Arch::Arm => self.cpus,
        }
    }

    /// Adds two empty disks with different serial numbers: one that can
    /// discard, and one that cannot.
    fn add_disks(&self, command: &mut Command) -> Result<()> {
        for (name, discard) in [("discard", "on"), ("plain", "off")] {
            self.add_drive(command, name, if discard == "on" { "unmap" } else { "ignore" })?;
            command.arg("-device").arg(format!(
                "virtio-blk-pci,drive={name},serial={name},discard={discard},write-zeroes={discard},\
                 num-queues={}",
                self.cpus
            ));
        }
        Ok(())
    }

    /// Adds a disk with two paths: an NVMe namespace that two controllers share. The guest
    /// sees it once its driver is loaded.
    fn add_paths(&self, command: &mut Command) -> Result<()> {
        self.add_drive(command, "paths", "unmap")?;
        command.args(["-device", "nvme-subsys,id=subsystem,nqn=paths"]);
        for path in ["path0", "path1"] {
            command.args(["-device", &format!("nvme,id={path},serial=paths,subsys=subsystem")]);
        }
        command.args(["-device", "nvme-ns,drive=paths,nsid=1,shared=on,bus=path0"]);
        Ok(())
    }

    /// Adds a drive with an empty image.
    fn add_drive(&self, command: &mut Command, name: &str, discard: &str) -> Result<()> {
        let file = self.scratch.join(format!("{name}.img"));
        File::create(&file)
            .and_then(|image| image.set_len(DISK_BYTES))
            .with_context(|| format!("failed to create `{}`", file.display()))?;
        // A comma ends a path in QEMU's options, unless it is doubled.
        let path = file.display().to_string().replace(',', ",,");
        command.arg("-drive").arg(format!(
            "if=none,id={name},format=raw,cache=unsafe,discard={discard},file={path}"
        ));
        Ok(())
    }

    /// Boots, and reads until the verdict, or until there can be none any more.
    ///
    /// # Errors
    ///
    /// The reason why there is no verdict. `console` and `log` have all output up to then.
    pub fn boot(
        &self,
        qemu: &Qemu,
        limit: Duration,
        interrupted: &AtomicBool,
        log: &mut File,
        console: &mut Console,
    ) -> Result<()> {
        let command = self.command(qemu)?;
        writeln!(log, "{command:?}")?;
        let begin = Instant::now();
        let mut guest = Guest::start(command)?;
        let (sender, pieces) = mpsc::channel();
        let Child { stdout, stderr, .. } = &mut guest.0;
        pump(stdout.take().context("QEMU has no output")?, Port::Tests, sender.clone());
        pump(stderr.take().context("QEMU has no output")?, Port::Kernel, sender);

        let mut end = begin + limit;
        let mut in_trouble = false;
        while console.verdict.is_none() && Instant::now() < end {
            if interrupted.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            match pieces.recv_timeout(Duration::from_millis(200)) {
                Ok((port, piece)) => {
                    let mut written = Ok(());
                    let now = begin.elapsed();
                    let seconds = now.as_secs_f64();
                    let keep = |line: &str| written = writeln!(log, "{seconds:6.1} {line}");
                    console.feed(port, &piece, now, keep);
                    written.context("failed to write the log")?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                // QEMU has ended, and all its output was read.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Some(pause) = console.pause.take() {
                guest.stop_for(pause)?;
            }
            if console.trouble.is_some() && !in_trouble {
                in_trouble = true;
                end = end.min(Instant::now() + LAST_WORDS);
            }
        }
        match (&console.trouble, console.verdict) {
            (Some(line), _) => bail!("the kernel is in trouble: {line}"),
            (None, Some(_)) => Ok(()),
            (None, None) if Instant::now() >= end => {
                bail!("no verdict within {} s", limit.as_secs())
            }
            (None, None) => bail!("the guest ended without a verdict"),
        }
    }
}

/// A running QEMU. It is killed when dropped, and by the kernel if we are killed.
struct Guest(Child);

impl Guest {
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A ^C reaches only us, and we then end QEMU.
        command.process_group(0);
        // SAFETY: the closure makes only a system call, which is allowed between fork and exec.
        unsafe {
            command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?));
        }
        let program = command.get_program().display().to_string();
        let child = command.spawn().with_context(|| format!("failed to run `{program}`"))?;
        Ok(Self(child))
    }

    /// Stops the machine for this time. As with a hypervisor that says nothing, its clocks go on.
    fn stop_for(&self, pause: Duration) -> Result<()> {
        let process = Pid::from_raw(self.0.id().try_into()?);
        kill(process, Signal::SIGSTOP).context("failed to stop QEMU")?;
        thread::sleep(pause);
        kill(process, Signal::SIGCONT).context("failed to let QEMU go on")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // This fails only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Passes on the output of a port, in a thread that ends with the port.
fn pump(mut stream: impl Read + Send + 'static, port: Port, to: Sender<(Port, Vec<u8>)>) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if to.send((port, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
}
