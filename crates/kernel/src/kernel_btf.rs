//! The types that the kernel and its modules have in memory, by system call alone.
//!
//! The kernel has them by number, and opening one takes CAP_SYS_ADMIN. From 5.11 on it
//! hands out its own types and those of modules:
//! <https://github.com/torvalds/linux/commit/36e68442d1af>. No file is read, so this
//! works where none may be opened.

use std::{
    ffi::CStr,
    io, mem,
    os::fd::{AsRawFd as _, OwnedFd},
};

use aya_obj::generated::{bpf_btf_info, bpf_cmd};

use crate::bpf::{self, new_fd, no_attr};

/// The name that the kernel gives to its own types.
const KERNEL: &CStr = c"vmlinux";

/// More bytes of types than any kernel has; 6.18 has 6 MiB.
const MAX_BYTES: u32 = 256 << 20;

/// Room for the name of any module that has hooks, with its zero byte.
const NAME_BYTES: usize = 64;

/// Opens the types of a module.
///
/// # Errors
///
/// One line with the reason: no such module is loaded, it has no types, or this process
/// may not open them.
pub fn open_module_types(module: &str) -> Result<OwnedFd, String> {
    let mut found = None;
    for_each_loaded(|types, name| {
        let is_it = name.to_bytes() == module.as_bytes();
        if is_it {
            found = Some(types);
        }
        Ok(!is_it)
    })
    .map_err(|error| refused(module, &error))?;
    found.ok_or_else(|| format!("the kernel has no types of module `{module}`"))
}

/// Reads the kernel's own types and those of a module, as BTF.
///
/// # Errors
///
/// One line with the reason why they cannot be read.
pub fn read_types(module: &str) -> Result<[Vec<u8>; 2], String> {
    let mut found = [None, None];
    for_each_loaded(|types, name| {
        let at = match name.to_bytes() {
            name if name == KERNEL.to_bytes() => 0,
            name if name == module.as_bytes() => 1,
            _ => return Ok(true),
        };
        found[at] = Some(read_bytes(&types)?);
        Ok(found.iter().any(Option::is_none))
    })
    .map_err(|error| refused(module, &error))?;
    match found {
        [Some(kernel), Some(module)] => Ok([kernel, module]),
        // Before 5.11 the kernel does not hand out its own types.
        [None, _] => Err("the kernel does not hand out its types (it takes 5.11)".to_owned()),
        [_, None] => Err(format!("the kernel has no types of module `{module}`")),
    }
}

fn refused(module: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => "needs CAP_SYS_ADMIN to name a module's types".to_owned(),
        _ => format!("failed to find the types of `{module}`: {error}"),
    }
}

/// Calls `look` for the types of the kernel and of each loaded module, with their name,
/// until it returns false.
fn for_each_loaded(mut look: impl FnMut(OwnedFd, &CStr) -> io::Result<bool>) -> io::Result<()> {
    let mut id = 0;
    loop {
        let mut attr = no_attr();
        attr.__bindgen_anon_6.__bindgen_anon_1.start_id = id;
        match bpf::run(bpf_cmd::BPF_BTF_GET_NEXT_ID, &mut attr) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
            result => result?,
        };
        // SAFETY: plain integers, which the kernel has written.
        id = unsafe { attr.__bindgen_anon_6.next_id };
        let mut attr = no_attr();
        attr.__bindgen_anon_6.__bindgen_anon_1.btf_id = id;
        let types = match new_fd(bpf_cmd::BPF_BTF_GET_FD_BY_ID, &mut attr) {
            // The module was unloaded since its id was read.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            types => types?,
        };
        let mut name = [0; NAME_BYTES];
        let mut info = no_info();
        (info.name, info.name_len) = (name.as_mut_ptr() as u64, NAME_BYTES as u32);
        match ask(&types, &mut info) {
            // No module that has hooks has so long a name.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => continue,
            result => result?,
        }
        let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
        if info.kernel_btf == 1 && !look(types, name)? {
            return Ok(());
        }
    }
}

/// Reads the bytes of one set of types.
fn read_bytes(types: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut info = no_info();
    // Without a buffer the kernel only returns the length.
    ask(types, &mut info)?;
    if info.btf_size > MAX_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; info.btf_size as usize];
    let mut info = bpf_btf_info { btf_size: info.btf_size, ..no_info() };
    info.btf = bytes.as_mut_ptr() as u64;
    ask(types, &mut info)?;
    bytes.truncate(info.btf_size as usize);
    Ok(bytes)
}

fn no_info() -> bpf_btf_info {
    // SAFETY: a struct of integers, for which zeros are valid.
    unsafe { mem::zeroed() }
}

/// Has the kernel fill `info`; each buffer that it points to must be as long as it says.
fn ask(types: &OwnedFd, info: &mut bpf_btf_info) -> io::Result<()> {
    let mut attr = no_attr();
    attr.info.bpf_fd = types.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_btf_info>() as u32;
    attr.info.info = (&raw mut *info) as u64;
    bpf::run(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::facts::VMLINUX_BTF;

    /// This takes CAP_SYS_ADMIN, and says so to whoever has not got it.
    #[test]
    fn the_kernel_hands_out_the_types_that_its_file_has() {
        let mut kernel = None;
        let looked = for_each_loaded(|types, name| {
            if name == KERNEL {
                kernel = Some(read_bytes(&types)?);
            }
            Ok(kernel.is_none())
        });
        match looked {
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM)),
            Ok(()) => assert_eq!(kernel, fs::read(VMLINUX_BTF).ok()),
        }
        assert!(open_module_types("no such module").is_err());
        assert!(read_types("no such module").is_err());
    }
}
