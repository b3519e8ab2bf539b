//! Loads the programs of a module that came after the selection, upon the tables that
//! are there.
//!
//! Works by the system call `bpf` alone and opens no file, so it goes on where nothing
//! else is permitted. It decides by the kernel's own types; who asks says no more than
//! the module.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use aya_obj::generated::bpf_cmd;
use tracer_ebpf::config::Config;
use zerocopy::IntoBytes as _;

use crate::{
    facts::Facts,
    kernel_btf,
    load::OBJECT,
    loader::{Globals, Loader, NamedMaps},
    program::Program,
};

/// Commands of the system call `bpf` that loading takes.
pub const COMMANDS: [u32; 7] = [
    bpf_cmd::BPF_MAP_CREATE as u32,
    bpf_cmd::BPF_MAP_UPDATE_ELEM as u32,
    bpf_cmd::BPF_MAP_FREEZE as u32,
    bpf_cmd::BPF_PROG_LOAD as u32,
    bpf_cmd::BPF_BTF_GET_NEXT_ID as u32,
    bpf_cmd::BPF_BTF_GET_FD_BY_ID as u32,
    bpf_cmd::BPF_OBJ_GET_INFO_BY_FD as u32,
];

/// All that loading takes.
pub struct LateLoader {
    /// The kernel, as it was found at the start.
    pub(crate) facts: Facts,
    pub(crate) maps: NamedMaps,
    /// The constants of the selected programs.
    pub(crate) config: Config,
    pub(crate) log_level: u8,
}

/// Each program for a module's hooks, or why it was not loaded.
pub type Loaded = Vec<(Program, Result<OwnedFd, String>)>;

impl LateLoader {
    /// The descriptors that it takes.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.maps.iter().map(|(_, fd)| fd.as_raw_fd())
    }

    /// Loads a program for each hook that a module has.
    ///
    /// # Errors
    ///
    /// When its types cannot be read.
    pub fn load(&self, module: &'static str) -> Result<Loaded, String> {
        let [kernel, types] = kernel_btf::read_types(module)?;
        let mut facts = self.facts.clone();
        facts.meet(&kernel, module, &types).map_err(|error| format!("{error:#}"))?;
        drop((kernel, types));
        let config = Config {
            own_slots: self.config.own_slots,
            shared_slots: self.config.shared_slots,
            ..facts.config
        };
        let globals = Globals::from([
            ("CONFIG", config.as_bytes()),
            ("AYA_LOG_LEVEL", self.log_level.as_bytes()),
        ]);
        let loader = Loader::upon(OBJECT, &globals, &self.maps)
            .map_err(|error| format!("failed to prepare its programs: {error:#}"))?;
        let wanted = Program::ALL.iter().copied().filter_map(|program| {
            let is_its = program.target().module() == Some(module);
            is_its.then(|| facts.location(program).map(|location| (program, location))).flatten()
        });
        Ok(wanted
            .map(|(program, location)| (program, loader.load_alone(program, location)))
            .collect())
    }
}
