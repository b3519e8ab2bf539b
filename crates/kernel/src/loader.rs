//! Loads and attaches the programs of one kernel object.
//!
//! The object is parsed and relocated, and its maps are created, by the parts
//! that aya's own loader is made of. That one finds a hook by parsing all of
//! the kernel's types into objects of its own, at each start and twice: 27 MiB
//! of the largest resident size on a 6.18. Nor can it name a module's type, or
//! attach a program for a typed tracepoint by name. We have the hook's number
//! from [`crate::types`] already, so the two system calls are made here.
//! Dropping an [`Attached`] detaches and unloads.
//!
//! Modules have BTF from 5.11 on (<https://github.com/torvalds/linux/commit/36e68442d1af>),
//! and opening it takes CAP_SYS_ADMIN. Attaching by name needs neither.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    ffi::CString,
    fs, io,
    num::NonZero,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData};
use aya_obj::{
    EbpfSectionKind, Object, ProgramSection,
    generated::{bpf_attach_type, bpf_cmd, bpf_map_type, bpf_prog_type},
};

use crate::{
    bpf::{self, new_fd, no_attr},
    confinement::Confinement,
    eviction,
    facts::HookLocation,
    kernel_btf,
    program::Program,
    refusal::{LoadStep, cause, explain, reason},
};

/// The size of the verifier's log for a program that it refuses, in bytes.
const LOG_BYTES: usize = 1 << 20;

/// More threads than this do not make the start shorter: its longest program takes a sixth.
const MAX_THREADS: usize = 8;

/// A cgroup with no more memory has its programs verified one after another: newer
/// kernels charge it with the verifier's memory, and each thread takes some of that
/// for itself.
const TIGHT_BYTES: u64 = 256 << 20;

/// How many programs are verified at a time.
const fn threads(memory_limit: Option<u64>, cpus: usize) -> usize {
    match memory_limit {
        Some(bytes) if bytes <= TIGHT_BYTES => 1,
        _ if cpus > MAX_THREADS => MAX_THREADS,
        _ => cpus,
    }
}

/// The object, ready to be loaded from.
pub struct Loader {
    object: Object,
    /// The maps that instructions refer to by number, kept open for them.
    maps: NamedMaps,
    /// Programs that are loaded already.
    ahead: HashMap<Program, OwnedFd>,
}

/// Constants of the programs, by name.
pub type Globals<'a> = HashMap<&'a str, &'a [u8]>;

/// The maps of an object, by the names that they have in it. The loader and who loads after
/// it share them.
pub type NamedMaps = Arc<Vec<(String, OwnedFd)>>;

/// Why a program was not loaded.
struct Refused {
    sentence: String,
    /// The system call's error, where the verifier had nothing against the program.
    errno: Option<i32>,
}

impl From<String> for Refused {
    fn from(sentence: String) -> Self {
        Self { sentence, errno: None }
    }
}

impl Refused {
    /// The sentence, with what on this machine may be the cause.
    fn explain(self) -> String {
        let cause = self.errno.and_then(|errno| cause(errno, LoadStep::Load, &Confinement::read()));
        match cause {
            Some(cause) => format!("{}: {cause}", self.sentence),
            None => self.sentence,
        }
    }
}

/// A loaded program, attached to its hook until it is detached or this is dropped.
pub struct Attached {
    program: OwnedFd,
    /// The hook's name, where that is how it is found.
    name: Option<CString>,
    link: Option<OwnedFd>,
}

impl Attached {
    /// A program that is loaded, and not attached yet.
    ///
    /// # Errors
    ///
    /// Never in practice: it would take a hook whose name has a NUL in it.
    pub fn new(program: Program, loaded: OwnedFd, is_by_name: bool) -> Result<Self, String> {
        let hook = program.target().hook();
        let name = is_by_name.then(|| CString::new(&*hook)).transpose();
        let name = name.map_err(|error| format!("`{hook}`: {error}"))?;
        Ok(Self { program: loaded, name, link: None })
    }

