//! The system call `bpf`, for the commands that aya does not hand out.
//!
//! Knows no map and no program of ours; descriptors are owned.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use aya_obj::generated::{bpf_attr, bpf_cmd};

/// Attributes of a command, none of which is set.
pub fn no_attr() -> bpf_attr {
    // SAFETY: a union of structs of integers, for which zeros are valid.
    unsafe { mem::zeroed() }
}

/// Fills the only value of an array whose values are as long as `value`.
pub fn fill(map: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    let key = 0u32;
    let mut attr = no_attr();
    // SAFETY: of this union's members, all of plain integers, this is the one
    // that BPF_MAP_UPDATE_ELEM reads.
    let update = unsafe { &mut attr.__bindgen_anon_2 };
    update.map_fd = map.as_raw_fd() as u32;
    update.key = (&raw const key) as u64;
    update.__bindgen_anon_1.value = value.as_ptr() as u64;
    run(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// From here on user space cannot write to a map, and the verifier takes what
/// is in it for constants.
pub fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = no_attr();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    run(bpf_cmd::BPF_MAP_FREEZE, &mut attr).map(drop)
}

/// One of the commands that return a new descriptor.
pub fn new_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = run(command, attr)?;
    // SAFETY: the callers' commands return a descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The error that a command of which there is none meets: `EINVAL` from the kernel
/// itself, and another from what stands before it.
pub fn ask_nothing() -> Option<i32> {
    const NO_COMMAND: u32 = 0x7fff_ffff;
    run_numbered(NO_COMMAND, &mut no_attr()).err()?.raw_os_error()
}

/// Any command; what the attributes point to must outlive the call.
pub fn run(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<RawFd> {
    run_numbered(command as u32, attr)
}

fn run_numbered(command: u32, attr: &mut bpf_attr) -> io::Result<RawFd> {
    loop {
        // SAFETY: the attributes outlive the call, and so does what the callers
        // let them point to.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                libc::c_long::from(command),
                &raw mut *attr,
                size_of::<bpf_attr>(),
            )
        };
        if result >= 0 {
            return Ok(result as RawFd);
        }
        let error = io::Error::last_os_error();
        // The verifier gives way to signals.
        if error.raw_os_error() != Some(libc::EAGAIN) {
            return Err(error);
        }
    }
}
