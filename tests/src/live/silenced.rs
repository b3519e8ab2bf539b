//! A hook that worked at the start is detached while the tracer runs, as a live patch may do.
//!
//! The hook's link is a descriptor of this process; the test replaces it by another file.

use std::{
    fs,
    os::fd::{AsRawFd as _, RawFd},
    thread::sleep,
    time::{Duration, Instant},
};

use tracer::{
    output::text::write_snapshot,
    session::{Options, Session},
};
use tracer_kernel::program::Program;

use super::{need_live, program::loaded, traced_with};

/// A minute, and the time of the second round that confirms it.
const SAID: Duration = Duration::from_secs(70);

/// The descriptors of links to these programs.
fn links(programs: &[Program]) -> Vec<RawFd> {
    let ids: Vec<_> = programs.iter().flat_map(|program| loaded(*program)).collect();
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let numbers = descriptors.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_link = |fd: &RawFd| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let id = info.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
        // A program's own descriptor has its id too.
        info.contains("link_id:") && id.is_some_and(|id: u32| ids.contains(&id))
    };
    numbers.filter(is_link).collect()
}

/// The first line of the text, once it says that hooks are silent.
fn first_line_when_silent(session: &mut Session) -> String {
    let until = Instant::now() + SAID;
    loop {
        sleep(Duration::from_millis(100));
        session.poll(None, &mut Vec::new());
        if session.unproven().is_some_and(|why| why.contains("silent")) {
            let mut text = Vec::new();
            write_snapshot(&mut text, &session.snapshot()).unwrap();
            return String::from_utf8(text).unwrap().lines().next().unwrap().to_owned();
        }
        assert!(Instant::now() < until, "nothing is said: {:?}", session.unproven());
    }
}

#[test]
fn hooks_of_syncs_that_fall_silent_are_said_within_a_minute() {
    need_live!();
    // So that all calls are hooked, whatever is mounted.
    let forced = vec!["sync=tracepoint".parse().unwrap()];
    traced_with(&Options { forced, ..Options::default() }, |session| {
        assert_eq!(session.unproven(), None);
        let links = links(&[Program::SysEnter, Program::SysExit, Program::Ext4SyncFileExit]);
        assert!(links.len() >= 2, "{links:?}");
        let nothing = fs::File::open("/dev/null").unwrap();
        for link in links {
            // SAFETY: both are open, and the owner of the second may close it as before.
            assert_eq!(unsafe { libc::dup2(nothing.as_raw_fd(), link) }, link);
        }
        let begin = Instant::now();
        let line = first_line_when_silent(session);
        println!("after {:?}: {line}", begin.elapsed());
        assert!(
            line.starts_with("unproven: the hooks of `sync` are silent: of its own 2"),
            "{line}"
        );
        let snapshot = session.snapshot();
        assert_eq!(snapshot.metrics["tracer_unproven{why=\"hook_silent\"}"], 1.0);
    });
}
