//! The BPF objects that the kernel lists: the programs of any loader since a given
//! moment, their run counts and times, and the memory of their maps.
//!
//! It does not look at names, so it measures the tracer and any other tool in the same way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{maps::loaded_maps, programs::loaded_programs};

/// The objects that existed at that moment.
pub struct Since {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
}

/// One program, with its runs and its run time.
struct Program {
    name: String,
    runs: u64,
    ns: u64,
}

/// The runs of several programs together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Runs {
    pub programs: usize,
    pub runs: u64,
    pub ns: u64,
}

impl Since {
    pub fn now() -> Self {
        Self { programs: programs().into_keys().collect(), maps: maps().into_keys().collect() }
    }

    /// The runs of the programs that were loaded since then, while BPF statistics
    /// are on.
    pub fn runs(&self) -> Runs {
        let mut all = Runs::default();
        for (id, program) in programs() {
            if !self.programs.contains(&id) {
                all.programs += 1;
                all.runs += program.runs;
                all.ns += program.ns;
            }
        }
        all
    }

    /// Sums the runs and ns of programs that have the same name.
    pub fn by_name(&self) -> BTreeMap<String, (u64, u64)> {
        let mut all = BTreeMap::<_, (u64, u64)>::new();
        for (id, program) in programs() {
            if !self.programs.contains(&id) {
                let (runs, ns) = all.entry(program.name).or_default();
                *runs += program.runs;
                *ns += program.ns;
            }
        }
        all
    }

    pub fn count_programs(&self) -> usize {
        programs().into_keys().filter(|id| !self.programs.contains(id)).count()
    }

    /// Kernel memory of the maps that were created since then.
    pub fn map_bytes(&self) -> u64 {
        maps().into_iter().filter(|(id, _)| !self.maps.contains(id)).map(|(_, bytes)| bytes).sum()
    }
}

impl Runs {
    pub fn less(self, before: Self) -> Self {
        Self {
            programs: self.programs,
            runs: self.runs.saturating_sub(before.runs),
            ns: self.ns.saturating_sub(before.ns),
        }
    }
}

/// Lists programs by id. A program that is unloaded in the meantime is left out.
fn programs() -> BTreeMap<u32, Program> {
    let described = |program: aya::programs::ProgramInfo| {
        let name = String::from_utf8_lossy(program.name()).into_owned();
        let ns = program.run_time().as_nanos() as u64;
        (program.id(), Program { name, runs: program.run_count(), ns })
    };
    loaded_programs().filter_map(Result::ok).map(described).collect()
}

/// Lists the bytes of maps by id.
fn maps() -> BTreeMap<u32, u64> {
    let bytes = |map: &aya::maps::MapInfo| {
        let fd = map.fd().ok()?;
        let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
        parse_memlock(&fs::read_to_string(path).ok()?)
    };
    let maps = loaded_maps().filter_map(Result::ok);
    maps.map(|map| (map.id(), bytes(&map).unwrap_or(0))).collect()
}

fn parse_memlock(info: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse().ok()
}
