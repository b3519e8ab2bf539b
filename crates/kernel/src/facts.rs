//! The features of a kernel, as a value.
//!
//! [`Facts::of_this_machine`] asks the running kernel, or reads the file of `--btf`; tests make
//! the same value from types that they draft. Everything that depends on the kernel is decided from
//! this value. Types are read again only for a module that is loaded later: [`Facts::meet`].

use std::{collections::BTreeMap, fmt, fs, io::ErrorKind, path::Path};

use anyhow::{Context as _, Result, bail};
use tracer_ebpf::config::{ABSENT, Config};

use crate::{
    capability::Capability,
    cgroups, memlock,
    offsets::{self, Resolved},
    pids::{self, PidNamespace, Translation},
    program::{MODULES, Program, Target},
    types::{KernelTypes, Pointers},
};

/// The file in which the running kernel offers its own BTF.
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// The features of a kernel that attach strategies need.
#[derive(Clone, Debug)]
pub struct Facts {
    pub release: String,
    /// `none`, `integrity`, `confidentiality`, or `unknown`.
    pub lockdown: String,
    /// The location of each program's hook; a program whose hook does not exist is absent.
    locations: BTreeMap<Program, HookLocation>,
    /// The modules of whose types nothing is known, and why.
    unknown_modules: BTreeMap<&'static str, ModuleBtfError>,
    /// Whether the kernel keeps a trampoline while a task sleeps in the traced function.
    keeps_trampolines: bool,
    /// Whether a task that has used up its cgroup's CPU time is stopped wherever it is, and not
    /// only on its way out of the kernel.
    pub stops_in_kernel: bool,
    pub pointers: Pointers,
    pub config: Config,
    /// Why optional parts of the configuration are missing: one sentence each.
    pub doubts: Vec<String>,
    /// Whether maps count against the limit on locked memory.
    pub counts_locked: bool,
    /// Whether a helper returns the ids of the running task in the task's own PID namespace.
    has_own_ids_helper: bool,
    /// For each controller, the offset in bytes of its state in a task's `css_set`.
    cgroup_states: BTreeMap<&'static str, u32>,
    /// Whether processes in different cgroups of version 1 are one owner, because all are in
    /// the root of version 2.
    pub merges_v1: bool,
    /// How the kernel's process ids are translated to those that are shown.
    pub translation: Translation,
}

/// The location of a hook: in the kernel itself, or in a module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HookLocation {
    /// In the kernel itself, with the id of its type in the kernel's own BTF.
    Kernel(u32),
    Module(InModule),
    /// Found by the kernel by the tracepoint's name, on kernels without BTF.
    ByName,
}

/// A hook's type within a module's BTF.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InModule {
    pub module: &'static str,
    pub type_id: u32,
}

/// The types of the modules that the attach strategies have hooks in.
pub type Modules = BTreeMap<&'static str, Result<Vec<u8>, ModuleBtfError>>;

/// Why the types of a module are not known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ModuleBtfError {
    NotLoaded,
    NoTypes,
    Unreadable(String),
}

/// The end of a sentence about a module without types, with the kernel that it takes.
pub const NO_MODULE_TYPES: &str =
    "has no types (it takes 5.11 and CONFIG_DEBUG_INFO_BTF_MODULES=y)";

impl fmt::Display for ModuleBtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded => write!(f, "is not loaded"),
            Self::NoTypes => write!(f, "{NO_MODULE_TYPES}"),
            Self::Unreadable(why) => write!(f, "has unreadable types: {why}"),
        }
    }
}

