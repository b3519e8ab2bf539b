//! Syncs that have not ended, in one sentence each.

use std::io;

use super::{
    escape::bounded,
    names, stack,
    units::{duration, percent, utc},
};
use tracer_snapshot::{Hanging, HangingDisk, Kind, Snapshot};

/// Longer lists are cut.
const SHOWN: usize = 5;

/// At most this number of facts about a stack is in one sentence.
const STACK: usize = 3;

/// A disk whose last completion is more recent than this still completes requests.
const JUST_NOW_SECONDS: f64 = 1.0;

/// `etcd (etcd.service) has been in fdatasync of wal /var/lib/etcd/…/0.wal on vda1 for
/// 47.0 s; sdb has 3 requests in flight, the oldest 47.0 s, and has completed nothing
/// for 47.0 s: nobody on this node, the device or what is below it`.
pub fn sentence(hanging: &Hanging) -> String {
    let who = names::actor(&hanging.actor);
    let file = names::file(hanging.class, &hanging.path, &hanging.device);
    let (call, waited) = (bounded(&hanging.call, 32), duration(hanging.seconds));
    let mut sentence =
        format!("{who} has been in {call} of {file} for {waited}; {}", cause(hanging));
    for fact in hanging.stack.iter().take(STACK) {
        sentence += &format!("; {}", stack::sentence(fact));
    }
    sentence
}

fn cause(hanging: &Hanging) -> String {
    let Some(disk) = &hanging.disk else {
        return "no disk of this node is known to hold its file (FUSE, or a file server)"
            .to_owned();
    };
    if disk.in_flight == 0 && hanging.disks_below.is_empty() {
        let name = bounded(&disk.name, 32);
        return format!("{name} has nothing in flight: it waits for something above the disk");
    }
    let mut cause = state(disk);
    if let Some(below) = hanging.disks_below.first() {
        cause += &format!("; below it {}", state(below));
    }
    match (hanging.kind, hanging.others.first()) {
        (Kind::Device, _) => cause += ": nobody on this node, the device or what is below it",
        (Kind::Owners, Some(most)) => {
            let (who, share) = (names::actor(&most.actor), percent(most.share));
            cause += &format!("; most of the others' work is {who} {}: {share}", most.op.name());
        }
        _ => {}
    }
    cause
}

/// `sdb has 3 requests in flight, the oldest 47.0 s, and has completed nothing for 47.0 s`.
fn state(disk: &HangingDisk) -> String {
    let name = bounded(&disk.name, 32);
    if disk.in_flight == 0 {
        return format!("{name} has nothing in flight");
    }
    let requests = if disk.in_flight == 1 { "request" } else { "requests" };
    let mut state = format!("{name} has {} {requests} in flight", disk.in_flight);
    if let Some(oldest) = disk.oldest_seconds {
        state += &format!(", the oldest {}", duration(oldest));
    }
    state += &match disk.completed_seconds_ago {
        None => ", and has completed nothing yet".to_owned(),
        Some(ago) if ago < JUST_NOW_SECONDS => ", and completes other requests".to_owned(),
        Some(ago) => format!(", and has completed nothing for {}", duration(ago)),
    };
    state
}

/// A line for each, the oldest first; of more than a few, how many more.
pub fn lines(s: &Snapshot) -> Vec<String> {
    let mut lines: Vec<_> =
        s.hanging.iter().take(SHOWN).map(|one| format!("HANGS: {}", sentence(one))).collect();
    let more = s.hanging.len().saturating_sub(SHOWN) + s.hanging_left_out;
    if more > 0 {
        lines.push(format!("HANGS: {more} more syncs have been under way for a second or longer"));
    }
    lines
}

/// One of them in a line of `tracer watch`.
pub fn write_one(out: &mut impl io::Write, one: &Hanging) -> io::Result<()> {
    writeln!(out, "{}  HANGS: {}", utc(one.at), sentence(one))
}

/// Writes [`lines`].
pub fn write(out: &mut impl io::Write, s: &Snapshot) -> io::Result<()> {
    lines(s).iter().try_for_each(|line| writeln!(out, "{line}"))
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    #[test]
    fn a_disk_that_completes_nothing_in_one_sentence() {
        let sentence = sentence(&fixture::hanging());
        assert!(
            sentence.starts_with("etcd (etcd.service) has been in fdatasync of wal "),
            "{sentence}"
        );
        let end = " on vda1 for 47.0 s; vda has 3 requests in flight, the oldest 46.9 s, and has \
                   completed nothing for 47.2 s: nobody on this node, the device or what is below it";
        assert!(sentence.ends_with(end), "{sentence}");
    }

    #[test]
    fn a_disk_that_works_names_those_who_get_through() {
        let mut hanging = fixture::hanging();
        hanging.kind = Kind::Owners;
        hanging.disk.as_mut().unwrap().completed_seconds_ago = Some(0.01);
        let wanted = "vda has 3 requests in flight, the oldest 46.9 s, and completes other requests; most \
                      of the others' work is fstrim (fstrim.service) discard: 90%";
        assert_eq!(cause(&hanging), wanted);
    }

    #[test]
    fn a_member_of_a_stack_that_completes_nothing_is_named() {
        let mut hanging = fixture::hanging();
        let member = HangingDisk { name: "sdc".into(), ..hanging.disk.clone().unwrap() };
        hanging.disks_below = vec![member];
        let wanted = "; below it sdc has 3 requests in flight, the oldest 46.9 s, and has completed \
                      nothing for 47.2 s: nobody on this node, the device or what is below it";
        assert!(cause(&hanging).ends_with(wanted), "{}", cause(&hanging));
        hanging.disk.as_mut().unwrap().in_flight = 0;
        assert!(cause(&hanging).starts_with("vda has nothing in flight; below it sdc has 3 "));
    }

    #[test]
    fn a_stack_that_is_not_well_says_so_at_the_end() {
        let mut hanging = fixture::hanging();
        hanging.stack = vec![fixture::out_of_space()];
        let sentence = sentence(&hanging);
        let end = "below it; the pool vg-pool-tpool is out of data space: 100% of its data and 12% \
                   of its metadata space are used";
        assert!(sentence.ends_with(end), "{sentence}");
    }

    #[test]
    fn without_requests_or_a_disk_it_says_so() {
        let mut hanging = fixture::hanging();
        hanging.disk.as_mut().unwrap().in_flight = 0;
        let wanted = "vda has nothing in flight: it waits for something above the disk";
        assert_eq!(cause(&hanging), wanted);
        hanging.disk = None;
        let wanted = "no disk of this node is known to hold its file (FUSE, or a file server)";
        assert_eq!(cause(&hanging), wanted);
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let mut s = fixture::trimmed();
        assert!(lines(&s).is_empty());
        s.hanging = vec![fixture::hanging(); SHOWN + 2];
        s.hanging_left_out = 30;
        let lines = lines(&s);
        assert_eq!(lines.len(), SHOWN + 1);
        assert!(lines[SHOWN].contains(" 32 more "), "{}", lines[SHOWN]);
    }
}
