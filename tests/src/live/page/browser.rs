//! A browser without a window, driven through the DevTools protocol:
//! <https://chromedevtools.github.io/devtools-protocol/>.
//!
//! It sends and receives JSON over two descriptors, each message ended by a zero byte. So
//! no port is open, and no other process can talk to it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tracer_lab::tool::Tool;

const NAMES: [Tool; 2] = [
    Tool { name: "chromium-headless-shell", package: "chromium-headless-shell" },
    Tool { name: "chromium", package: "chromium" },
];

const PATIENCE: Duration = Duration::from_secs(30);

/// A running browser, killed with all its processes when dropped.
pub struct Browser {
    /// The first process of a group that all others are in.
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    last_id: u64,
    /// The page's session, once there is a page.
    session: Option<String>,
    /// The page's errors and messages; there should be none.
    faults: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser, if one is installed; it has no page yet.
    pub fn start() -> Option<Self> {
        let program = NAMES.iter().find_map(Tool::find)?;
        let profile = tempfile::tempdir().unwrap();
        // It expects the protocol on descriptors 3 and 4.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1"]);
        command.arg(program).args(["--headless", "--remote-debugging-pipe", "--disable-gpu"]);
        // It runs as root, and in machines with a small /dev/shm.
        command.args(["--no-sandbox", "--no-zygote", "--disable-dev-shm-usage", "--no-first-run"]);
        command.args(["--disable-background-networking", "--disable-component-update"]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.process_group(0);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is sh");
        let to = child.stdin.take().expect("is piped");
        let out = BufReader::new(child.stdout.take().expect("is piped"));
        let (sender, from) = mpsc::channel();
        thread::spawn(move || {
            for message in out.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("the browser sends JSON");
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let (session, faults) = (None, Vec::new());
        Some(Self { child, to, from, last_id: 0, session, faults, _profile: profile })
    }

    /// Opens a page.
    pub fn open(&mut self, url: &str) {
        let target = self.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call("Target.attachToTarget", target);
        self.session = Some(attached["sessionId"].as_str().expect("a session").to_owned());
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            self.call(domain, json!({}));
        }
        let navigated = self.call("Page.navigate", json!({"url": url}));
        assert!(navigated["errorText"].is_null(), "{url}: {navigated}");
    }

    /// Evaluates an expression in the page.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let args = json!({"expression": expression, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", args);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Makes it another kind of screen, by a method of the domain `Emulation`.
    #[track_caller]
    pub fn emulate(&mut self, method: &str, params: Value) {
        self.call(&format!("Emulation.{method}"), params);
    }

    /// The text of the element with this id.
    #[track_caller]
    pub fn text(&mut self, id: &str) -> String {
        let text = self.evaluate(&format!("document.getElementById('{id}').textContent"));
        text.as_str().expect("text").to_owned()
    }

    /// Waits until the text of the element with this id is as wanted.
    #[track_caller]
    pub fn wait_for_text(&mut self, id: &str, is_it: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            // The element does not exist while the page loads.
            let text = self.evaluate(&format!("document.getElementById('{id}')?.textContent"));
            match text.as_str() {
                Some(text) if is_it(text) => return text.to_owned(),
                text if Instant::now() > end => panic!("#{id} is {text:?}; {:?}", self.faults),
                _ => sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Exceptions, dialogs, and what the page's policy refused.
    pub fn faults(&self) -> &[Value] {
        &self.faults
    }

    #[track_caller]
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("failed to write to the browser");
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut said = self.from.recv_timeout(left);
            match &mut said {
                Ok(answer) if answer["id"] == self.last_id => {
                    assert!(answer["error"].is_null(), "{method}: {answer}");
                    return answer["result"].take();
                }
                Ok(event) => self.note(event.take()),
                Err(error) => panic!("{method}: the browser does not answer: {error}"),
            }
        }
    }

    fn note(&mut self, event: Value) {
        let entry = &event["params"]["entry"];
        let is_fault = match event["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Page.javascriptDialogOpening") => true,
            // The browser also logs an error if the agent does not answer or has no verdicts yet.
            Some("Log.entryAdded") => entry["level"] == "error" && entry["source"] != "network",
            _ => false,
        };
        if is_fault {
            self.faults.push(event);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.child.id().cast_signed());
        // This fails only if they have ended already.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
        // The other processes write to the profile until they have ended: a directory that is
        // removed before that is created again.
        let end = Instant::now() + PATIENCE;
        while killpg(group, None).is_ok() && Instant::now() < end {
            sleep(Duration::from_millis(5));
        }
    }
}