impl Facts {
    /// Asks the running kernel. A file of types serves where it has none of its
    /// own; those of its modules lie beside it, each under the module's name. The
    /// node's `/sys` lies below the first of `roots` that has what is looked for.
    ///
    /// # Errors
    ///
    /// When it has no BTF, has no ring buffers, or its BTF lacks what the block path needs.
    pub fn of_this_machine(btf: &Path, roots: &[&Path]) -> Result<Self> {
        let bytes = fs::read(btf).with_context(|| {
            format!(
                "failed to read the kernel's types from `{}`: use a kernel with \
                 CONFIG_DEBUG_INFO_BTF=y, or give the types of this very kernel with --btf FILE \
                 (`pahole --btf_encode_detached=FILE vmlinux` makes it from debug information)",
                btf.display()
            )
        })?;
        let folder = btf.parent().unwrap_or(Path::new("/"));
        let modules = MODULES.iter().map(|module| (*module, read_module(folder, module))).collect();
        let has_own = Path::new(VMLINUX_BTF).exists();
        let pointers = if has_own { Pointers::Typed } else { Pointers::Untyped };
        Self::from_btf(&bytes, &modules, pointers, release(), lockdown(roots))
            .with_context(|| format!("failed to use the types in `{}`", btf.display()))
    }

