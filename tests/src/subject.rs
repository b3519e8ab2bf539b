//! The program under test: its path, and a running instance.
//!
//! A [`Tracer`] never outlives its test, and nothing here waits forever: each wait has a
//! timeout, after which the test fails and shows the program's output so far.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    os::unix::{fs::PermissionsExt, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The tracer's executable: `TRACER_BIN`, or the one that cargo has built next to this test,
/// preferably in the same profile.
pub fn tracer_bin() -> PathBuf {
    if let Some(file) = env::var_os("TRACER_BIN") {
        return file.into();
    }
    let test = env::current_exe().expect("a test knows its executable");
    // target/PROFILE/deps/tests-HASH
    let profile = test.ancestors().nth(2).expect("the test lies in a target directory");
    let target = profile.parent().expect("a profile lies in a target directory");
    [profile.join("tracer"), target.join("release/tracer"), target.join("debug/tracer")]
        .into_iter()
        .find(|file| file.is_file())
        .expect("no tracer is built: run `cargo xtask build`, or set TRACER_BIN")
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A user without rights.
const NOBODY: u32 = 65534;

/// Runs the tracer to its end as [`NOBODY`], from a directory that this user may read.
pub fn as_nobody(args: &[&str], input: &[u8]) -> Output {
    let place = tempfile::tempdir().expect("can make a directory");
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).expect("it is ours");
    let copy = place.path().join("tracer");
    fs::copy(tracer_bin(), &copy).expect("can copy the tracer");
    let mut command = Command::new(copy);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let piped = Stdio::piped;
    command.args(args).current_dir("/").stdin(piped()).stdout(piped()).stderr(piped());
    let mut child = spawn_when_closed(&mut command).expect("nobody can start the tracer");
    let mut stdin = child.stdin.take().expect("is piped");
    let input = input.to_owned();
    // It may end before it has read everything, or read nothing.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("can wait for our own child");
    writer.join().expect("a writer does not panic");
    output
}

/// Starts a program that was just written. A process that another thread has forked has the
/// file open for writing until it executes something else, and the kernel does not start a
/// program from such a file.
fn spawn_when_closed(command: &mut Command) -> io::Result<Child> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match command.spawn() {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < end =>
            {
                thread::sleep(Duration::from_millis(10));
            }
            spawned => return spawned,
        }
    }
}

/// A running program, killed when dropped.
pub struct Tracer {
    child: Child,
    lines: Receiver<String>,
    /// All lines of both streams so far, for the message if the test fails.
    transcript: Arc<Mutex<String>>,
    /// The threads that read both streams.
    readers: [JoinHandle<()>; 2],
}

impl Tracer {
    /// Starts the tracer with an empty standard input.
    pub fn start(args: &[&str]) -> Self {
        let mut command = Command::new(tracer_bin());
        command.args(args);
        Self::spawn(command)
    }

    /// Starts any program, for another environment or in the place of the tracer.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let transcript = Arc::default();
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().expect("is piped");
        // The test may have stopped listening.
        let of_stdout = read_lines(stdout, "", &transcript, move |line| drop(sender.send(line)));
        let stderr = child.stderr.take().expect("is piped");
        let of_stderr = read_lines(stderr, "stderr: ", &transcript, drop);
        Self { child, lines, transcript, readers: [of_stdout, of_stderr] }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of standard output.
    #[track_caller]
    pub fn line(&self, within: Duration) -> String {
        self.find_line(within, |_| true)
    }

    /// The next line of standard output for which `is_it` holds; those before are dropped.
    #[track_caller]
    pub fn find_line(&self, within: Duration, is_it: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + within;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if is_it(&line) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => self.give_up(&format!("no line in {within:?}")),
                Err(RecvTimeoutError::Disconnected) => self.give_up("it ended without the line"),
            }
        }
    }

    /// Waits until it has printed this text, on either stream.
    #[track_caller]
    pub fn wait_for(&self, within: Duration, text: &str) {
        let end = Instant::now() + within;
        while !self.transcript().contains(text) {
            if Instant::now() > end {
                self.give_up(&format!("no {text:?} in {within:?}"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The next line of standard output, which must be JSON.
    #[track_caller]
    pub fn json(&self, within: Duration) -> serde_json::Value {
        let line = self.line(within);
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("not JSON: {error}: {line}"))
    }

    /// Interrupts it, as ^C does.
    pub fn interrupt(&self) {
        self.signal(Signal::SIGINT);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a process id fits"));
        kill(pid, signal).expect("can signal our own child");
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().expect("can kill our own child");
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("can wait for our own child").is_some()
    }

    /// Waits for its end, and until all that it said is in the transcript.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("can wait for our own child") {
                // A process that it has left behind may hold its streams open.
                let end = Instant::now() + LAST_WORDS;
                while !self.readers.iter().all(JoinHandle::is_finished) && Instant::now() < end {
                    thread::sleep(Duration::from_millis(1));
                }
                return status;
            }
            if Instant::now() > end {
                self.give_up(&format!("it still runs after {within:?}"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// All lines of both streams so far; those of standard error are marked.
    pub fn transcript(&self) -> String {
        self.transcript.lock().expect("no reader panics").clone()
    }

    #[track_caller]
    fn give_up(&self, why: &str) -> ! {
        panic!("{why}; it said:\n{}", self.transcript());
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // This fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The readers get this time to read what was said before the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Reads lines until the stream ends, in a thread of its own.
fn read_lines(
    stream: impl Read + Send + 'static,
    mark: &'static str,
    transcript: &Arc<Mutex<String>>,
    take: impl Fn(String) + Send + 'static,
) -> JoinHandle<()> {
    let transcript = Arc::clone(transcript);
    thread::spawn(move || {
        // Names from the kernel may be any bytes, but tests compare text.
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            *transcript.lock().expect("no reader panics") += &format!("{mark}{line}\n");
            take(line);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Tracer {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Tracer::spawn(command)
    }

    #[test]
    fn lines_arrive_in_order_and_the_status_after_them() {
        let mut shell = shell("echo one; echo oops >&2; echo two; echo '{\"n\":3}'; exit 4");
        assert_eq!(shell.line(SOON), "one");
        assert_eq!(shell.find_line(SOON, |line| line.starts_with('t')), "two");
        assert_eq!(shell.json(SOON)["n"], 3);
        assert_eq!(shell.wait(SOON).code(), Some(4));
    }

    #[test]
    fn an_interrupt_reaches_it() {
        // In a test run in the background interrupts are ignored, and a shell cannot
        // trap them.
        let script = "trap 'exit 5' INT; echo ready; while :; do sleep 0.01; done";
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", "sh", "-c", script]);
        let mut shell = Tracer::spawn(command);
        shell.line(SOON);
        shell.interrupt();
        assert_eq!(shell.wait(SOON).code(), Some(5));
    }

    #[test]
    #[should_panic(expected = "it ended without the line; it said:\nwhy\n")]
    fn a_line_that_does_not_come_shows_what_did() {
        shell("echo why").find_line(SOON, |line| line == "because");
    }

    #[test]
    #[should_panic(expected = "it still runs after 20ms")]
    fn waiting_has_an_end() {
        shell("exec sleep 60").wait(Duration::from_millis(20));
    }

    #[test]
    fn it_does_not_outlive_its_test() {
        let shell = shell("exec sleep 60");
        let process = PathBuf::from(format!("/proc/{}", shell.id()));
        assert!(process.exists());
        drop(shell);
        assert!(!process.exists());
    }
}
