//! The kernel programs.
//!
//! [`block`] counts requests and never tells user space about one; [`sync`]
//! narrates each sync with one record; [`journal`] times commits, [`throttle`]
//! waits for a request, [`reclaim`] hunts for memory, and [`rivals`] who ran
//! instead; [`owner`] says whom a request is charged to, and [`dirtier`] for whom
//! a kernel thread works; [`metadata`] counts what each puts into a journal;
//! [`work`] learns what requests cost. Only [`fields`] follows kernel pointers.
//! [`floor`] does nothing, for the bench.
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