    /// Modules that have hooks and are not loaded.
    pub fn modules_not_loaded(&self) -> impl Iterator<Item = &'static str> {
        let missing = self.unknown_modules.iter();
        missing.filter(|(_, why)| **why == ModuleBtfError::NotLoaded).map(|(module, _)| *module)
    }

    /// Takes in a module that was loaded since, from the kernel's types and its own:
    /// fields in them, and hooks that were not there before.
    ///
    /// # Errors
    ///
    /// When the bytes are no BTF.
    pub fn meet(&mut self, kernel: &[u8], module: &'static str, types: &[u8]) -> Result<()> {
        let kernel = KernelTypes::parse(kernel)?;
        let types = kernel.with_module(types)?;
        offsets::module_fields(&types, &mut self.config);
        for &program in Program::ALL {
            let target = program.target();
            let is_new = target.module() == Some(module) && !self.locations.contains_key(&program);
            if !is_new
                || !is_usable(program, &self.config)
                || (program.is_exit() && !self.keeps_trampolines)
            {
                continue;
            }
            let type_id = match target {
                Target::Tracepoint(name) => types.tracepoint(name),
                Target::Function(_) | Target::SystemCall(_) => types.function(&target.hook()),
            };
            let location = |type_id| HookLocation::Module(InModule { module, type_id });
            self.locations.extend(type_id.map(|type_id| (program, location(type_id))));
        }
        self.unknown_modules.remove(module);
        Ok(())
    }

    /// From the bytes of BTF blobs.
    ///
    /// # Errors
    ///
    /// As [`Facts::of_this_machine`].
    pub fn from_btf(
        kernel: &[u8],
        modules: &Modules,
        pointers: Pointers,
        release: String,
        lockdown: String,
    ) -> Result<Self> {
        let kernel = KernelTypes::parse(kernel)?;
        // Asked first: without them the rest does not matter.
        if kernel.enumerator("BPF_MAP_TYPE_RINGBUF").is_none() {
            bail!("this kernel is too old: it has no BPF ring buffers, which takes Linux 5.8");
        }
        let Resolved { mut config, doubts } = offsets::find(&kernel, pointers)?;
        let mut unknown_modules = BTreeMap::new();
        let mut with_module = BTreeMap::new();
        for (module, bytes) in modules {
            let types = bytes.as_ref().map_err(Clone::clone).and_then(|bytes| {
                let types = kernel.with_module(bytes);
                types.map_err(|error| ModuleBtfError::Unreadable(error.to_string()))
            });
            match types {
                Ok(types) => {
                    offsets::module_fields(&types, &mut config);
                    with_module.insert(*module, types);
                }
                Err(why) => {
                    unknown_modules.insert(*module, why);
                }
            }
        }
        let location = |target: &Target, find: &dyn Fn(&KernelTypes<'_>) -> Option<u32>| {
            if let Some(type_id) = find(&kernel) {
                return Some(HookLocation::Kernel(type_id));
            }
            let module = target.module()?;
            let type_id = find(with_module.get(module)?)?;
            Some(HookLocation::Module(InModule { module, type_id }))
        };
        let tracepoint = |target: &Target, name: &'static str| {
            let typed = location(target, &|types| types.tracepoint(name));
            if pointers == Pointers::Typed {
                return typed;
            }
            // A module without types still has its tracepoints.
            let missing = target.module().and_then(|module| unknown_modules.get(module));
            let is_there = typed.is_some() || missing == Some(&ModuleBtfError::NoTypes);
            is_there.then_some(HookLocation::ByName)
        };
        let keeps_trampolines = keeps_trampolines(&kernel);
        let mut locations = BTreeMap::new();
        for &program in Program::ALL {
            let target = program.target();
            let found = match target {
                _ if !is_usable(program, &config) => None,
                _ if program.is_exit() && !keeps_trampolines => None,
                Target::Tracepoint(name) => tracepoint(&target, name),
                Target::Function(_) | Target::SystemCall(_) if pointers == Pointers::Untyped => {
                    None
                }
                Target::Function(_) | Target::SystemCall(_) => {
                    let hook = target.hook();
                    location(&target, &|types| types.function(&hook))
                }
            };
            locations.extend(found.map(|location| (program, location)));
        }
        let has_own_ids_helper = kernel.enumerator("BPF_FUNC_get_ns_current_pid_tgid").is_some();
        let translation = Translation::None;
        let cgroup_states = offsets::cgroup_states(&kernel, pointers, &mut config);
        Ok(Self {
            release,
            lockdown,
            locations,
            unknown_modules,
            keeps_trampolines,
            stops_in_kernel: stops_in_kernel(&kernel),
            pointers,
            config,
            doubts,
            counts_locked: memlock::counts_maps_of(&kernel),
            has_own_ids_helper,
            cgroup_states,
            merges_v1: false,
            translation,
        })
    }

    /// A kernel that offers no hook at all, with this layout.
    #[cfg(test)]
    pub fn with_config(config: Config) -> Self {
        let unknown = || "unknown".to_owned();
        let (locations, unknown_modules) = Default::default();
        let pointers = Pointers::Typed;
        let (release, lockdown) = (unknown(), unknown());
        let (has_own_ids_helper, translation) = (false, Translation::None);
        Self {
            release,
            lockdown,
            locations,
            unknown_modules,
            keeps_trampolines: false,
            stops_in_kernel: true,
            pointers,
            config,
            doubts: Vec::new(),
            counts_locked: false,
            has_own_ids_helper,
            cgroup_states: BTreeMap::new(),
            merges_v1: false,
            translation,
        }
    }

    /// Has the programs hand out process ids of this namespace, which is not the
    /// kernel's first.
    pub fn show_ids_of(&mut self, namespace: PidNamespace) {
        self.translation = pids::show(namespace, self.has_own_ids_helper, &mut self.config);
    }

    /// Has the programs identify processes in the root of cgroup v2 by a controller's
    /// hierarchy of version 1.
    pub fn go_by(&mut self, controller: &str) {
        let can = cgroups::go_by(controller, &self.cgroup_states, &mut self.config);
        self.merges_v1 = !can;
    }

    /// Finds a program's hook; `None` if this kernel has none.
    pub fn location(&self, program: Program) -> Option<HookLocation> {
        self.locations.get(&program).copied()
    }

    /// Why a program's hook is not there.
    pub fn absence(&self, program: Program) -> String {
        let target = program.target();
        let hook = target.hook();
        if program.is_exit() && !self.keeps_trampolines && self.pointers == Pointers::Typed {
            return format!(
                "no safe exit of `{hook}`: this kernel may free a trampoline while somebody \
                 sleeps in the function (mended in 5.12 and 5.10.28)"
            );
        }
        match target.module().and_then(|module| Some((module, self.unknown_modules.get(module)?))) {
            Some((module, why)) => format!("no `{hook}`: module `{module}` {why}"),
            None if self.pointers == Pointers::Untyped
                && !matches!(target, Target::Tracepoint(_)) =>
            {
                format!("no `{hook}`: functions are found by the kernel's own BTF only")
            }
            None => format!("no `{hook}`"),
        }
    }

    /// Whether programs can read the fields of the task that they run in.
    pub fn sees_tasks(&self) -> bool {
        self.config.task_flags != ABSENT
    }

    pub fn sees_run_delay(&self) -> bool {
        self.sees_tasks() && self.config.task_run_delay != ABSENT
    }
}

