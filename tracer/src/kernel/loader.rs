//! Loads and attaches programs whose hook is not in the kernel's own BTF.
//!
//! aya names a hook by its type there; there is no way to tell it that the type
//! is a module's, or that a program for a typed tracepoint is to be attached to
//! it by name. So this room takes the object through aya's own parser and
//! relocations once more, onto the maps that aya has created, and makes the two
//! system calls itself. The rest is as if aya had done it: dropping an
//! [`Attached`] detaches and unloads.
//!
//! Modules have BTF from 5.11 on; to name it takes CAP_SYS_ADMIN. By name goes
//! with neither.

use std::{
    collections::HashSet,
    ffi::CString,
    io, mem,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use anyhow::{Context as _, Result, anyhow};
use aya::{Ebpf, maps::Map};
use aya_obj::{
    Object, ProgramSection,
    generated::{bpf_attach_type, bpf_attr, bpf_btf_info, bpf_cmd, bpf_prog_type},
};

use super::{facts::InModule, refusal::explain_errno};

/// What the verifier may say of a program that it refuses, in bytes.
const LOG_BYTES: usize = 1 << 20;

/// Where a hook is that aya cannot name.
#[derive(Clone, Copy)]
pub enum Place {
    Module(InModule),
    ByName,
}

/// The object, ready to be loaded from.
pub struct Loader {
    object: Object,
    /// What the instructions refer to by number, kept open for them.
    _maps: Vec<OwnedFd>,
}

/// A program on its hook, until it is taken off or this is dropped.
pub struct Attached {
    program: OwnedFd,
    /// The hook's name, where that is how it is found.
    name: Option<CString>,
    link: Option<OwnedFd>,
}

impl Attached {
    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// Takes the program off its hook; it stays loaded.
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// Puts it on its hook.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn attach(&mut self) -> io::Result<()> {
        let mut attr = no_attr();
        attr.raw_tracepoint.prog_fd = self.program.as_raw_fd() as u32;
        if let Some(name) = &self.name {
            attr.raw_tracepoint.name = name.as_ptr() as u64;
        }
        self.link = Some(new_fd(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)?);
        Ok(())
    }
}

impl Loader {
    /// Relocates the object onto maps that are all still in `ebpf`.
    ///
    /// # Errors
    ///
    /// When a map is missing, or the object is not what aya's parser expects.
    pub fn new(object: &[u8], ebpf: &Ebpf) -> Result<Self> {
        let mut object = Object::parse(object).context("failed to parse the kernel object")?;
        let mut fds = Vec::new();
        let mut maps = Vec::new();
        for (name, map) in object.maps.drain() {
            let created = ebpf.map(&name).with_context(|| format!("map `{name}` is not there"))?;
            let fd = clone_fd(created).with_context(|| format!("failed to share map `{name}`"))?;
            maps.push((name, fd.as_raw_fd(), map));
            fds.push(fd);
        }
        let sections: HashSet<_> = object.functions.keys().map(|(section, _)| *section).collect();
        object
            .relocate_maps(maps.iter().map(|(name, fd, map)| (name.as_str(), *fd, map)), &sections)
            .context("failed to relocate the kernel object's maps")?;
        object.relocate_calls(&sections).context("failed to relocate the kernel object's calls")?;
        object.sanitize_functions(aya::features());
        Ok(Self { object, _maps: fds })
    }

    /// Loads a program for a hook, and attaches it there.
    ///
    /// # Errors
    ///
    /// What the kernel refuses, in one line.
    pub fn attach(&self, program: &str, hook: &str, at: Place) -> Result<Attached, String> {
        let program = self.load(program, hook, at)?;
        let name = match at {
            Place::ByName => {
                Some(CString::new(hook).map_err(|error| format!("`{hook}`: {error}"))?)
            }
            Place::Module(_) => None,
        };
        let mut attached = Attached { program, name, link: None };
        attached.attach().map_err(|error| explain_errno(hook, &error, ""))?;
        Ok(attached)
    }

