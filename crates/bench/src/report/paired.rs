//! Arms that were measured in turn, block by block, and how they compare.
//!
//! A figure of one arm is compared with the same figure of another in the same block:
//! the logarithm of their ratio is one paired difference, and
//! [`signed_rank`](super::signed_rank) computes one interval from all of them. Only the
//! raw figures are stored; everything else is computed from them again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{self, Write},
};

use serde::{Deserialize, Serialize};

use super::{machine::Machine, requirements::Requirement, signed_rank::Interval, spread::number};

/// An interval is narrow if it reaches no further than this to either side.
const NARROW: f64 = 0.02;

/// With fewer blocks no interval counts, however narrow: checking after each block and
/// stopping at the first narrow interval would find one by luck.
const LEAST_BLOCKS: usize = 20;

/// A variant that is measured in turn with others.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// No tracer.
    Nobody,
    /// No tracer, a second time.
    Again,
    /// The tracer of this tree.
    Ours,
    /// The tracer of another commit.
    Theirs,
}

/// The load's figures in one arm of one block.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Sample {
    pub reads_per_second: f64,
    pub syncs_per_second: f64,
    pub sync_p50_us: f64,
    pub sync_p99_us: f64,
}

/// The kernel time of an arm's programs, in ns.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Kernel {
    pub per_request_ns: f64,
    pub per_sync_ns: f64,
    /// Keyed by program name; only programs that ran often have an entry.
    pub per_run_of_reads_ns: BTreeMap<String, f64>,
    pub per_run_of_syncs_ns: BTreeMap<String, f64>,
}

/// The measurements of all arms, each once.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Block {
    pub samples: BTreeMap<Arm, Sample>,
    pub kernel: BTreeMap<Arm, Kernel>,
}

/// The whole measurement.
#[derive(Deserialize, Serialize)]
pub struct Blocks {
    /// The seed of the orders of arms.
    pub seed: u64,
    /// Whether idle CPUs were kept from sleeping.
    pub kept_awake: bool,
    /// The other commit, if there is one.
    pub against: Option<String>,
    pub blocks: Vec<Block>,
}

/// One run, as it is stored.
#[derive(Deserialize, Serialize)]
pub struct Paired {
    pub machine: Machine,
    #[serde(flatten)]
    pub measured: Blocks,
    /// Computed from the blocks, and not read from the JSON.
    #[serde(default, skip_deserializing)]
    load: Vec<Row>,
    #[serde(default, skip_deserializing)]
    kernel: Vec<KernelRow>,
    #[serde(default, skip_deserializing)]
    requirements: Vec<Requirement>,
}

/// A ratio with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    pub ratio: f64,
    pub low: f64,
    pub high: f64,
    pub pairs: usize,
    pub is_narrow: bool,
}

/// One figure of an arm, compared with another's.
#[derive(Debug, Serialize)]
pub struct Row {
    pub arms: (Arm, Arm),
    pub what: &'static str,
    /// The median of each arm.
    pub values: (f64, f64),
    pub unit: &'static str,
    /// Absent with too few pairs.
    pub ratio: Option<Ratio>,
}

/// The kernel time of each build, and the ratio if there are two.
#[derive(Debug, Serialize)]
pub struct KernelRow {
    pub what: String,
    pub ours: Option<Absolute>,
    pub theirs: Option<Absolute>,
    pub ratio: Option<Ratio>,
}

/// A time in ns with its interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Absolute {
    pub ns: f64,
    pub low: f64,
    pub high: f64,
}

/// A figure of a sample.
struct Figure {
    what: &'static str,
    unit: &'static str,
    of: fn(&Sample) -> f64,
}

const READS: &str = "reads per second";
const SYNCS: &str = "fdatasyncs per second";

const FIGURES: [Figure; 4] = [
    Figure { what: READS, unit: "/s", of: |sample| sample.reads_per_second },
    Figure { what: SYNCS, unit: "/s", of: |sample| sample.syncs_per_second },
    Figure { what: "fdatasync, median", unit: "us", of: |sample| sample.sync_p50_us },
    Figure { what: "fdatasync, p99", unit: "us", of: |sample| sample.sync_p99_us },
];

const NULL: (Arm, Arm) = (Arm::Again, Arm::Nobody);
const COST: (Arm, Arm) = (Arm::Ours, Arm::Nobody);
const THEIR_COST: (Arm, Arm) = (Arm::Theirs, Arm::Nobody);
const CHANGE: (Arm, Arm) = (Arm::Ours, Arm::Theirs);

