//! Advice with a tenant's name in it, pasted into a real shell.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    process::Command,
    thread::sleep,
    time::Duration,
};

use tracer_lab::disk::Filesystem;

use super::{
    culprits::{make_due, trim},
    need_stage,
    stage::{Stage, cgroup},
};
use crate::subject::Tracer;

const SECOND: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(4);
const LONG: Duration = Duration::from_secs(30);

/// The tenant's name for its cgroup.
const NAME: &str = "$(reboot)";

/// Each stands for a program that the shell may find: it writes down its name and its
/// arguments, one per line.
const STAND_IN: &str =
    "#!/bin/sh\nfor word in \"${0##*/}\" \"$@\"; do echo \"$word\"; done >> \"$RUN\"\n";

/// The programs, with their arguments, that a shell runs for a line.
fn paste(line: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for name in ["stop", "reboot"] {
        let program = folder.path().join(name);
        fs::write(&program, STAND_IN).unwrap();
        fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
    }
    let run = folder.path().join("run");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", line]).env_clear().env("PATH", folder.path()).env("RUN", &run);
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    fs::read_to_string(run).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_cgroup_that_is_called_like_a_command_is_named_and_not_run() {
    need_stage!();
    let stage = Stage::build(Filesystem::Ext4);
    let tenant = cgroup(NAME);
    let mountpoint = stage.disk.mountpoint();
    let mut why = Tracer::start(&["why", "etcd", "--for", "12s"]);
    why.wait_for(LONG, "watching");
    sleep(QUIET);
    while !why.has_ended() {
        make_due(mountpoint).unwrap();
        trim(mountpoint, &tenant).unwrap();
        sleep(SECOND / 10);
    }
    assert_eq!(why.wait(LONG).code(), Some(0), "{}", why.transcript());

    let said = why.transcript();
    let advice = said.lines().find_map(|line| line.trim_start().strip_prefix("to do "));
    // The sentence goes on after the command, in words and brackets that no shell takes.
    let (command, _) = advice.unwrap_or_else(|| panic!("{said}")).split_once(';').unwrap();
    println!("{command}");
    let run = paste(command);
    // A long path of a cgroup is shown by its last part.
    let is_named = |word: &str| word.starts_with("fstrim (") && word.ends_with("$(reboot))");
    assert!(
        matches!(&run[..], [stop, who, now] if stop == "stop" && is_named(who) && now == "now"),
        "{run:?}: {said}"
    );
    // Without the quotes it would have run.
    let bare = command.replace('\'', "\"");
    assert!(paste(&bare).contains(&"reboot".to_owned()), "{bare}");
}
