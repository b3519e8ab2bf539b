//! A neighbour fills a filesystem's log: every sync waits for all of it.

use std::thread::sleep;

use tracer_disk_model::Model;
use tracer_lab::disk::Filesystem;

use super::{
    need_stage, play,
    stage::cgroup,
    verdict::{Actor, Truth, watch},
};
use crate::simulated::parts::Part;

/// The neighbour makes no request itself: its changes are in the filesystem's log, which kernel
/// threads write.
fn a_tenant_that_shuffles_files_is_named(filesystem: Filesystem, per_second: u32, least: f64) {
    play(filesystem, |stage| {
        let (tenant, other) = (cgroup("shuffler"), cgroup("bystander"));
        let bystander = Part::Files { folder: stage.disk.mountpoint().join("few"), per_second: 5 };
        let _bystander = bystander.start("bystander", &other).unwrap();
        let files = Part::Files { folder: stage.disk.mountpoint().join("files"), per_second };
        let slower = Model { bytes_per_second: 20_000_000, ..Model::default() };
        stage.disk.become_another(&slower).unwrap();
        let watched = watch(stage, |length| {
            let _files = files.start("shuffler", &tenant).unwrap();
            sleep(length);
        });
        let truth = Truth {
            kinds: &["owners"],
            culprits: &[Actor { comm: "shuffler", cgroup: &tenant }],
            innocent: &[Actor { comm: "bystander", cgroup: &other }],
            slower: 1.2,
        };
        watched.judge(&format!("a tenant of the log of {}", filesystem.name()), &truth);
        let share = truth.culprits[0].share(&watched.verdict);
        assert!(share >= least, "the tenant's share is larger: {:?}", watched.verdict);
    });
}

#[test]
fn a_tenant_that_shuffles_files_is_named_on_xfs() {
    need_stage!();
    a_tenant_that_shuffles_files_is_named(Filesystem::Xfs, 5000, 0.75);
}