impl Arm {
    /// Lists the arms of a run with another commit or without.
    pub fn all(with_theirs: bool) -> &'static [Self] {
        const ALL: [Arm; 4] = [Arm::Nobody, Arm::Again, Arm::Ours, Arm::Theirs];
        if with_theirs { &ALL } else { &ALL[..3] }
    }
}

impl Ratio {
    /// Computes the ratio from pairs of positive figures.
    fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        let logs: Vec<_> = pairs.iter().map(|(one, other)| (one / other).ln()).collect();
        Interval::of(&logs).map(|interval| Self {
            ratio: interval.estimate.exp(),
            low: interval.low.exp(),
            high: interval.high.exp(),
            pairs: interval.pairs,
            is_narrow: interval.half_width() < NARROW.ln_1p(),
        })
    }

    /// `0.993 (0.985–1.002)`.
    fn shown(&self) -> String {
        format!("{:.3} ({})", self.ratio, self.range())
    }

    fn range(&self) -> String {
        format!("{:.3}–{:.3}", self.low, self.high)
    }

    /// Whether it lies within bounds: known only if all of its interval lies within them,
    /// or all of it outside.
    fn is_within(&self, low: f64, high: f64) -> Option<bool> {
        if low <= self.low && self.high <= high {
            Some(true)
        } else if self.high < low || high < self.low {
            Some(false)
        } else {
            None
        }
    }
}

impl Absolute {
    fn of(values: &[f64]) -> Option<Self> {
        let logs: Vec<_> = values.iter().map(|value| value.ln()).collect();
        Interval::of(&logs).map(|interval| Self {
            ns: interval.estimate.exp(),
            low: interval.low.exp(),
            high: interval.high.exp(),
        })
    }
}

impl Blocks {
    fn comparisons(&self) -> Vec<(Arm, Arm)> {
        let mut all = vec![NULL, COST];
        if self.against.is_some() {
            all.extend([THEIR_COST, CHANGE]);
        }
        all
    }

    fn pairs(&self, arms: (Arm, Arm), of: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
        let both = |block: &Block| {
            Some((of(block.samples.get(&arms.0)?), of(block.samples.get(&arms.1)?)))
        };
        self.blocks.iter().filter_map(both).collect()
    }