/// Whether a limit on CPU time stops tasks inside the kernel. Newer kernels let them leave it first
/// (`throttle_cfs_rq_work` in <https://elixir.bootlin.com/linux/v6.18/source/kernel/sched/fair.c>),
/// and note in each task whether it is to stop there.
fn stops_in_kernel(kernel: &KernelTypes<'_>) -> bool {
    let task = kernel.first_struct("task_struct");
    task.is_none_or(|task| kernel.field(task, "sched_throttle_work").is_none())
}

/// Whether the kernel has the mended trampolines: without them it may free one that a
/// task will return through, which ends the machine. A hook at a function's exit
/// puts it on the stack of all who sleep there, as all do in an fsync.
/// <https://github.com/torvalds/linux/commit/e21aa341785c>, in 5.12 and 5.10.28: a
/// callback and a struct of that name came with it.
fn keeps_trampolines(kernel: &KernelTypes<'_>) -> bool {
    kernel.function("__bpf_tramp_image_put_rcu").is_some()
        || kernel.first_struct("bpf_tramp_image").is_some()
}

/// Whether a program can read the arguments of its hook.
fn is_usable(program: Program, config: &Config) -> bool {
    let mut hooks = Capability::ALL.into_iter().map(Capability::hook);
    hooks.all(|hook| !hook.has(program) || (hook.is_usable)(program, config))
}

/// Whether a module is loaded and has finished its own start. Before that its types are
/// there already, but hooks in it are refused. A module that is built in has no such state.
pub fn is_live(root: &Path, module: &str) -> bool {
    let state = root.join(format!("sys/module/{module}/initstate"));
    read_line(&state).is_some_and(|state| state == "live")
}

/// Whether the kernel has a module's types, which lie beside its own.
pub fn has_types(btf: &Path, module: &str) -> bool {
    btf.with_file_name(module).exists()
}

/// The types of one module, as the running kernel has them.
fn read_module(folder: &Path, module: &str) -> Result<Vec<u8>, ModuleBtfError> {
    if !is_live(Path::new("/"), module) {
        return Err(ModuleBtfError::NotLoaded);
    }
    fs::read(folder.join(module)).map_err(|error| match error.kind() {
        ErrorKind::NotFound => ModuleBtfError::NoTypes,
        _ => ModuleBtfError::Unreadable(error.to_string()),
    })
}

/// The version, as `uname -r` says it. It is shown to people, and nothing is decided by it.
pub fn release() -> String {
    read_line(Path::new("/proc/sys/kernel/osrelease")).unwrap_or_else(|| "unknown".to_owned())
}

/// The mode in brackets, as in `none [integrity] confidentiality`. A container's own
/// `/sys` does not have the file, but the node's has it.
fn lockdown(roots: &[&Path]) -> String {
    let lines =
        roots.iter().filter_map(|root| read_line(&root.join("sys/kernel/security/lockdown")));
    let mut modes = lines.filter_map(|line| {
        let mode = line.split_once('[')?.1.split_once(']')?.0;
        ["none", "integrity", "confidentiality"].into_iter().find(|known| *known == mode)
    });
    modes.next().unwrap_or("unknown").to_owned()
}

