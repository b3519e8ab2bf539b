use super::*;
use crate::output::fixture;

fn limits(disks: usize) -> DiskLimits {
    let (include, exclude) = (Pattern::default(), Pattern::usually_excluded());
    DiskLimits { disks, include, exclude }
}

/// A disk with `count` writes of 4 KiB since the start, all in the first bucket.
fn disk(name: &str, count: u64) -> Disk {
    let spread = Spread { count, cumulative: vec![count; 11], seconds: count as f64 };
    let write = Latency {
        op: Op::Write,
        count,
        queue_p50_seconds: 0.0,
        queue_p99_seconds: 0.0,
        device_p50_seconds: 0.0,
        device_p99_seconds: 0.0,
        bytes_total: count * 4096,
        queue: spread.clone(),
        device: spread,
    };
    let latencies = if count > 0 { vec![write] } else { Vec::new() };
    Disk { name: name.into(), in_flight: 1, latencies, ..fixture::trimmed().disks[0].clone() }
}

fn around(needed: &[&str], gone: &[&str]) -> AroundDisks {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    AroundDisks { needed: names(needed), gone: names(gone) }
}

/// Each disk's writes, and those of all others.
fn counts(series: &DiskSeries) -> (Vec<(&str, u64)>, Option<u64>) {
    let count = |row: &DiskRow| row.requests.values().map(|r| r.count).sum::<u64>();
    (series.rows().map(|(name, row)| (name, count(row))).collect(), series.crowd().map(count))
}

#[test]
fn where_all_fit_each_has_its_own_even_an_idle_one() {
    let mut series = DiskSeries::new(limits(3));
    series.update(
        10.0,
        &[disk("sda", 5), disk("sdb", 0), disk("loop0", 7)],
        &AroundDisks::default(),
    );
    assert_eq!(counts(&series), (vec![("sda", 5), ("sdb", 0)], None));
    assert_eq!(series.disks(), [("own", 2), ("other", 0), ("none", 1)]);
}

#[test]
fn the_busiest_have_series_and_the_others_are_summed_up() {
    let mut series = DiskSeries::new(limits(2));
    let disks: Vec<_> = (0..256).map(|n| disk(&format!("sd{n}"), n)).collect();
    series.update(10.0, &disks, &AroundDisks::default());
    let others = (0..254).sum();
    assert_eq!(counts(&series), (vec![("sd254", 254), ("sd255", 255)], Some(others)));
    assert_eq!(series.disks(), [("own", 2), ("other", 254), ("none", 0)]);
    assert_eq!(series.crowd().map(|row| row.in_flight), Some(254));

    // Those that have them keep them, though others do more now.
    let disks: Vec<_> = (0..256).map(|n| disk(&format!("sd{n}"), n + 1000 - n)).collect();
    series.update(20.0, &disks, &AroundDisks::default());
    let (own, other) = counts(&series);
    assert_eq!(own, [("sd254", 1000), ("sd255", 1000)]);
    assert_eq!(other, Some(254 * 1000), "nothing is lost, nothing is counted twice");
    assert_eq!(series.crowd().map(|row| row.in_flight), Some(254));
}

#[test]
fn an_idle_one_gives_its_place_to_a_busy_one_after_a_while() {
    let mut series = DiskSeries::new(limits(1));
    series.update(10.0, &[disk("sda", 5), disk("sdb", 1)], &AroundDisks::default());
    series.update(500.0, &[disk("sda", 5), disk("sdb", 3)], &AroundDisks::default());
    assert_eq!(counts(&series), (vec![("sda", 5)], Some(3)));
    series.update(620.0, &[disk("sda", 5), disk("sdb", 9)], &AroundDisks::default());
    // A counter of its own begins with what it did from then on.
    assert_eq!(counts(&series), (vec![("sdb", 6)], Some(3)));
}

