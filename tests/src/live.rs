//! Tests that trace this machine's kernel, as root.
//!
//! Each causes a known delay and asserts bounds and counts. What a machine
//! lacks is said with `skip!`; one that has all must not skip
//! (`TRACER_NO_SKIP_LIVE=1`).

use std::{path::Path, time::Duration};

use crate::{
    skip::skip,
    subject::{Tracer, is_root},
};

#[test]
fn root_and_btf_are_enough_to_run() {
    if !is_root() {
        skip!("not root");
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        skip!("this kernel has no BTF");
    }
    let mut doctor = Tracer::start(&["doctor"]);
    let status = doctor.wait(Duration::from_secs(30));
    assert_ne!(status.code(), Some(3), "{}", doctor.transcript());
}
