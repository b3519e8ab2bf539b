//! Finds the kind of sync from the system call that a thread is in.

use tracer_ebpf::{dropped::Dropped, record::kind};

use crate::{
    fields::{Kernel, Task, config, syscall_arg0, syscall_number},
    maps::count_drop,
};

/// A system call that syncs.
#[derive(Clone, Copy)]
pub struct Call {
    /// A code of [`kind`].
    pub kind: u32,
    /// The descriptor that it names, or -1.
    pub fd: i32,
}

impl Call {
    /// The one of this number and these registers, if it is one.
    #[inline(always)]
    pub fn of(number: u32, registers: Kernel) -> Option<Self> {
        let kind = if number == config!(nr_fdatasync) {
            kind::FDATASYNC
        } else if number == config!(nr_fsync) {
            kind::FSYNC
        } else if number == config!(nr_msync) {
            kind::MSYNC
        } else if number == config!(nr_sync_file_range) {
            kind::SYNC_FILE_RANGE
        } else if number == config!(nr_syncfs) {
            kind::SYNCFS
        } else if number == config!(nr_sync) {
            kind::SYNC
        } else {
            return None;
        };
        Some(Self::with(kind, registers))
    }

    #[inline(always)]
    pub fn with(kind: u32, registers: Kernel) -> Self {
        let names_file = kind != kind::MSYNC && kind != kind::SYNC;
        Self { kind, fd: if names_file { syscall_arg0(registers) as i32 } else { -1 } }
    }

    /// The call of the running thread, as far as the kernel shows it.
    #[inline(always)]
    pub fn current() -> Option<Self> {
        let registers = Task::current()?.registers()?;
        Self::of(syscall_number(registers) as u32, registers)
    }
}

/// The running thread does what is a step of a sync, and is in none: counted if
/// its system call asked for one. User space hooks all calls then.
#[inline(always)]
pub fn miss() {
    if Call::current().is_some() {
        count_drop(Dropped::CallUnseen);
    }
}
