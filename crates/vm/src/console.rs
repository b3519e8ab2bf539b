//! Reads the output of a guest: counts tests, collects cells, notices trouble.
//!
//! There are two serial ports, the kernel's console and the tests' output. This is
//! pure: bytes go in, cut anywhere, with the time since the start. It knows no
//! process and no clock.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::tally::Tally;

/// The result of one combination of filesystem, scheduler, stack and so on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Cell {
    /// `xfs, bfq`
    pub cell: String,
    pub outcome: Outcome,
    /// The reason in one sentence, or nothing.
    #[serde(default)]
    pub why: String,
    /// The selected strategy of each capability; none if the capability is unsupported.
    #[serde(default)]
    pub strategies: BTreeMap<String, Option<String>>,
    /// The summary of a comparison: `352 requests and 49 syncs, all equal`.
    #[serde(default)]
    pub counted: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Green,
    /// The tracer does not see this, and says so.
    Unsupported,
    Failed,
    Skipped,
}

/// After a kernel has printed one of these, the boot is given up.
const TROUBLE: [&str; 8] = [
    "Kernel panic",
    "BUG:",
    "soft lockup",
    "hard LOCKUP",
    "Oops",
    "self-detected stall",
    "detected stalls on CPU",
    "Unable to handle kernel",
];

/// The guest's last line, which has the result.
const VERDICT: &str = "tracer-vm: exit ";

/// With this line a guest asks to be stopped for some seconds, as a hypervisor stops a machine that
/// it moves or takes a snapshot of.
const PAUSE: &str = "tracer-vm: pause ";

/// No guest is stopped for longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Port {
    Kernel,
    Tests,
}

#[derive(Default)]
pub struct Console {
    pub tally: Tally,
    pub cells: Vec<Cell>,
    /// Names of tests that failed.
    pub failures: Vec<String>,
    /// The lines in which the guest described its kernel.
    pub remarks: Vec<String>,
    /// The first line of a kernel in trouble.
    pub trouble: Option<String>,
    /// The exit code of the tests.
    pub verdict: Option<i32>,
    /// The time for which the guest asks to be stopped. It is taken by whoever stops it.
    pub pause: Option<Duration>,
    /// Whether libtest is listing the tests that failed.
    in_failures: bool,
    kernel: Line,
    tests: Line,
}

/// The output of a port since its last complete line, and the time at which it began.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    begun: Duration,
}

impl Console {
    /// Takes the next piece of a port's output; passes each complete line to `show`.
    pub fn feed(&mut self, port: Port, bytes: &[u8], now: Duration, mut show: impl FnMut(&str)) {
        for &byte in bytes {
            let open = match port {
                Port::Kernel => &mut self.kernel,
                Port::Tests => &mut self.tests,
            };
            if open.bytes.is_empty() {
                open.begun = now;
            }
            if byte != b'\n' {
                open.bytes.push(byte);
                continue;
            }
            let Line { bytes, begun } = std::mem::take(open);
            let line = String::from_utf8_lossy(&bytes);
            let line = line.trim_end_matches('\r');
            show(line);
            self.read_line(port, line);
            self.tally.take_line(line, begun, now);
        }
    }

    fn read_line(&mut self, port: Port, line: &str) {
        // A guest with only one port prints everything there.
        if port == Port::Kernel && self.trouble.is_none() && is_trouble(line) {
            self.trouble = Some(line.trim().to_owned());
        }
        if let Some(code) = line.strip_prefix(VERDICT) {
            self.verdict = code.trim().parse().ok();
        } else if let Some(seconds) = line.strip_prefix(PAUSE) {
            let seconds = seconds.trim().parse().ok().map(Duration::from_secs);
            self.pause = seconds.map(|pause| pause.min(LONGEST_PAUSE));
        } else if let Some(remark) = line.strip_prefix("guest: ") {
            self.remarks.push(remark.to_owned());
        } else if let Some(cell) = after_test_name(line).strip_prefix("cell: ") {
            self.take_cell(cell);
        } else {
            self.take_failure(line);
        }
    }

    fn take_cell(&mut self, json: &str) {
        match serde_json::from_str(json) {
            Ok(cell) => self.cells.push(cell),
            Err(error) => {
                let why = format!("a cell could not be parsed, {error}: {json}");
                self.remarks.push(why.clone());
                self.failures.push(why);
            }
        }
    }

    /// At its end libtest lists the names of the tests that failed, indented.
    fn take_failure(&mut self, line: &str) {
        if line == "failures:" {
            self.in_failures = true;
        } else if let (true, Some(name)) = (self.in_failures, line.strip_prefix("    ")) {
            self.failures.push(name.to_owned());
        } else if !line.is_empty() {
            self.in_failures = false;
        }
    }
}

fn is_trouble(line: &str) -> bool {
    TROUBLE.iter().any(|text| line.contains(text))
}