#[test]
fn a_disk_that_a_victim_waits_for_is_never_left_out() {
    let mut series = DiskSeries::new(limits(2));
    let disks = |loop0| [disk("sda", 9), disk("sdb", 8), disk("loop0", loop0), disk("loop1", 7)];
    series.update(10.0, &disks(1), &AroundDisks::default());
    assert_eq!(counts(&series).0, [("sda", 9), ("sdb", 8)]);
    series.update(20.0, &disks(4), &around(&["loop0"], &[]));
    assert_eq!(counts(&series).0, [("loop0", 3), ("sdb", 8)]);
    // Not in the next moment either: a counter that comes and goes has no rate.
    series.update(30.0, &disks(5), &AroundDisks::default());
    assert_eq!(counts(&series).0, [("loop0", 4), ("sdb", 8)]);
    series.update(30.0 + IDLE_SECONDS, &disks(6), &AroundDisks::default());
    series.update(40.0 + IDLE_SECONDS, &disks(6), &AroundDisks::default());
    let (own, _) = counts(&series);
    assert!(own.iter().all(|(name, _)| *name != "loop0"), "{own:?}");
}

#[test]
fn a_disk_that_is_gone_has_no_series_and_a_new_one_of_its_name_begins_anew() {
    let mut series = DiskSeries::new(limits(4));
    series.update(10.0, &[disk("sda", 5), disk("sdb", 1)], &AroundDisks::default());
    // Its last requests are in the sum.
    series.update(20.0, &[disk("sda", 8), disk("sdb", 1)], &around(&[], &["sda"]));
    assert_eq!(counts(&series).0, [("sda", 8), ("sdb", 1)]);
    series.update(30.0, &[disk("sda", 8), disk("sdb", 1)], &around(&[], &["sda"]));
    assert_eq!(counts(&series).0, [("sdb", 1)]);
    series.update(40.0, &[disk("sda", 10), disk("sdb", 1)], &AroundDisks::default());
    assert_eq!(counts(&series).0, [("sda", 2), ("sdb", 1)]);
    // Another disk has its place: the kernel's sums begin at nothing.
    series.update(50.0, &[disk("sdc", 1)], &AroundDisks::default());
    assert_eq!(counts(&series).0, [("sdc", 1)]);
}

#[test]
fn a_sum_that_falls_has_begun_anew() {
    let mut series = DiskSeries::new(limits(4));
    series.update(10.0, &[disk("sda", 50)], &AroundDisks::default());
    series.update(20.0, &[disk("sda", 2)], &AroundDisks::default());
    assert_eq!(counts(&series).0, [("sda", 52)]);
}

#[test]
fn fewer_series_take_those_of_the_idlest() {
    let mut series = DiskSeries::new(limits(4));
    series.update(10.0, &[disk("sda", 5), disk("sdb", 9), disk("sdc", 7)], &AroundDisks::default());
    series.set_limits(limits(2));
    assert_eq!(counts(&series).0, [("sdb", 9), ("sdc", 7)]);
    series.set_limits(DiskLimits { exclude: "sdb".parse().unwrap(), ..limits(2) });
    assert_eq!(counts(&series).0, [("sdc", 7)]);
}

#[test]
fn patterns_are_those_of_other_exporters() {
    let excluded = Pattern::usually_excluded();
    for name in ["loop0", "ram15", "zram0", "nbd7", "sr0", "fd0"] {
        assert!(excluded.matches(name), "{name}");
    }
    for name in ["sda", "nvme0n1", "nvme0c0n1", "dm-0", "md0", "vda", "rbd0", "bcache0", "xloop1"] {
        assert!(!excluded.matches(name), "{name}");
    }
    let only: Pattern = "^nvme".parse().unwrap();
    let limits = DiskLimits { include: only, exclude: "c[0-9]".parse().unwrap(), ..limits(1) };
    assert!(limits.wants("nvme0n1") && !limits.wants("nvme0c0n1") && !limits.wants("sda"));
    let none = DiskLimits { exclude: "".parse().unwrap(), include: "".parse().unwrap(), ..limits };
    assert!(none.wants("loop0"));
    assert!("(".parse::<Pattern>().unwrap_err().contains("`(` is no regular expression"));
}
