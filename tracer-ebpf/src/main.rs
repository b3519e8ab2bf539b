//! The kernel programs.
//!
//! [`hooks`] are the programs: on top, a folder for each capability. Below them
//! lies what they share: [`requests`] counts block requests and never sends one
//! to user space, [`syncs`] makes one record of each sync, [`journals`] and
//! [`contenders`] are what a sync waits for, and [`runs`] who had its CPU meanwhile. [`accounts`] are what a request is
//! charged to, [`submitter`] is who runs, and [`dirtier`] for whom a kernel thread
//! works; [`freed`] who freed what one discards, [`frozen`] who froze a filesystem, and [`whole`] who has
//! all of one written;
//! [`bios`] stand for requests where a disk has none; [`work`] learns what requests cost. Only [`fields`] follows kernel pointers. [`floor`] does nothing,
//! for the bench.
//!
//! All loads are BTF-typed and direct: no `bpf_probe_read_kernel`, so that the
//! programs load under lockdown=confidentiality, and without a word in its log.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "atomic_xadd is the only atomic add on this target")
)]

/// Whether kernel pointers are mere numbers to the verifier.
#[cfg(target_arch = "bpf")]
const UNTYPED: bool = false;

include!("programs.rs");