/// The rest of a line that libtest has begun with `test NAME ... `.
fn after_test_name(line: &str) -> &str {
    let named = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "));
    named.map_or(line, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Outcome as End;

    const RUN: &str = "\
guest: 6.1.0-50-amd64, 1 CPUs, up in 9.1 s\r
\r
running 3 tests\r
test guest::cells::ext4 ... cell: {\"cell\":\"ext4, none\",\"outcome\":\"green\",\"why\":\"\",\"strategies\":{\"journal\":null,\"sync\":\"tracepoint\"},\"counted\":\"352 requests\"}\r
ok\r
test guest::cells::nfs ... \r
cell: {\"cell\":\"nfs\",\"outcome\":\"unsupported\",\"why\":\"nfs has no disk here.\"}\r
ok\r
test live::syncs::x ... FAILED\r
\r
failures:\r
\r
failures:\r
    live::syncs::x\r
\r
test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\r
guest: dmesg: WARNING: odd\r
tracer-vm: exit 101\r
";

    fn console(kernel: &str, tests: &str, piece: usize) -> Console {
        let mut console = Console::default();
        for (port, text) in [(Port::Kernel, kernel), (Port::Tests, tests)] {
            for piece in text.as_bytes().chunks(piece) {
                console.feed(port, piece, Duration::ZERO, |_| {});
            }
        }
        console
    }

    #[test]
    fn everything_is_found_wherever_the_stream_is_cut() {
        for piece in [1, 2, 7, 64, 4096] {
            let mut console = console("", RUN, piece);
            assert_eq!(console.verdict, Some(101));
            console.tally.end(false);
            assert_eq!(console.tally.to_string(), "2 passed, 1 failed, 0 skipped");
            let tests = console.tally.take_ended().into_iter();
            let tests: Vec<_> = tests.map(|test| (test.name, test.outcome)).collect();
            let name = str::to_owned;
            assert_eq!(
                tests,
                [
                    (name("guest::cells::ext4"), End::Passed),
                    (name("guest::cells::nfs"), End::Passed),
                    (name("live::syncs::x"), End::Failed),
                ]
            );
            assert_eq!(console.failures, ["live::syncs::x"]);
            assert_eq!(console.remarks.len(), 2);
            let cells: Vec<_> = console
                .cells
                .iter()
                .map(|c| (c.cell.as_str(), c.outcome, c.why.as_str()))
                .collect();
            assert_eq!(
                cells,
                [
                    ("ext4, none", Outcome::Green, ""),
                    ("nfs", Outcome::Unsupported, "nfs has no disk here."),
                ]
            );
            assert_eq!(console.cells[0].strategies["sync"].as_deref(), Some("tracepoint"));
            assert_eq!(console.cells[0].strategies["journal"], None);
            assert_eq!(console.trouble, None);
        }
    }

    #[test]
    fn a_test_in_a_guest_lasts_as_long_as_it_says() {
        let mut console = Console::default();
        let at = Duration::from_secs;
        console.feed(Port::Tests, b"test live::a ... ", at(10), |_| {});
        console.feed(Port::Kernel, b"[   12.0] something\n", at(12), |_| {});
        console.feed(Port::Tests, b"ok\n", at(40), |_| {});
        console.tally.end(true);
        let tests = console.tally.take_ended();
        assert_eq!((tests.len(), tests[0].seconds), (1, 30.0));
    }

    #[test]
    fn a_kernel_in_trouble_is_noticed() {
        for line in [
            "[    9.1] Kernel panic - not syncing: Attempted to kill init!",
            "[  120.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [fio:1]",
            "[    3.0] Internal error: Oops: 0000000096000004 [#1] SMP",
            "[   60.0] rcu: INFO: rcu_sched self-detected stall on CPU",
            "[   60.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            "[    5.0] Unable to handle kernel NULL pointer dereference at virtual address 0",
        ] {
            let console = console(&format!("quiet before\n{line}\nBUG: more\n"), "", 5);
            assert_eq!(console.trouble.as_deref(), Some(line));
        }
        assert_eq!(console("[ 1.0] loop: module loaded\n", "", 5).trouble, None);
    }

    #[test]
    fn what_a_test_prints_is_no_trouble_of_the_kernel() {
        assert_eq!(console("", "thread panicked: Oops\n", 5).trouble, None);
    }

    #[test]
    fn a_guest_that_stops_in_the_middle_has_no_verdict() {
        let cut = &RUN[..RUN.len() / 2];
        assert_eq!(console("", cut, 7).verdict, None);
        assert_eq!(console("", "tracer-vm: exit 0", 7).verdict, None, "the line must end");
    }

    #[test]
    fn a_guest_is_stopped_for_as_long_as_it_asks_and_a_minute_at_most() {
        let pause = |line: &str| console("", line, 7).pause;
        assert_eq!(pause("tracer-vm: pause 5\r\n"), Some(Duration::from_secs(5)));
        assert_eq!(pause("tracer-vm: pause 86400\n"), Some(Duration::from_secs(60)));
        assert_eq!(pause("tracer-vm: pause -1\n"), None);
        assert_eq!(pause("test a ... tracer-vm: pause 5\n"), None, "the line begins with it");
    }

    #[test]
    fn a_cell_that_cannot_be_read_is_a_failure() {
        let console = console("", "cell: {\"cell\":\"ext4\"\n", 7);
        assert_eq!(console.failures.len(), 1);
        assert!(console.cells.is_empty());
    }
}