    fn load(&self, name: &str, hook: &str, at: Place) -> Result<OwnedFd, String> {
        let missing = || format!("program `{name}` is not in the object");
        let program = self.object.programs.get(name).ok_or_else(missing)?;
        let function = self.object.functions.get(&program.function_key()).ok_or_else(missing)?;
        let attach_type = match (&program.section, at) {
            // Its kind of program has no attach types.
            (ProgramSection::BtfTracePoint, Place::ByName) => None,
            (ProgramSection::BtfTracePoint, _) => Some(bpf_attach_type::BPF_TRACE_RAW_TP),
            (ProgramSection::FEntry { .. }, _) => Some(bpf_attach_type::BPF_TRACE_FENTRY),
            (ProgramSection::FExit { .. }, _) => Some(bpf_attach_type::BPF_TRACE_FEXIT),
            _ => return Err(format!("program `{name}` is of another type")),
        };
        let types = match at {
            Place::Module(at) => Some((find_types(at.module)?, at.type_id)),
            Place::ByName => None,
        };
        let load = |log: &mut [u8]| {
            let mut attr = no_attr();
            // SAFETY: of this union's members, all of plain integers, this is
            // the one that BPF_PROG_LOAD reads.
            let load = unsafe { &mut attr.__bindgen_anon_3 };
            load.prog_type = bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT as u32;
            if let Some(attach_type) = attach_type {
                load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
                load.expected_attach_type = attach_type as u32;
            }
            load.insns = function.instructions.as_ptr() as u64;
            load.insn_cnt = function.instructions.len() as u32;
            load.license = program.license.as_ptr() as u64;
            if let Some((types, id)) = &types {
                load.attach_btf_id = *id;
                load.__bindgen_anon_1.attach_btf_obj_fd = types.as_raw_fd() as u32;
            }
            // The last byte ends it.
            let room = load.prog_name.len() - 1;
            for (slot, byte) in load.prog_name.iter_mut().take(room).zip(name.bytes()) {
                *slot = byte as _;
            }
            if !log.is_empty() {
                load.log_level = 1;
                load.log_buf = log.as_mut_ptr() as u64;
                load.log_size = log.len() as u32;
            }
            new_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr)
        };
        // With a log it takes longer, so only once it was refused.
        load(&mut []).or_else(|error| {
            let mut log = vec![0; LOG_BYTES];
            load(&mut log).map_err(|_| {
                let said = log.split(|byte| *byte == 0).next().unwrap_or_default();
                explain_errno(hook, &error, &String::from_utf8_lossy(said))
            })
        })
    }
}

/// A descriptor of one's own for a map.
fn clone_fd(map: &Map) -> Result<OwnedFd> {
    let (Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::RingBuf(data)) = map
    else {
        return Err(anyhow!("it is of a type that the object had none of"));
    };
    Ok(data.fd().as_fd().try_clone_to_owned()?)
}

/// The descriptor of a module's types, which the kernel has only by number.
fn find_types(module: &str) -> Result<OwnedFd, String> {
    let refused = |error: io::Error| match error.raw_os_error() {
        Some(libc::EPERM) => "needs CAP_SYS_ADMIN to name a module's types".to_owned(),
        Some(libc::ENOENT) => format!("the kernel has no types of module `{module}`"),
        _ => format!("failed to find the types of module `{module}`: {error}"),
    };
    let mut id = 0;
    loop {
        let mut attr = no_attr();
        attr.__bindgen_anon_6.__bindgen_anon_1.start_id = id;
        bpf(bpf_cmd::BPF_BTF_GET_NEXT_ID, &mut attr).map_err(refused)?;
        // SAFETY: plain integers, which the kernel has written.
        id = unsafe { attr.__bindgen_anon_6.next_id };
        let mut attr = no_attr();
        attr.__bindgen_anon_6.__bindgen_anon_1.btf_id = id;
        let types = match new_fd(bpf_cmd::BPF_BTF_GET_FD_BY_ID, &mut attr) {
            // It went away meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            types => types.map_err(refused)?,
        };
        if is_of_module(&types, module).map_err(refused)? {
            return Ok(types);
        }
    }
}

fn is_of_module(types: &OwnedFd, module: &str) -> io::Result<bool> {
    let mut name = [0u8; 64];
    // SAFETY: a struct of integers, for which zeros are valid.
    let mut info: bpf_btf_info = unsafe { mem::zeroed() };
    info.name = name.as_mut_ptr() as u64;
    info.name_len = name.len() as u32;
    let mut attr = no_attr();
    attr.info.bpf_fd = types.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_btf_info>() as u32;
    attr.info.info = (&raw mut info) as u64;
    match bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) {
        // A name that does not fit is none of ours.
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => return Ok(false),
        result => result?,
    };
    let expected = CString::new(module)?;
    Ok(info.kernel_btf == 1 && name.starts_with(expected.as_bytes_with_nul()))
}

fn no_attr() -> bpf_attr {
    // SAFETY: a union of structs of integers, for which zeros are valid.
    unsafe { mem::zeroed() }
}

/// One of the commands that return a new descriptor.
fn new_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the callers' commands return a descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<RawFd> {
    loop {
        // SAFETY: the attributes outlive the call, and so does what the callers
        // let them point to.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                libc::c_long::from(command as u32),
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
