//! The kernel programs.
//!
//! [`block`] counts requests and never tells user space about one; [`sync`]
//! narrates each sync with one record; [`journal`] times commits; [`owner`]
//! says whom a request is charged to. Only [`fields`] follows kernel pointers.
//! [`floor`] does nothing, for the bench.
//!
//! All loads are BTF-typed and direct: no `bpf_probe_read_kernel`, so that the
//! programs load under lockdown=confidentiality. Only for a kernel without BTF
//! user space turns them all into calls of it, and the tracepoints' programs
//! into plain raw ones, whose arguments lie in the same places.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "atomic_xadd is the only atomic add on this target")
)]

#[cfg(target_arch = "bpf")]
mod block;
#[cfg(target_arch = "bpf")]
mod clock;
#[cfg(target_arch = "bpf")]
mod fields;
#[cfg(target_arch = "bpf")]
mod floor;
#[cfg(target_arch = "bpf")]
mod journal;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod owner;
#[cfg(target_arch = "bpf")]
mod sync;

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// An endless loop: a program that can panic cannot be loaded.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// On the host this target is empty, so that the workspace builds as a whole.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