    /// A counter that the kernel shows beside its descriptor, such as `run_cnt`.
    pub fn read_counter(&self, name: &str) -> Option<u64> {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.program.as_raw_fd()));
        let counter = |line: &str| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok();
        info.ok()?.lines().find_map(counter)
    }

    /// Detaches the program from its hook; it stays loaded.
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// Attaches the program to its hook.
    ///
    /// # Errors
    ///
    /// The kernel's error.
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
    /// Creates the object's maps, some of them with a number of entries that
    /// only the caller knows, and relocates its programs onto them.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a map, or the object is not what aya's parser
    /// expects.
    pub fn create(
        object: &[u8],
        globals: &Globals<'_>,
        max_entries: &[(&str, u32)],
    ) -> Result<(Self, BTreeMap<String, Map>)> {
        let mut object = parse(object, globals)?;
        let cpus = eviction::possible_cpus();
        let (mut parts, mut fds, mut created) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (name, mut map) in object.maps.drain() {
            if let Some((_, entries)) = max_entries.iter().find(|(of, _)| *of == name) {
                map.set_max_entries(*entries);
            } else if map.map_type() == bpf_map_type::BPF_MAP_TYPE_LRU_HASH as u32 {
                let bytes = map.key_size() + map.value_size();
                map.set_max_entries(eviction::entries(map.max_entries(), bytes, cpus));
            }
            let (data, fd) = make(&name, &map)?;
            let failed = || format!("failed to create map `{name}`");
            created.insert(name.clone(), Map::from_map_data(data).with_context(failed)?);
            parts.push((fd.as_raw_fd(), map));
            fds.push((name, fd));
        }
        relocate(&mut object, &parts)?;
        Ok((Self { object, maps: Arc::new(fds), ahead: HashMap::new() }, created))
    }

    /// The object once more, with other constants and with existing maps. Maps of constants
    /// are made again, because the kernel has frozen the old ones.
    ///
    /// # Errors
    ///
    /// As [`Loader::create`], and when a map is missing.
    pub fn upon(object: &[u8], globals: &Globals<'_>, maps: &NamedMaps) -> Result<Self> {
        let mut object = parse(object, globals)?;
        let (mut parts, mut own) = (Vec::new(), Vec::new());
        for (name, map) in object.maps.drain() {
            let fd = if map.section_kind() == EbpfSectionKind::Rodata {
                let (_, fd) = make(&name, &map)?;
                let number = fd.as_raw_fd();
                own.push((name, fd));
                number
            } else {
                let found = maps.iter().find(|(of, _)| *of == name);
                found.with_context(|| format!("map `{name}` is not there"))?.1.as_raw_fd()
            };
            parts.push((fd, map));
        }
        relocate(&mut object, &parts)?;
        Ok(Self { object, maps: Arc::new(own), ahead: HashMap::new() })
    }

    /// The maps alone, for [`Loader::upon`].
    pub fn maps(&self) -> NamedMaps {
        Arc::clone(&self.maps)
    }

    /// Loads a program for its hook. The error is only what the kernel says, without a
    /// cause on this machine.
    ///
    /// # Errors
    ///
    /// As [`Loader::attach`].
    pub fn load_alone(&self, program: Program, location: HookLocation) -> Result<OwnedFd, String> {
        self.load(program, location, LOG_BYTES).map_err(|refused| refused.sentence)
    }

    /// Loads a program that may be attached. Returns whether the kernel took it.
    pub fn load_one_ahead(&mut self, program: Program, location: HookLocation) -> bool {
        let loaded = self.load(program, location, 0).ok();
        let is_loaded = loaded.is_some();
        self.ahead.extend(loaded.map(|fd| (program, fd)));
        is_loaded
    }

    /// Loads programs that will be attached, on several CPUs at a time: most of the
    /// time that the start takes is the verifier's.
    pub fn load_ahead(&mut self, wanted: &[(Program, HookLocation)], memory_limit: Option<u64>) {
        let mut wanted = wanted.to_vec();
        // The longest first, so that no CPU is left with one of them when the others are done.
        wanted.sort_by_key(|(program, _)| Reverse(self.length(*program)));
        let next = AtomicUsize::new(0);
        let load = || {
            let mut loaded = Vec::new();
            while let Some((program, location)) = wanted.get(next.fetch_add(1, Relaxed)) {
                if self.ahead.contains_key(program) {
                    continue;
                }
                // A program that is refused here gives the reason when it is attached.
                loaded.extend(self.load(*program, *location, 0).ok().map(|fd| (*program, fd)));
            }
            loaded
        };
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        let ahead: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..threads(memory_limit, cpus)).map(|_| scope.spawn(load)).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
        });
        self.ahead.extend(ahead);
    }

    /// How many instructions a program has.
    fn length(&self, program: Program) -> Option<usize> {
        let key = self.object.programs.get(program.name())?.function_key();
        Some(self.object.functions.get(&key)?.instructions.len())
    }

    /// Loads a program for its hook, and attaches it there.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, in one line.
    pub fn attach(&mut self, program: Program, location: HookLocation) -> Result<Attached, String> {
        let mut loaded = self.load_unattached(program, location)?;
        loaded.attach().map_err(|error| explain(&program.target().hook(), &error, ""))?;
        Ok(loaded)
    }

    /// Loads a program for its hook; it is not there yet.
    ///
    /// # Errors
    ///
    /// As [`Loader::attach`].
    pub fn load_unattached(
        &mut self,
        program: Program,
        location: HookLocation,
    ) -> Result<Attached, String> {
        let loaded = match self.ahead.remove(&program) {
            Some(loaded) => loaded,
            None => self.load(program, location, LOG_BYTES).map_err(Refused::explain)?,
        };
        Attached::new(program, loaded, location == HookLocation::ByName)
    }

    fn load(
        &self,
        program: Program,
        location: HookLocation,
        log_bytes: usize,
    ) -> Result<OwnedFd, Refused> {
        let (name, hook) = (program.name(), program.target().hook());
        let missing = || format!("program `{name}` is not in the object");
        let program = self.object.programs.get(name).ok_or_else(missing)?;
        let function = self.object.functions.get(&program.function_key()).ok_or_else(missing)?;
        let attach_type = match (&program.section, location) {
            // Its kind of program has no attach types.
            (ProgramSection::BtfTracePoint, HookLocation::ByName) => None,
            (ProgramSection::BtfTracePoint, _) => Some(bpf_attach_type::BPF_TRACE_RAW_TP),
            (ProgramSection::FEntry { .. }, _) => Some(bpf_attach_type::BPF_TRACE_FENTRY),
            (ProgramSection::FExit { .. }, _) => Some(bpf_attach_type::BPF_TRACE_FEXIT),
            _ => return Err(format!("program `{name}` is of another type").into()),
        };
        let (types, type_id) = match location {
            HookLocation::Kernel(type_id) => (None, type_id),
            HookLocation::Module(at) => {
                (Some(kernel_btf::open_module_types(at.module)?), at.type_id)
            }
            HookLocation::ByName => (None, 0),
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
            load.attach_btf_id = type_id;
            // Without one the types are the kernel's own.
            if let Some(types) = &types {
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
            let errno = error.raw_os_error();
            if log_bytes == 0 {
                return Err(Refused { sentence: explain(&hook, &error, ""), errno });
            }
            let mut log = vec![0; log_bytes];
            load(&mut log).map_err(|_| {
                let said = log.split(|byte| *byte == 0).next().unwrap_or_default();
                let said = String::from_utf8_lossy(said);
                // Nothing else has refused what the verifier has a reason against.
                let errno = errno.filter(|_| reason(&said).is_none());
                Refused { sentence: explain(&hook, &error, &said), errno }
            })
        })
    }
}