fn read_line(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::draft::{Draft, FUNCTION, POINTER, PROTOTYPE, STRUCT, TYPEDEF};

    #[test]
    fn lockdown_is_read_from_the_node_where_the_container_does_not_have_it() {
        let [own, node] = [(), ()].map(|()| tempfile::tempdir().unwrap());
        let roots = [own.path(), node.path()];
        assert_eq!(lockdown(&roots), "unknown");
        let write = |root: &Path, text: &str| {
            fs::create_dir_all(root.join("sys/kernel/security")).unwrap();
            fs::write(root.join("sys/kernel/security/lockdown"), text).unwrap();
        };
        for (text, expected) in [
            ("none integrity [confidentiality]\n", "confidentiality"),
            ("none [integrity] confidentiality\n", "integrity"),
            ("[none] integrity confidentiality\n", "none"),
            ("[something else]\n", "unknown"),
            ("none integrity\n", "unknown"),
        ] {
            write(node.path(), text);
            assert_eq!(lockdown(&roots), expected, "{text}");
        }
        write(node.path(), "[none] integrity confidentiality");
        write(own.path(), "none [integrity] confidentiality");
        assert_eq!(lockdown(&roots), "integrity", "the first that says it");
    }

    #[test]
    fn a_kernel_has_mended_trampolines_by_their_callback_or_their_struct() {
        let check = |more: &[(u32, &str)], expected| {
            let mut draft = Draft::base();
            draft.add(PROTOTYPE, "", 0, &[]);
            for (kind, name) in more {
                draft.add(*kind, name, if *kind == STRUCT { 8 } else { 1 }, &[]);
            }
            let bytes = draft.bytes();
            let kernel = KernelTypes::parse(&bytes).unwrap();
            assert_eq!(keeps_trampolines(&kernel), expected, "{more:?}");
        };
        check(&[], false);
        check(&[(FUNCTION, "bpf_tramp_image_put")], false);
        check(&[(FUNCTION, "__bpf_tramp_image_put_rcu")], true);
        check(&[(STRUCT, "bpf_tramp_image")], true);
    }

    /// Without exits neither strategy that has one serves, and the third does.
    #[test]
    fn exits_of_functions_are_what_takes_mended_trampolines() {
        for exit in [Program::FsyncExit, Program::SyncExit, Program::VfsRangeExit] {
            assert!(exit.is_exit(), "{exit}");
        }
        for other in [Program::FsyncEntry, Program::SysExit, Program::Ext4SyncFileExit] {
            assert!(!other.is_exit(), "{other}");
        }
        for strategy in Capability::Sync.strategies() {
            let mut steps = strategy.steps.iter().filter(|step| step.required);
            let needs_exit = steps.any(|step| step.program.is_exit());
            assert_eq!(needs_exit, strategy.name != "tracepoint", "{}", strategy.name);
        }
        let facts = Facts::with_config(Config::ABSENT);
        let why = facts.absence(Program::FsyncExit);
        assert!(why.starts_with("no safe exit of `__"), "{why}");
        assert!(!facts.absence(Program::FsyncEntry).contains("trampoline"));
    }

    #[test]
    fn a_module_that_came_later_has_its_own_hooks_and_no_others() {
        let mut kernel = Draft::base();
        kernel.add(PROTOTYPE, "", 0, &[]);
        let mut types = Draft::after(&kernel);
        // The kernel has one type, so these are its second to fifth.
        types.add(POINTER, "", 1, &[]);
        types.add(TYPEDEF, "btf_trace_xfs_log_force", 2, &[]);
        types.add(TYPEDEF, "btf_trace_btrfs_sync_file", 2, &[]);
        // It has no arguments, so its program cannot reach the field that it reads.
        types.add(TYPEDEF, "btf_trace_xfs_file_fsync", 2, &[]);
        let mut facts = Facts::with_config(Config::ABSENT);
        facts.meet(&kernel.bytes(), "xfs", &types.bytes()).unwrap();
        let found: Vec<_> = Program::ALL
            .iter()
            .filter_map(|&p| facts.location(p).map(|location| (p, location)))
            .collect();
        let location = HookLocation::Module(InModule { module: "xfs", type_id: 3 });
        assert_eq!(found, [(Program::XfsLogForce, location)]);
        assert!(facts.meet(b"no types", "xfs", &types.bytes()).is_err());
        assert!(facts.meet(&kernel.bytes(), "xfs", b"no types").is_err());
    }
}
