//! Tests of the command line, run as a program.

use std::{
    io,
    process::{Command, Output, Stdio},
};

use assert_cmd::assert::OutputAssertExt as _;

use crate::subject::{as_nobody, tracer_bin};

const COMMANDS: [&str; 13] = [
    "top",
    "watch",
    "record",
    "replay",
    "timeline",
    "report",
    "mark",
    "agent",
    "doctor",
    "kubectl",
    "demo",
    "completions",
    "man",
];

fn tracer(args: &[&str]) -> Output {
    let mut command = Command::new(tracer_bin());
    command.args(args).stdin(Stdio::null()).output().expect("the tracer can be started")
}

fn stdout(args: &[&str]) -> String {
    let output = tracer(args).assert().success().get_output().stdout.clone();
    String::from_utf8(output).expect("is text")
}

/// The message of a usage error.
fn complaint(args: &[&str]) -> String {
    let output = tracer(args).assert().code(2).get_output().clone();
    assert_eq!(output.stdout, b"", "{args:?}: an error belongs on standard error");
    String::from_utf8(output.stderr).expect("is text")
}

#[test]
fn every_command_explains_itself_with_examples() {
    let help = stdout(&["--help"]);
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "--help does not list `{command}`");
        let help = stdout(&[command, "--help"]);
        let (_, examples) = help.split_once("EXAMPLES:").expect(command);
        assert!(examples.contains(&format!("tracer {command}")), "{command}: {examples}");
    }
    assert!(help.contains("sudo tracer top") && help.contains("EXIT CODES:"), "{help}");
}

#[test]
fn the_version_is_one_line() {
    let version = stdout(&["--version"]);
    assert!(version.starts_with("tracer ") && version.lines().count() == 1, "{version}");
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}

#[test]
fn without_a_command_it_prints_help_and_fails_as_usage() {
    let help = complaint(&[]);
    assert!(COMMANDS.iter().all(|command| help.contains(command)), "{help}");
}

#[test]
fn bad_usage_is_2_and_says_what_is_wrong() {
    let cases: [(&[&str], &str); 7] = [
        (&["nonsense"], "'nonsense'"),
        (&["top", "--nonsense"], "'--nonsense'"),
        (&["top", "--batch", "--json"], "cannot be used with"),
        (&["top", "-n", "0"], "0 is not in 1.."),
        (&["doctor", "--strategy", "start"], "expected CAPABILITY=STRATEGY"),
        (&["completions", "cmd.exe"], "bash"),
        (&["man", "nonsense"], "`nonsense`"),
    ];
    for (args, says) in cases {
        let complaint = complaint(args);
        assert!(complaint.contains(says), "{args:?}: {complaint}");
    }
}

#[test]
fn a_bad_duration_is_2_and_shows_a_good_one() {
    for option in ["--min", "--for"] {
        for value in ["10", "soon", "10 parsecs", "0s", ""] {
            let complaint = complaint(&["watch", option, value]);
            assert!(complaint.contains(option), "{value}: {complaint}");
            assert!(complaint.contains("10ms") || value == "0s", "{value}: {complaint}");
        }
    }
    assert!(complaint(&["top", "--interval", "1us"]).contains("100ms"));
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&["completions", shell]);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell} does not complete `{command}`");
        }
    }
}

#[test]
fn bash_can_read_its_completions() {
    let script = stdout(&["completions", "bash"]);
    Command::new("bash").args(["-n", "-c", &script]).assert().success().stderr("");
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let manual = stdout(&["man"]);
    for command in COMMANDS {
        // roff escapes the hyphen.
        assert!(manual.contains(&format!("tracer\\-{command}(1)")), "{command}: {manual}");
        let page = stdout(&["man", command]);
        assert!(page.contains(&format!(".TH tracer-{command} 1")), "{command}: {page}");
        assert!(page.contains("EXAMPLES"), "{command}: {page}");
    }
}

#[test]
fn a_reader_that_has_gone_away_is_no_error() {
    for args in [["man", "top"], ["completions", "bash"], ["top", "--help"]] {
        let (reader, writer) = io::pipe().expect("can make a pipe");
        drop(reader);
        let mut command = Command::new(tracer_bin());
        let output = command.args(args).stdout(writer).output().expect("the tracer can be started");
        output.assert().code(0).stderr("");
    }
}

#[test]
fn without_root_it_says_so_in_one_line() {
    for args in [
        ["top", "--batch"],
        ["watch", "--json"],
        ["agent", "--exit-on-failure"],
        ["doctor", "--json"],
        ["demo", "--fast"],
        ["record", "-o-"],
    ] {
        let output = as_nobody(&args, b"").assert().code(3).get_output().clone();
        let complaint = String::from_utf8(output.stderr).expect("is text");
        assert!(complaint.starts_with("tracer: error: "), "{args:?}: {complaint}");
        assert!(complaint.contains("root"), "{args:?}: {complaint}");
        assert_eq!(complaint.lines().count(), 1, "{args:?}: {complaint}");
    }
}
