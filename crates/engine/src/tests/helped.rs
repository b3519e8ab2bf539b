//! Helpers' sums, and the parts of the time for which they were held up. The numbers are
//! worked out beside each test from the constants of `helper`.

use super::{
    demands::assert_near,
    seconds::{SECOND, victim},
    *,
};
use crate::{
    helper::{Held, Helper, Role},
    sums::Half,
};

/// A worker of the victim's disk during one second: it waited `cpu_ms` for a CPU,
/// `limit_ms` of that because its quota was used up.
fn worker(cpu_ms: u64, limit_ms: u64) -> Helper {
    Helper {
        role: Role::Worker,
        disk: Some(3),
        device: 0,
        tgid: 812,
        comm: "loop0".to_owned(),
        cgroup: "/".to_owned(),
        cpu_ns: cpu_ms * MS,
        limit_ns: limit_ms * MS,
        setting: String::new(),
        disk_ns: 0,
        own_disk: String::new(),
        of_ns: 1_000 * MS,
    }
}

fn on_disk() -> Victim {
    let mut victim = victim(0);
    victim.disk = 3;
    victim
}

fn held(victim: &Victim, span: Span) -> Vec<Held> {
    victim.held(&Half::default(), span)
}

/// The one helper of a victim after these seconds.
fn after(seconds: &[Helper]) -> Held {
    let mut victim = on_disk();
    seconds.iter().for_each(|second| victim.help(second, 0, 0));
    let mut held = held(&victim, Span::Window);
    assert_eq!(held.len(), 1);
    held.remove(0)
}

/// 300 of 2000 ms, a sixth of them for its quota; 500 with requests of its own.
#[test]
fn seconds_of_a_helper_add_up() {
    let disk = |ms, helper: Helper| Helper { disk_ns: ms * MS, ..helper };
    let one = after(&[disk(400, worker(100, 30)), disk(100, worker(200, 20))]);
    assert_near(one.up(), 0.15);
    assert_near(one.limit, 0.025);
    assert_near(one.cpu, 0.125);
    assert_near(one.disk, 0.25);
    assert_eq!((one.tgid, one.role, &*one.comm), (812, Role::Worker, "loop0"));
    // Syncs of several threads overlap.
    let all = after(&[disk(9_000, worker(9_000, 0))]);
    assert_eq!((all.up(), all.disk), (1.0, 1.0));
}

/// Half of its waits.
#[test]
fn a_quota_that_holds_for_half_of_the_waits_has_all_of_them() {
    let parts = |limit_ms| {
        let one = after(&[worker(300, limit_ms)]);
        (one.cpu, one.limit)
    };
    assert_eq!(parts(150), (0.0, 0.3));
    assert_near(parts(149).1, 0.149);
    assert_eq!(parts(900), (0.0, 0.3), "it is a part of the waits");
    assert_eq!(after(&[worker(0, 0)]).up(), 0.0);
}

/// A tenth of the time, and a third for a server.
#[test]
fn a_helper_is_the_cause_from_its_part_of_the_time_on() {
    assert!(after(&[worker(100, 0)]).is_cause && !after(&[worker(99, 0)]).is_cause);
    let server = |ms| after(&[Helper { role: Role::Server, ..worker(ms, 0) }]).is_cause;
    assert!(server(334) && !server(333));
}

#[test]
fn helpers_are_of_a_disk_or_of_a_filesystem() {
    let is_its = |role, disk, device| {
        let mut victim = on_disk();
        victim.help(&Helper { role, disk, device, ..worker(100, 0) }, 0, 0);
        !held(&victim, Span::Window).is_empty()
    };
    assert!(is_its(Role::Worker, Some(3), 9) && !is_its(Role::Worker, Some(4), 0));
    assert!(is_its(Role::Server, None, 0) && !is_its(Role::Server, None, 9));
    assert!(is_its(Role::Journal, Some(4), 0) && !is_its(Role::Journal, Some(3), 9));
}

