//! The plan of boots, and the changes that the command line makes to it.

use std::fmt;

use anyhow::Result;
use clap::ValueEnum;

use crate::{arch::Arch, kernels::Series};

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Lockdown {
    #[value(name = "none")]
    Off,
    Integrity,
    Confidentiality,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Cgroup {
    V1,
    V2,
}

impl Lockdown {
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "none",
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
        }
    }
}

impl Cgroup {
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// One machine to boot, and what to run in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Boot {
    pub series: Series,
    pub arch: Arch,
    pub lockdown: Lockdown,
    pub cpus: u32,
    pub cgroup: Cgroup,
    /// Tests are run if their names contain one of these.
    pub tests: Vec<String>,
    /// Tests are left out if their names contain one of these.
    pub without: Vec<String>,
}

struct Row(&'static str, Arch, Lockdown, u32, Cgroup, &'static [&'static str]);

use Arch::{Arm, X86};
use Cgroup::{V1, V2};
use Lockdown::{Confidentiality, Integrity, Off};

/// Everything that can run in a guest.
const EVERYTHING: &[&str] = &["live::", "guest::"];
/// Covers every way to sync, filesystems of all kinds, and requests compared with the
/// kernel's own counts.
const FEW_TESTS: &[&str] =
    &["guest::beyond::", "live::syncs::", "live::block::counts", "live::program::doctor"];

/// Covers all tests except for those that do not depend on the kernel, such as the command
/// line, and for schedulers that change under load.
const FULL: &[&str] = &["guest::", "live::cells::", "live::syncs::", "live::program::doctor"];
const CELLS: &[&str] = &["live::cells::cells", "live::program::doctor"];
const STRICT: &[&str] = &["live::cells::cells", "live::program::doctor", "guest::stalls::"];
const ARM: &[&str] = &[
    "live::cells::",
    "live::syncs::",
    "live::program::",
    "live::block::counts",
    "guest::beyond::",
];

/// Tests that need a machine of some speed. In an emulated machine they prove nothing, so
/// they run in a guest only if they are named.
const UNFIT: &[&str] =
    &["live::demo::", "live::etcd::", "live::scenarios::", "within_five_seconds"];

/// The boots for every change: the oldest kernel, the newest, the strictest lockdown, the
/// other architecture.
const SHORT: [Row; 5] = [
    Row("5.10", X86, Off, 1, V2, FEW_TESTS),
    Row("6.1", X86, Off, 2, V2, FEW_TESTS),
    Row("6.12", X86, Confidentiality, 1, V2, FEW_TESTS),
    Row("7", X86, Off, 1, V2, FEW_TESTS),
    Row("6.12", Arm, Off, 1, V2, FEW_TESTS),
];

/// The boots for a release. A lockdown changes what may be loaded, and not what is seen, so
/// only the cells run under it, and under the strictest one the stalled trim as well.
const ALL: [Row; 22] = [
    Row("5.10", X86, Off, 1, V2, FULL),
    Row("6.1", X86, Off, 1, V2, FULL),
    Row("6.12", X86, Off, 1, V2, FULL),
    Row("6", X86, Off, 1, V2, FULL),
    Row("7", X86, Off, 1, V2, FULL),
    Row("5.10", X86, Integrity, 1, V2, CELLS),
    Row("6.1", X86, Integrity, 1, V2, CELLS),
    Row("6.12", X86, Integrity, 1, V2, CELLS),
    Row("6", X86, Integrity, 1, V2, CELLS),
    Row("7", X86, Integrity, 1, V2, CELLS),
    Row("5.10", X86, Confidentiality, 1, V2, CELLS),
    Row("6.1", X86, Confidentiality, 1, V2, CELLS),
    Row("6.12", X86, Confidentiality, 1, V2, STRICT),
    Row("6", X86, Confidentiality, 1, V2, CELLS),
    Row("7", X86, Confidentiality, 1, V2, STRICT),
    Row("6.1", X86, Off, 2, V1, CELLS),
    Row("6.12", X86, Off, 4, V2, CELLS),
    Row("6.12-rt", X86, Off, 1, V2, CELLS),
    Row("5.10", Arm, Off, 1, V2, ARM),
    Row("6.1", Arm, Off, 1, V2, ARM),
    Row("6.12", Arm, Off, 2, V2, ARM),
    Row("7", Arm, Off, 1, V2, ARM),
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plan {
    Short,
    All,
}

/// Deviations from the plan that the user asked for.
#[derive(Default)]
pub struct Wishes {
    pub kernels: Vec<Series>,
    pub arch: Option<Arch>,
    pub lockdown: Option<Lockdown>,
    pub cpus: Option<u32>,
    pub cgroup: Option<Cgroup>,
    pub tests: Vec<String>,
}

/// The boots of a plan; without a plan, a boot for each kernel that is named.
pub fn boots(plan: Option<Plan>, wishes: &Wishes) -> Result<Vec<Boot>> {
    let rows = match plan {
        Some(Plan::Short) => SHORT.as_slice(),
        Some(Plan::All) => &ALL,
        None if wishes.kernels.is_empty() => &SHORT,
        None => {
            return Ok(wishes.kernels.iter().map(|series| wishes.boot(series)).collect());
        }
    };
    let mut boots = Vec::new();
    for row in rows {
        let mut boot = row.boot()?;
        let is_asked = |series: &Series| *series == boot.series;
        if !wishes.kernels.is_empty() && !wishes.kernels.iter().any(is_asked) {
            continue;
        }
        if wishes.arch.is_some_and(|arch| arch != boot.arch) {
            continue;
        }
        boot.lockdown = wishes.lockdown.unwrap_or(boot.lockdown);
        boot.cpus = wishes.cpus.unwrap_or(boot.cpus);
        boot.cgroup = wishes.cgroup.unwrap_or(boot.cgroup);
        if !wishes.tests.is_empty() {
            boot.tests.clone_from(&wishes.tests);
            boot.without.clear();
        }
        // Two rows may have become equal.
        if !boots.contains(&boot) {
            boots.push(boot);
        }
    }
    Ok(boots)
}

impl Wishes {
    fn boot(&self, series: &Series) -> Boot {
        let (tests, without) = match self.tests.as_slice() {
            [] => (owned(EVERYTHING), owned(UNFIT)),
            named => (named.to_vec(), Vec::new()),
        };
        Boot {
            series: series.clone(),
            arch: self.arch.unwrap_or(Arch::host()),
            lockdown: self.lockdown.unwrap_or(Off),
            cpus: self.cpus.unwrap_or(1),
            cgroup: self.cgroup.unwrap_or(V2),
            tests,
            without,
        }
    }
}

impl Row {
    fn boot(&self) -> Result<Boot> {
        let &Self(series, arch, lockdown, cpus, cgroup, tests) = self;
        let (series, tests, without) = (series.parse()?, owned(tests), owned(UNFIT));
        Ok(Boot { series, arch, lockdown, cpus, cgroup, tests, without })
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

impl Boot {
    /// Leaves out the tests that need not run again here, and returns how many. Tests are
    /// selected by parts of their names: one that cannot be left out without another is run
    /// again.
    pub fn leave_out(&mut self, all: &[String], has_passed: impl Fn(&str) -> bool) -> u64 {
        let names = |parts: &[String], test: &str| parts.iter().any(|part| test.contains(part));
        let runs = |test: &&String| names(&self.tests, test) && !names(&self.without, test);
        let (passed, others): (Vec<_>, Vec<_>) =
            all.iter().filter(runs).partition(|test| has_passed(test));
        let alone = |test: &&String| !others.iter().any(|other| other.contains(test.as_str()));
        let left: Vec<_> = passed.into_iter().filter(alone).cloned().collect();
        let count = left.len() as u64;
        self.without.extend(left);
        count
    }

    /// The differences from the plain boot of the same kernel, in words.
    pub fn unusual(&self) -> Vec<String> {
        let lockdown = (self.lockdown != Off).then(|| format!("lockdown={}", self.lockdown.name()));
        let cpus = (self.cpus != 1).then(|| format!("{} CPUs", self.cpus));
        let cgroup = (self.cgroup == V1).then(|| "cgroup v1".to_owned());
        [lockdown, cpus, cgroup].into_iter().flatten().collect()
    }
}

/// The boot's name in progress lines and files, which mentions only what is unusual.
impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.series, self.arch.name())?;
        match self.lockdown {
            Off => {}
            Integrity => f.write_str("-integrity")?,
            Confidentiality => f.write_str("-confidentiality")?,
        }
        if self.cpus > 1 {
            write!(f, "-{}cpus", self.cpus)?;
        }
        if self.cgroup == V1 {
            f.write_str("-cgroup1")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(plan: Option<Plan>, wishes: &Wishes) -> Vec<String> {
        boots(plan, wishes).unwrap().iter().map(Boot::to_string).collect()
    }

    #[test]
    fn every_boot_of_a_plan_has_a_name_of_its_own() {
        for plan in [Plan::Short, Plan::All] {
            let mut all = names(Some(plan), &Wishes::default());
            let count = all.len();
            all.sort();
            all.dedup();
            assert_eq!(all.len(), count);
        }
    }

    #[test]
    fn kernels_that_are_named_need_no_plan() {
        let wishes = Wishes {
            kernels: vec!["6.18".parse().unwrap()],
            arch: Some(Arm),
            cpus: Some(4),
            ..Wishes::default()
        };
        assert_eq!(names(None, &wishes), ["6.18-aarch64-4cpus"]);
    }

    #[test]
    fn tests_that_have_passed_are_left_out_of_a_boot() {
        let names = |names: &[&str]| owned(names);
        let mut boot = boots(Some(Plan::Short), &Wishes::default()).unwrap().remove(0);
        boot.tests = names(&["live::"]);
        boot.without = names(&["live::demo::"]);
        let all = names(&["live::a", "live::ab", "live::b", "live::demo::x", "guest::a"]);
        assert_eq!(boot.clone().leave_out(&all, |_| false), 0);
        // To leave out `live::a` would leave out `live::ab`, which has not passed.
        let passed = ["live::a", "live::b", "live::demo::x", "guest::a"];
        let mut some = boot.clone();
        assert_eq!(some.leave_out(&all, |test| passed.contains(&test)), 1);
        assert_eq!(some.without, ["live::demo::", "live::b"]);
        assert_eq!(boot.leave_out(&all, |_| true), 3);
        assert_eq!(boot.without, ["live::demo::", "live::a", "live::ab", "live::b"]);
    }

    #[test]
    fn a_plan_is_narrowed_to_what_is_named() {
        let wishes = Wishes { kernels: vec!["6.12".parse().unwrap()], ..Wishes::default() };
        assert_eq!(
            names(Some(Plan::Short), &wishes),
            ["6.12-x86_64-confidentiality", "6.12-aarch64"]
        );
        // All lockdowns become one.
        let wishes = Wishes {
            arch: Some(X86),
            lockdown: Some(Integrity),
            cpus: Some(1),
            tests: vec!["x".into()],
            ..wishes
        };
        assert_eq!(names(Some(Plan::All), &wishes), ["6.12-x86_64-integrity"]);
    }
}