    pub fn load_rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for arms in self.comparisons() {
            for figure in &FIGURES {
                let pairs = self.pairs(arms, figure.of);
                let (one, other): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
                rows.push(Row {
                    arms,
                    what: figure.what,
                    values: (median(one), median(other)),
                    unit: figure.unit,
                    ratio: Ratio::of(&pairs),
                });
            }
        }
        rows
    }

    pub fn kernel_rows(&self) -> Vec<KernelRow> {
        let mut rows = vec![
            self.kernel_row("all programs, per request", |kernel| Some(kernel.per_request_ns)),
            self.kernel_row("all programs, per fdatasync", |kernel| Some(kernel.per_sync_ns)),
        ];
        type Names = fn(&Kernel) -> &BTreeMap<String, f64>;
        let views: [(&str, Names); 2] = [
            ("under reads", |kernel| &kernel.per_run_of_reads_ns),
            ("under fdatasyncs", |kernel| &kernel.per_run_of_syncs_ns),
        ];
        for (view, names) in views {
            let kernels = self.blocks.iter().flat_map(|block| block.kernel.values());
            let all: BTreeSet<_> = kernels.flat_map(|kernel| names(kernel).keys()).collect();
            for name in all {
                let what = format!("{name}, per run {view}");
                rows.push(self.kernel_row(&what, |kernel| names(kernel).get(name).copied()));
            }
        }
        rows.retain(|row| row.ours.is_some() || row.theirs.is_some());
        rows
    }

    fn kernel_row(&self, what: &str, of: impl Fn(&Kernel) -> Option<f64>) -> KernelRow {
        let one = |block: &Block, arm| block.kernel.get(&arm).and_then(&of).filter(|ns| *ns > 0.0);
        let all = |arm| self.blocks.iter().filter_map(|block| one(block, arm)).collect::<Vec<_>>();
        let both = |block| Some((one(block, CHANGE.0)?, one(block, CHANGE.1)?));
        KernelRow {
            what: what.to_owned(),
            ours: Absolute::of(&all(Arm::Ours)),
            theirs: Absolute::of(&all(Arm::Theirs)),
            ratio: Ratio::of(&self.blocks.iter().filter_map(both).collect::<Vec<_>>()),
        }
    }

    /// Whether there are enough blocks, and the intervals are narrow for every ratio of the
    /// load and for the time that two builds' programs take for requests and for syncs.
    pub fn is_done(&self) -> bool {
        let load = self.load_rows().into_iter().map(|row| row.ratio);
        // The other rows of the kernel break these down.
        let kernel = self.kernel_rows().into_iter().take(2).map(|row| row.ratio);
        let kernel = kernel.filter(|_| self.against.is_some());
        self.blocks.len() >= LEAST_BLOCKS
            && load.chain(kernel).all(|ratio| ratio.is_some_and(|ratio| ratio.is_narrow))
    }

    /// The progress, in one line.
    pub fn progress(&self) -> String {
        let rows = self.load_rows();
        let narrow = rows.iter().filter(|row| row.ratio.is_some_and(|ratio| ratio.is_narrow));
        format!(
            "block {}, {} of {} ratios within {} %",
            self.blocks.len(),
            narrow.count(),
            rows.len(),
            number(NARROW * 100.0)
        )
    }

    fn name(&self, arm: Arm) -> &str {
        match arm {
            Arm::Nobody => "no tracer",
            Arm::Again => "no tracer again",
            Arm::Ours => "this tree",
            Arm::Theirs => self.against.as_deref().unwrap_or("another commit"),
        }
    }

    fn heading(&self, arms: (Arm, Arm)) -> String {
        let (one, other) = (self.name(arms.0), self.name(arms.1));
        let null = if arms == NULL { ": the null case, what the method resolves" } else { "" };
        format!("{one} / {other}{null}")
    }

    pub fn requirements(&self) -> Vec<Requirement> {
        let rows = self.load_rows();
        let both = |arms: (Arm, Arm), low: f64, high: f64, asked: &str| {
            let rows: Vec<_> = rows.iter().filter(|row| row.arms == arms).collect();
            let held = |what: &'static str| {
                let ratio = rows.iter().find(|row| row.what == what).and_then(|row| row.ratio);
                Requirement {
                    asked: format!("{what}: {asked}"),
                    measured: ratio.map_or_else(|| "too few pairs".to_owned(), |r| r.shown()),
                    reached: ratio.and_then(|ratio| ratio.is_within(low, high)),
                }
            };
            [held(READS), held(SYNCS)]
        };
        let mut all = Vec::new();
        all.extend(both(NULL, 0.99, 1.01, "no tracer twice, 0.99 to 1.01"));
        all.extend(both(COST, 0.98, f64::INFINITY, "≥ 0.98 × those without a tracer"));
        if let Some(commit) = &self.against {
            all.extend(both(CHANGE, 0.98, 1.02, &format!("0.98 to 1.02 × those of {commit}")));
        }
        all
    }
}

impl Paired {
    pub fn new(machine: Machine, measured: Blocks) -> Self {
        let mut paired = Self {
            machine,
            measured,
            load: Vec::new(),
            kernel: Vec::new(),
            requirements: Vec::new(),
        };
        paired.evaluate();
        paired
    }

