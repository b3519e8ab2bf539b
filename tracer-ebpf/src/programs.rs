// The modules of both objects: see `main.rs` and `untyped.rs`.

/// Declares modules of the kernel programs, which exist only for BPF.
macro_rules! modules {
    ($($name:ident)*) => {
        $(#[cfg(target_arch = "bpf")] mod $name;)*
    };
}

modules! {
    accounts
    bios
    cell
    clock
    contenders
    dirtier
    fields
    filled
    floor
    freed
    frozen
    hooks
    journals
    maps
    pids
    requests
    runs
    slots
    submitter
    syncs
    whole
    work
}

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
