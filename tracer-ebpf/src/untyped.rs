//! The programs for a kernel without BTF: a helper reads what its pointers
//! point to, and the tracepoints' programs are loaded as plain raw ones, whose
//! arguments lie in the same places.
//!
//! An object of its own: newer verifiers ask about a helper's calls even where
//! no path leads to them, and lockdown logs the question.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "atomic_xadd is the only atomic add on this target")
)]

/// Whether kernel pointers are mere numbers to the verifier.
#[cfg(target_arch = "bpf")]
const UNTYPED: bool = true;

include!("programs.rs");
