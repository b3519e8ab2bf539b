//! Boots as a part of all tests.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::{
    Builds,
    arch::Arch,
    args::VmArgs,
    plan::{Boot, Plan},
    report::{self, Report, Verdict},
    run::{self, Fetched},
};

/// The boots of a plan as a part of all tests, and what they need from Debian, or the
/// reason why that is not available.
pub struct Guests {
    boots: Vec<Boot>,
    /// The names of boots that need not be done again.
    finished: Vec<String>,
    args: VmArgs,
    fetched: Option<Result<Fetched, String>>,
}

impl Guests {
    pub fn plan(of: Plan) -> Result<Self> {
        let (short, all) = (of == Plan::Short, of == Plan::All);
        let args = VmArgs { short, all, ..VmArgs::default() };
        Ok(Self { boots: args.plan()?, finished: Vec::new(), args, fetched: None })
    }

    /// Removes boots from the plan that were done before.
    pub fn leave_out_boots(&mut self, is_finished: impl Fn(&str) -> bool) {
        let names = self.boots.iter().map(Boot::to_string);
        self.finished = names.filter(|name| is_finished(name)).collect();
        self.boots.retain(|boot| !self.finished.contains(&boot.to_string()));
    }

    /// The machines that boot.
    pub fn arches(&self) -> BTreeSet<Arch> {
        self.boots.iter().map(|boot| boot.arch).collect()
    }

    pub fn finished(&self) -> &[String] {
        &self.finished
    }

    /// Removes tests from the boots in which they have passed before, and returns how many.
    pub fn leave_out_tests(
        &mut self,
        all: &[String],
        has_passed: impl Fn(&str, &str) -> bool,
    ) -> u64 {
        let boots = self.boots.iter_mut().map(|boot| {
            let name = boot.to_string();
            boot.leave_out(all, |test| has_passed(&name, test))
        });
        boots.sum()
    }

    /// Fetches what the boots need. This mostly waits, so the caller can do something else at
    /// the same time.
    pub fn fetch(&mut self) {
        if !self.boots.is_empty() {
            let fetched = run::fetch(&self.boots, &self.args);
            self.fetched = Some(fetched.map_err(|error| format!("{error:#}")));
        }
    }

    /// Does all boots, and passes on the report of each when it has ended. If the kernels are
    /// not available the boots are skipped, with the reason, unless they `must_run`.
    pub fn run(
        self,
        must_run: bool,
        builds: &Builds,
        ended: &(dyn Fn(&Report) + Sync),
    ) -> Result<Vec<Report>> {
        let reports = match self.fetched {
            None => return Ok(Vec::new()),
            Some(Ok(fetched)) => run::run_all(&self.boots, fetched, &self.args, builds, ended)?,
            Some(Err(why)) if must_run => bail!("no virtual machine is available: {why}"),
            Some(Err(why)) => {
                let skip = |boot| Report::new(boot, "", Verdict::Skipped(why.clone()));
                self.boots.iter().map(skip).collect()
            }
        };
        eprint!("{}", report::summary(&reports));
        Ok(reports)
    }
}