/// A disk without requests: the time of the syncs, and no more than all the time.
#[test]
fn without_a_time_of_its_own_a_helper_is_a_part_of_the_syncs() {
    let part = |ticks, duration_ns| {
        let mut victim = on_disk();
        victim.help(&Helper { of_ns: 0, ..worker(500, 0) }, 0, 0);
        let mut sum = Half::default();
        (sum.ticks, sum.duration_ns) = (ticks, duration_ns);
        victim.held(&sum, Span::Window).first().map(Held::up)
    };
    assert_eq!((part(2, SECOND), part(2, 9 * SECOND)), (Some(0.5), Some(0.25)));
    assert_eq!((part(0, SECOND), part(2, 0)), (None, None));
}

/// A tenth of the time for a CPU in the last second, or of what the victim waited for.
#[test]
fn only_a_helper_that_waits_for_a_cpu_is_held_up() {
    let is = |helper: Helper, waited_ms: u64| {
        let mut victim = on_disk();
        victim.help(&helper, waited_ms * MS, u32::from(waited_ms > 0));
        assert!(!victim.is_held_up_by(813));
        victim.is_held_up_by(812)
    };
    assert!(is(worker(100, 0), 0) && !is(worker(99, 0), 0));
    let of_syncs = |ms| Helper { of_ns: 0, ..worker(ms, 0) };
    assert!(is(of_syncs(30), 300) && !is(of_syncs(29), 300) && !is(of_syncs(30), 0));
    // A quarter of the waits is its quota's.
    assert!(is(worker(134, 33), 0) && !is(worker(134, 35), 0));
    assert!(!is(worker(900, 450), 0));
}

/// The worker is held up for a tenth of the time, so of a sync that waits 200 µs it is 20.
#[test]
fn a_helper_holds_nobody_up_for_some_microseconds_of_each_sync() {
    let is_held_up = |helper: &Helper, waited_ms, syncs| {
        let mut victim = on_disk();
        victim.help(helper, waited_ms * MS, syncs);
        victim.is_held_up_by(812)
    };
    let worker = worker(100, 0);
    assert!(is_held_up(&worker, 300, 1_500) && !is_held_up(&worker, 300, 1_501));
    let of_syncs = Helper { of_ns: 0, ..worker };
    assert!(is_held_up(&of_syncs, 300, 5_000) && !is_held_up(&of_syncs, 300, 5_001));
}

/// 100 ms in one half of the window and 200 in the other, of which a quota took 30: 13.5 % of
/// 2 s, and 9 % of 3 s.
#[test]
fn what_held_a_victim_up_is_added_up_over_the_window() {
    let mut victim = on_disk();
    assert_near(victim.held_up_ns(), 0.0);
    victim.help(&worker(100, 30), 0, 0);
    assert_near(victim.held_up_ns(), 0.0);
    victim.rotate();
    victim.help(&worker(200, 0), 0, 0);
    assert_near(victim.held_up_ns() / MS as f64, 270.0);
    // It waits for no CPU any more.
    victim.help(&worker(0, 0), 0, 0);
    assert_near(victim.held_up_ns(), 0.0);
}

/// In its last second each sync waits 150 µs for the worker. Over the window 550 ms of 2 s are
/// 27.5 % of what 9,000 syncs waited for: 30 µs of each sync if that is 1 s, and 15 if it is 0.5.
#[test]
fn a_single_second_holds_nobody_up_for_the_window() {
    let held_up_ms = |waited_ms: u64| {
        let mut victim = on_disk();
        victim.help(&worker(50, 0), 0, 8_000);
        (victim.now.syncs, victim.now.phases.ns[Phase::Device]) = (8_000, waited_ms / 2 * MS);
        victim.rotate();
        victim.help(&worker(500, 0), 300 * MS, 1_000);
        (victim.now.syncs, victim.now.phases.ns[Phase::Runqueue]) = (1_000, waited_ms / 2 * MS);
        assert!(victim.is_held_up_by(812));
        victim.held_up_ns() / MS as f64
    };
    assert_near(held_up_ms(1_000), 550.0);
    assert_near(held_up_ms(500), 0.0);
}