    /// Computes what is not read from the JSON.
    pub fn evaluate(&mut self) {
        self.load = self.measured.load_rows();
        self.kernel = self.measured.kernel_rows();
        self.requirements = self.measured.requirements();
    }

    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }

    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let Machine { cpu, cores, kernel, date, load_before, .. } = &self.machine;
        writeln!(out, "{cpu}, {cores} cores, Linux {kernel}, {date}, load before {load_before}")?;
        writeln!(out, "{}", self.method())?;
        let mut last = None;
        for row in &self.load {
            if last.replace(row.arms) != Some(row.arms) {
                writeln!(out, "\n{}", self.measured.heading(row.arms))?;
                let heads = ["ratio", "95 % interval", "pairs"];
                let [ratio, interval, pairs] = heads;
                writeln!(out, "{:46}{ratio:>8}{interval:>16}{pairs:>7}", "")?;
            }
            let Row { what, values: (one, other), unit, .. } = row;
            let values = format!("{} / {} {unit}", number(*one), number(*other));
            write!(out, "  {what:22}{values:22}")?;
            write_ratio(out, row.ratio)?;
        }
        let against = self.measured.against.as_deref().unwrap_or("");
        writeln!(out, "\nBPF run time, in ns")?;
        writeln!(out, "  {:42}{:>10}{:>16}{against:>10}", "", "this tree", "95 % interval")?;
        for row in &self.kernel {
            let KernelRow { what, ours, theirs, ratio } = row;
            let ns = |of: &Option<Absolute>| of.map_or_else(String::new, |of| number(of.ns));
            let interval = ours.map_or_else(String::new, |ours| ours.range());
            let (ours, theirs) = (ns(ours), ns(theirs));
            write!(out, "  {what:42}{ours:>10}{interval:>16}{theirs:>10}")?;
            match ratio {
                Some(_) => write_ratio(out, *ratio)?,
                None => writeln!(out)?,
            }
        }
        writeln!(out)?;
        for Requirement { asked, measured, reached } in &self.requirements {
            writeln!(out, "{asked}: {measured}: {}", verdict(*reached))?;
        }
        Ok(())
    }

    /// Tables for the page, without a heading.
    pub fn page(&self) -> String {
        let mut text = String::new();
        let Machine { cpu, cores, kernel, date, command, load_before, .. } = &self.machine;
        let _ = write!(
            text,
            "{cpu}, {cores} cores; Linux {kernel}; {date}; `{command}`; load of others before: \
             {load_before}. {}\n\n| asked | measured | reached |\n|---|---|---|\n",
            self.method()
        );
        for Requirement { asked, measured, reached } in &self.requirements {
            let _ = writeln!(text, "| {asked} | {measured} | {} |", verdict(*reached));
        }
        let mut last = None;
        for row in &self.load {
            if last.replace(row.arms) != Some(row.arms) {
                let heading = self.measured.heading(row.arms);
                let _ = write!(
                    text,
                    "\n{heading}:\n\n| | | ratio | 95 % interval | pairs |\n\
                     |---|---:|---:|---:|---:|\n"
                );
            }
            let Row { what, values: (one, other), unit, ratio, .. } = row;
            let (one, other) = (number(*one), number(*other));
            let _ = writeln!(text, "| {what} | {one} / {other} {unit} | {} |", cells(*ratio));
        }
        let against = self.measured.against.as_deref();
        let _ = write!(
            text,
            "\nBPF run time, in ns:\n\n| | this tree | 95 % interval | {} | ratio | 95 % interval \
             | pairs |\n|---|---:|---:|---:|---:|---:|---:|\n",
            against.unwrap_or("another commit")
        );
        for KernelRow { what, ours, theirs, ratio } in &self.kernel {
            let ns = |of: &Option<Absolute>| of.map_or_else(String::new, |of| number(of.ns));
            let interval = ours.map_or_else(String::new, |ours| ours.range());
            let ratio = ratio.map_or_else(|| " |  | ".to_owned(), |ratio| cells(Some(ratio)));
            let (ours, theirs) = (ns(ours), ns(theirs));
            let _ = writeln!(text, "| {what} | {ours} | {interval} | {theirs} | {ratio} |");
        }
        text
    }

    fn method(&self) -> String {
        let minutes = number((self.machine.took_seconds as f64 / 6.0).round() / 10.0);
        let Blocks { seed, kept_awake, blocks, .. } = &self.measured;
        let sleep = if *kept_awake { "kept awake" } else { "free to sleep" };
        format!(
            "{} blocks in {minutes} minutes, each arm once in a block, orders drawn from {seed}; \
             idle CPUs {sleep}.",
            blocks.len()
        )
    }
}

impl Absolute {
    fn range(&self) -> String {
        format!("{}–{}", number(self.low), number(self.high))
    }
}

fn write_ratio(out: &mut impl Write, ratio: Option<Ratio>) -> io::Result<()> {
    let Some(ratio) = ratio else { return writeln!(out, "  too few pairs") };
    let (range, wide) = (ratio.range(), too_wide(&ratio));
    writeln!(out, "{:>8.3}{range:>16}{:>7}{wide}", ratio.ratio, ratio.pairs)
}

fn cells(ratio: Option<Ratio>) -> String {
    let Some(ratio) = ratio else { return "too few pairs |  | ".to_owned() };
    let (range, wide) = (ratio.range(), too_wide(&ratio));
    format!("{:.3} | {range}{wide} | {}", ratio.ratio, ratio.pairs)
}

fn too_wide(ratio: &Ratio) -> String {
    if ratio.is_narrow { String::new() } else { format!("  not within {} %", NARROW * 100.0) }
}

fn verdict(reached: Option<bool>) -> &'static str {
    match reached {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "unknown",
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        len => f64::midpoint(values[(len - 1) / 2], values[len / 2]),
    }
}
