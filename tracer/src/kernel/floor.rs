//! The kernel object once more, with only the programs that do nothing.
//!
//! For the bench: what the kernel takes to run any program on a hook is the
//! floor below what the tracer costs there. No session loads these.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::{Btf, Ebpf, EbpfLoader, programs::Program};

use super::{
    facts::Facts,
    ladder::Target,
    load::{OBJECT, raise_memlock, run_stats},
};

/// Each empty program, the hook it is on, which is also the name of the
/// tracer's program there.
pub const EMPTY: [(&str, &str); 5] = [
    ("empty_start", "block_io_start"),
    ("empty_issue", "block_rq_issue"),
    ("empty_complete", "block_rq_complete"),
    ("empty_enter", "sys_enter"),
    ("empty_exit", "sys_exit"),
];

/// The empty programs, attached until this is dropped.
pub struct Floor {
    ebpf: Ebpf,
}

impl Floor {
    /// Attaches those of [`EMPTY`] whose hooks this kernel has.
    ///
    /// # Errors
    ///
    /// When the kernel refuses one of them.
    pub fn attach(facts: &Facts, btf: &Path) -> Result<Self> {
        raise_memlock();
        let btf = Btf::parse_file(btf, aya::Endianness::default())
            .with_context(|| format!("failed to read BTF from `{}`", btf.display()))?;
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .load(OBJECT)
            .context("failed to create the maps of the empty programs in the kernel")?;
        for (name, hook) in EMPTY {
            if facts.home(&Target::Tracepoint(hook)).is_none() {
                continue;
            }
            let Some(Program::BtfTracePoint(program)) = ebpf.program_mut(name) else {
                bail!("program `{name}` is not in the object");
            };
            program
                .load(hook, &btf)
                .and_then(|()| program.attach().map(drop))
                .with_context(|| format!("failed to attach `{name}` to `{hook}`"))?;
        }
        Ok(Self { ebpf })
    }

    /// As [`super::load::Programs::run_stats`].
    pub fn run_stats(&self) -> Vec<(String, u64, u64)> {
        run_stats(&self.ebpf)
    }
}
