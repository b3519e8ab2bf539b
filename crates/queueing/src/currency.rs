//! Tenants of a disk that is short of requests, of bytes or of time: each has the part
//! that the victim would be spared without it.

use super::*;

fn disk(channels: usize) -> Model {
    let [read, write, flush] = [500, 1_200, 1_000].map(Duration::from_micros);
    Model { channels, read, write, flush, iops: None, ..well() }
}

/// Short of requests, of bytes, and of servers.
fn disks() -> [(&'static str, Model); 3] {
    [
        ("requests", Model { iops: Some(2_000), ..disk(16) }),
        ("bytes", Model { bytes_per_second: 30_000_000, ..disk(64) }),
        ("servers", disk(4)),
    ]
}

/// A reader and a writer, by their requests in flight and the size of these.
fn tenants() -> impl Iterator<Item = [Stream; 2]> {
    let deep = [[16, 16], [24, 8], [8, 24]];
    let bytes = [[4, 4], [4, 64], [64, 4], [64, 64]].map(|each| each.map(|kib| kib << 10));
    deep.into_iter().flat_map(move |deep| {
        bytes.map(|bytes| {
            [
                Stream { bytes: bytes[0], ..reads(deep[0], None) },
                Stream { bytes: bytes[1], ..writes(deep[1], None) },
            ]
        })
    })
}

/// The parts of two tenants in the victim's excess: the mean of what each adds if it
/// comes first and if it comes last.
fn parts_of_two(disk: Model, tenants: [Stream; 2]) -> [f64; 2] {
    let mean = |neighbours: [Option<Stream>; 2]| {
        let syncs_ns = Timeline::new(SEEDS[0]).play(Phase { neighbours, ..phase(20, disk, &[]) });
        syncs_ns.iter().sum::<u64>() as f64 / syncs_ns.len() as f64
    };
    let [first, second] = tenants.map(Some);
    let (none, both) = (mean([None, None]), mean([first, second]));
    let [alone, other] = [mean([first, None]), mean([None, second])];
    let part = (alone - none + both - other) / 2.0 / (both - none);
    [part, 1.0 - part]
}

/// Plays a minute of `before` and a minute of the tenants, and holds the last half of it
/// against the truth: it takes some seconds to see what a disk is short of.
#[track_caller]
fn check_tenants(disk: (&str, Model), before: impl Fn([Stream; 2]) -> Vec<Stream>) {
    let (name, disk) = disk;
    let mut wrong = Vec::new();
    for tenants in tenants() {
        let truth = parts_of_two(disk, tenants);
        for seed in SEEDS {
            let mut world = World::new(seed);
            world.play(phase(60, disk, &before(tenants)));
            let judged = world.play(phase(60, disk, &tenants));
            let said = judged.last().unwrap();
            if !is_right(said, Truth::Owners(&truth, false)) {
                let each = tenants.map(|tenant| (tenant.deep, tenant.bytes >> 10));
                wrong.push(format!(
                    "{name} {each:?}: {truth:.2?}; {:?} {}",
                    said.kind,
                    shares(said)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn tenants_share_in_what_the_disk_is_short_of() {
    for disk in disks() {
        check_tenants(disk, |tenants| {
            tenants.map(|tenant| Stream { deep: 1, per_second: Some(10), ..tenant }).into()
        });
    }
}

/// The costs of their requests are guesses, so that nothing follows from work.
#[test]
fn so_do_tenants_whose_requests_were_never_alone() {
    let [requests, bytes, _] = disks();
    for disk in [requests, bytes] {
        check_tenants(disk, |_| Vec::new());
    }
}