#[test]
fn helpers_move_on_with_the_window_and_the_period() {
    let mut victim = on_disk();
    victim.help(&worker(100, 0), 0, 0);
    victim.rotate();
    victim.help(&worker(200, 0), 0, 0);
    victim.rotate();
    victim.help(&worker(600, 0), 0, 0);
    let up = |victim: &Victim, span| held(victim, span).first().map(Held::up);
    assert_near(up(&victim, Span::Window).unwrap(), 0.4);
    assert_near(up(&victim, Span::Period).unwrap(), 0.3);
    (0..3).for_each(|_| victim.rotate());
    assert_eq!(up(&victim, Span::Window), None);
    assert_near(up(&victim, Span::Period).unwrap(), 0.3);
    victim.begin_period();
    assert_eq!((up(&victim, Span::Window), up(&victim, Span::Period)), (None, None));
    // Only sums of a disk without requests.
    let mut victim = on_disk();
    victim.help(&Helper { of_ns: 0, ..worker(500, 0) }, 0, 0);
    (0..3).for_each(|_| victim.rotate());
    let mut sum = Half::default();
    (sum.ticks, sum.duration_ns) = (1, SECOND);
    assert_eq!(victim.held(&sum, Span::Period).len(), 1);
    victim.begin_period();
    victim.rotate();
    assert!(victim.held(&sum, Span::Period).is_empty());
}

#[test]
fn helpers_differ_by_role_process_and_name() {
    let mut victim = on_disk();
    let same = worker(100, 0);
    for helper in [
        same.clone(),
        Helper { role: Role::Server, ..worker(300, 0) },
        Helper { tgid: 813, ..worker(400, 0) },
        Helper { comm: "loop1".to_owned(), ..worker(200, 0) },
        same,
    ] {
        victim.help(&helper, 0, 0);
    }
    let held = held(&victim, Span::Window);
    // Those most held up come first.
    let up: Vec<_> = held.iter().map(|one| (one.up() * 1e3).round()).collect();
    assert_eq!(up, [400.0, 300.0, 200.0, 100.0]);
}

/// Eight are remembered.
#[test]
fn the_helper_that_was_held_up_least_makes_room_and_a_server_last() {
    let mut victim = on_disk();
    let of = |tgid: u32, ms, role| Helper { tgid, role, ..worker(ms, 0) };
    victim.help(&of(1, 1, Role::Server), 0, 0);
    victim.help(&of(2, 50, Role::Worker), 0, 0);
    victim.rotate();
    (3..8).for_each(|tgid| victim.help(&of(tgid, 100, Role::Worker), 0, 0));
    victim.help(&of(8, 40, Role::Worker), 0, 0);
    victim.rotate();
    let known = |victim: &Victim| {
        let mut known: Vec<_> = held(victim, Span::Period).iter().map(|one| one.tgid).collect();
        known.sort_unstable();
        known
    };
    assert_eq!(known(&victim), [1, 2, 3, 4, 5, 6, 7, 8]);
    victim.help(&of(9, 70, Role::Worker), 0, 0);
    assert_eq!(known(&victim), [1, 2, 3, 4, 5, 6, 7, 9]);
    victim.help(&of(10, 90, Role::Worker), 0, 0);
    assert_eq!(known(&victim), [1, 3, 4, 5, 6, 7, 9, 10]);
}

#[test]
fn the_last_setting_and_disk_that_are_known_are_named() {
    let named = |setting: &str, own_disk: &str| Helper {
        setting: setting.to_owned(),
        own_disk: own_disk.to_owned(),
        ..worker(100, 0)
    };
    let one = after(&[named("cpu.max 1", "sda"), named("cpu.max 2", "sdb"), named("", "")]);
    assert_eq!((&*one.setting, &*one.own_disk), ("cpu.max 2", "sdb"));
}
