//! Follows kernel pointers: the one place that reads fields of kernel structs.
//!
//! Offsets come from [`CONFIG`], which user space fills from the running
//! kernel's BTF before the load. The verifier knows them as constants, checks
//! each access against the kernel's types, and makes it a direct load that
//! cannot fault. On a kernel without BTF it knows no types, and a helper reads,
//! which lockdown forbids.

mod block;
mod file;
mod operation;
mod task;

use core::ptr::read_volatile;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use tracer_ebpf::config::Config;

pub use self::{
    block::{Bio, Request, bio_cgroup},
    file::{
        FileKey, Flushing, Freezing, SyncedFile, file_key, flushing, freezing, inode_super,
        is_limit_of_cgroup, journal_device, super_device, synced_from_file, synced_from_inode,
        synced_from_mapping, synced_from_sb, ticket_used, written_backing, xfs_super, xlog_device,
    },
    operation::operation,
    task::{Task, current_cgroup_id, current_ids_in_own_namespace},
};

/// Set by user space before the load.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config::ABSENT;

/// One word of the configuration.
macro_rules! config {
    ($field:ident) => {
        // SAFETY: a read of a static; volatile because it is patched at load.
        unsafe { core::ptr::read_volatile(&raw const crate::fields::CONFIG.$field) }
    };
}
pub(crate) use config;

/// Whether a sync may end at the end of this system call.
#[inline(always)]
pub fn is_sync_exit(syscall: u64) -> bool {
    let word = (syscall >> 5) as usize;
    if word >= 16 {
        return false;
    }
    // SAFETY: the index was checked; volatile because it is patched at load.
    let bits = unsafe { read_volatile((&raw const CONFIG.sync_exits).cast::<u32>().add(word)) };
    bits >> (syscall & 31) & 1 == 1
}

/// An entry of a table of constants.
#[inline(always)]
fn look_up(table: &'static [u8; 1 << u8::BITS], at: u8) -> u8 {
    // SAFETY: the table has an entry for each index; volatile so that the compiler makes no
    // branches of it.
    unsafe { read_volatile(table.as_ptr().add(usize::from(at))) }
}

/// A typed kernel pointer, as a hook handed it out or as a field held it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Kernel(pub *const u8);

impl Kernel {
    /// The field at an offset.
    #[inline(always)]
    fn load<T: Copy>(self, offset: u32) -> T {
        let field = self.0.wrapping_add(offset as usize).cast::<T>();
        if crate::UNTYPED {
            // SAFETY: the helper checks the address; zeros are a value of all
            // that is loaded, and what a faulting direct load gives.
            return unsafe { bpf_probe_read_kernel(field).unwrap_or(core::mem::zeroed()) };
        }
        // SAFETY: the verifier checks the access against the pointer's type,
        // and the kernel turns a faulting load into a zero.
        unsafe { read_volatile(field) }
    }

    #[inline(always)]
    fn follow(self, offset: u32) -> Self {
        Self(self.load(offset))
    }

    #[inline(always)]
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }
}

/// The id of the cgroup that a struct points to at an offset; 0 for a root, or
/// one of v1.
#[inline(always)]
fn cgroup_below_root(of: Kernel, at: u32) -> u64 {
    if of.is_null() {
        return 0;
    }
    let cgroup = of.follow(at);
    if cgroup.is_null() {
        return 0;
    }
    let level: u32 = cgroup.load(config!(cgroup_level));
    let root = cgroup.follow(config!(cgroup_root));
    let node = cgroup.follow(config!(cgroup_node));
    if level == 0 || root.is_null() || node.is_null() {
        return 0;
    }
    let hierarchy: u32 = root.load(config!(root_hierarchy));
    if hierarchy == 0 { node.load(config!(node_id)) } else { 0 }
}

/// The number of a cgroup's directory.
#[inline(always)]
fn node_id(cgroup: Kernel) -> u64 {
    let node = cgroup.follow(config!(cgroup_node));
    if node.is_null() { 0 } else { node.load(config!(node_id)) }
}

/// How far it is below the root.
#[inline(always)]
fn level(cgroup: Kernel) -> u32 {
    cgroup.load(config!(cgroup_level))
}

/// That of version 1 in a task's set (`struct css_set`); 0 for the root.
#[inline(always)]
fn v1_cgroup_id(set: Kernel) -> u64 {
    let state = set.follow(config!(css_set_v1));
    if state.is_null() {
        return 0;
    }
    let cgroup = state.follow(config!(css_cgroup));
    if cgroup.is_null() || level(cgroup) == 0 { 0 } else { node_id(cgroup) }
}

/// The number of the system call that `struct pt_regs` are of.
#[inline(always)]
pub fn syscall_number(regs: Kernel) -> u64 {
    let number: u32 = regs.load(config!(regs_syscall));
    u64::from(number)
}

/// The first argument of the system call that `struct pt_regs` are of.
#[inline(always)]
pub fn syscall_arg0(regs: Kernel) -> u64 {
    regs.load(config!(regs_arg0))
}