fn parse(object: &[u8], globals: &Globals<'_>) -> Result<Object> {
    let mut object = Object::parse(object).context("failed to parse the kernel object")?;
    let globals = globals.iter().map(|(name, value)| (*name, (*value, true))).collect();
    object.patch_map_data(globals).context("failed to set the programs' constants")?;
    Ok(object)
}

/// Creates a map, with what is to be in it from the start.
fn make(name: &str, map: &aya_obj::Map) -> Result<(MapData, OwnedFd)> {
    let failed = || format!("failed to create map `{name}`");
    let data = MapData::create(map.clone(), name, None).with_context(failed)?;
    let fd = data.fd().as_fd().try_clone_to_owned().with_context(failed)?;
    if !map.data().is_empty() {
        bpf::fill(fd.as_fd(), map.data()).with_context(failed)?;
    }
    if map.section_kind() == EbpfSectionKind::Rodata {
        bpf::freeze(fd.as_fd()).with_context(failed)?;
    }
    Ok((data, fd))
}

/// Has the programs refer to maps by their descriptors, and join their functions.
fn relocate(object: &mut Object, maps: &[(RawFd, aya_obj::Map)]) -> Result<()> {
    let sections: HashSet<_> = object.functions.keys().map(|(section, _)| *section).collect();
    // A map is found by its section and its symbol, and not by its name.
    let maps = maps.iter().map(|(fd, map)| ("", *fd, map));
    object.relocate_maps(maps, &sections).context("failed to relocate the kernel object's maps")?;
    object.relocate_calls(&sections).context("failed to relocate the kernel object's calls")?;
    object.sanitize_functions(aya::features());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, mem};

    use super::*;
    use crate::load::{OBJECT, UNTYPED_OBJECT};

    #[test]
    fn the_list_of_programs_is_what_the_objects_hold() {
        let list: BTreeSet<_> = Program::ALL.iter().map(|program| program.name()).collect();
        let object = Object::parse(OBJECT).unwrap();
        let typed: BTreeSet<_> = object.programs.keys().map(String::as_str).collect();
        assert_eq!(list, typed);
        // Without the kernel's types there are no functions to hook.
        let object = Object::parse(UNTYPED_OBJECT).unwrap();
        let untyped: BTreeSet<_> = object.programs.keys().map(String::as_str).collect();
        assert!(untyped.is_subset(&list), "{untyped:?}");
    }

    #[test]
    fn under_a_tight_limit_programs_are_verified_one_at_a_time() {
        let of = |mib: Option<u64>, cpus| threads(mib.map(|mib| mib << 20), cpus);
        assert_eq!([of(None, 1), of(None, 2), of(None, 64)], [1, 2, 8]);
        assert_eq!([of(Some(64), 64), of(Some(128), 8), of(Some(256), 8)], [1, 1, 1]);
        assert_eq!([of(Some(257), 8), of(Some(4096), 64)], [8, 8]);
        assert_eq!(threads(Some(u64::MAX), 3), 3);
        assert_eq!(threads(Some((256 << 20) + 1), 3), 3);
    }

    /// Older verifiers (seen on 5.10 and 6.1) permit a loop whose last instruction
    /// is a jump, and take one whose last instruction falls into its first for
    /// endless. Where the compiler puts the head of a loop is its own choice.
    #[test]
    fn every_loop_ends_in_a_jump() {
        for object in [OBJECT, UNTYPED_OBJECT] {
            for ((_, at), function) in Object::parse(object).unwrap().functions {
                let code: Vec<_> = function.instructions.iter().map(|i| (i.code, i.off)).collect();
                let falls = falls_into_its_path(&code);
                assert_eq!(falls, None, "`{}` at {at}", function.name);
            }
        }
    }

    #[test]
    fn a_loop_that_falls_into_its_head_is_found() {
        let (add, jump, branch, exit) = (0x07, 0x05, 0x15, 0x95);
        // The first falls to the head at 2, and the body at 1 leads back to it.
        let falls = [(jump, 1), (add, 0), (branch, -2), (exit, 0)];
        assert_eq!(falls_into_its_path(&falls), Some(1));
        let jumps = [(add, 0), (branch, 1), (jump, -3), (exit, 0)];
        assert_eq!(falls_into_its_path(&jumps), None);
    }

    /// Finds the first instruction that is no jump and is followed by one that leads
    /// to it. Instructions are given as their codes and offsets.
    fn falls_into_its_path(instructions: &[(u8, i16)]) -> Option<usize> {
        #[derive(Clone, Copy, PartialEq)]
        enum Seen {
            OnPath,
            Done,
        }
        let mut seen = vec![None; instructions.len()];
        let mut path = vec![(0, 0)];
        seen[0] = Some(Seen::OnPath);
        while let Some((at, tried)) = path.last_mut() {
            let (at, tried) = (*at, mem::replace(tried, *tried + 1));
            let Some(&(next, is_jump)) = successors(instructions, at).get(tried) else {
                seen[at] = Some(Seen::Done);
                path.pop();
                continue;
            };
            match seen[next] {
                None => {
                    seen[next] = Some(Seen::OnPath);
                    path.push((next, 0));
                }
                Some(Seen::OnPath) if !is_jump => return Some(at),
                Some(_) => {}
            }
        }
        None
    }

    /// Finds the places that an instruction leads to, and whether by a jump.
    fn successors(instructions: &[(u8, i16)], at: usize) -> Vec<(usize, bool)> {
        let (code, offset) = instructions[at];
        let (is_jump, operation) = (matches!(code & 7, 5 | 6), code & 0xf0);
        let target = (at + 1).wrapping_add_signed(isize::from(offset));
        match (is_jump, operation) {
            // Always, exit, a call, and under a condition.
            (true, 0x00) => vec![(target, true)],
            (true, 0x90) => Vec::new(),
            (true, 0x80) => vec![(at + 1, false)],
            (true, _) => vec![(at + 1, true), (target, true)],
            // A load of 64 bits takes two.
            (false, _) if code == 0x18 => vec![(at + 2, false)],
            (false, _) => vec![(at + 1, false)],
        }
    }
}
