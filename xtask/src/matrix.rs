//! The matrix of timelines: on a model, or as cells on a real disk.
//!
//! On a model, the engine's own tests play thousands of timelines. Live, each cell is a
//! test of `live::matrix`, played as root in a process of its own. Its result is saved
//! as soon as it ends, as `cargo xtask test --all` saves its results; when most cells
//! of a tree have been played, their table is written ([`page`]).

mod page;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use tracer_step::{self as step, cargo, workspace};
use tracer_timelines::truth::Played;
use tracer_vm::tally::{Outcome, Tally};

use crate::{
    setup::{self, Need, Talk},
    test::{
        CELLS, begin_state, kernel,
        program::{Built, Program},
        state::{State, Timed},
        table::Row,
        today,
        tree::Tree,
    },
};

pub use page::PAGE;

pub const EXAMPLES: &str = "\
Examples:
  cargo xtask matrix                          Play 20,000 timelines on a model
  cargo xtask matrix --live --list            List the cells, which are played on a real disk
  cargo xtask matrix --live                   Play all of them, and write docs/verdicts.md
  cargo xtask matrix --live --resume          Continue that run after a ^C
  cargo xtask matrix --live --resume --most 9 Play the next nine
  cargo xtask matrix --live servers_stalls    Play the cells whose name contains this
docs/testing.md has more.";

/// The number of timelines that are played on a model.
const TIMELINES: &str = "20000";
/// A cell's test prints this before the cell's result.
const CELL: &str = "cell: ";

#[derive(Args)]
pub struct MatrixArgs {
    /// Play the cells on this kernel, as root, with an etcd, a neighbour and a simulated disk.
    #[arg(long)]
    live: bool,
    /// Play only the cells whose name contains this.
    #[arg(requires = "live")]
    filter: Option<String>,
    /// Skip the cells that were played before at exactly this tree.
    #[arg(long, requires = "live")]
    resume: bool,
    /// Play at most this many cells.
    #[arg(long, requires = "live", value_name = "NUMBER")]
    most: Option<usize>,
    /// List the cells, and play none.
    #[arg(long, requires = "live")]
    list: bool,
}

pub fn run(args: &MatrixArgs) -> Result<()> {
    if !args.live {
        setup::ensure(&[Need::Build], Talk::Changes)?;
        let mut tests = cargo("test");
        tests.args(["--package", "tracer-engine", "--release", "thousands", "--", "--nocapture"]);
        return step::run("matrix", tests.env("TRACER_TIMELINES", TIMELINES));
    }
    setup::ensure(&[Need::Build, Need::Test], Talk::Changes)?;
    let Built { tracer, live, .. } = Built::build()?;
    let cells: BTreeSet<_> =
        live.tests.iter().filter(|test| test.starts_with(CELLS)).cloned().collect();
    let is_asked = |cell: &&String| args.filter.as_ref().is_none_or(|part| cell.contains(part));
    let asked: Vec<_> = cells.iter().filter(is_asked).collect();
    ensure!(!asked.is_empty(), "no cell's name contains that");
    if args.list {
        asked.iter().for_each(|cell| println!("{cell}"));
        return Ok(());
    }
    let tree = Tree::find(workspace());
    let path = workspace().join("target/tested/matrix.jsonl");
    fs::create_dir_all(path.parent().context("the state lies in a directory")?)?;
    let mut state = begin_state(args.resume, args.filter.is_some(), &tree, &path)?;
    let kernel = kernel()?;
    let missing = asked.into_iter().filter(|cell| !args.resume || !state.has_ended(cell, &kernel));
    let next: Vec<_> = missing.take(args.most.unwrap_or(usize::MAX)).collect();
    let mut tally = Tally::default();
    for cell in next {
        let timed = play(cell, &live, &tracer, &tree, &kernel)?;
        tally_one(&mut tally, &timed.row.outcome);
        state.add(timed)?;
    }
    write(&cells, &state, &tree, &kernel)?;
    println!("{tally}");
    match tally.failed() {
        0 => Ok(()),
        failed => bail!("{failed} cells failed"),
    }
}

fn tally_one(tally: &mut Tally, outcome: &Outcome) {
    match outcome {
        Outcome::Passed => tally.add(1, 0, 0),
        Outcome::Failed => tally.add(0, 1, 0),
        Outcome::Skipped(_) => tally.add(0, 0, 1),
    }
}

fn play(cell: &str, live: &Program, tracer: &Path, tree: &Tree, kernel: &str) -> Result<Timed> {
    // The page counts single plays, so a wrong answer is final.
    let mut command: Command = live.as_root(tracer, &[("TRACER_ONE_PLAY", "1")])?;
    command.args(["--test-threads=1", "--nocapture", "--exact", cell]);
    let (begun, mut tally, mut said) = (Instant::now(), Tally::default(), Vec::new());
    let status = live.stream(cell, &mut command, |bytes: &[u8], now: Duration| {
        said.extend_from_slice(bytes);
        tally.feed(bytes, now);
        Ok(())
    })?;
    tally.end(status.success());
    let ended = tally.take_ended().pop();
    let outcome = ended.map_or(Outcome::Failed, |test| test.outcome);
    let row = Row {
        test: cell.to_owned(),
        commit: tree.name.clone(),
        kernel: kernel.to_owned(),
        date: today(),
        outcome,
    };
    let played = find_played(&String::from_utf8_lossy(&said))?;
    Ok(Timed { row, seconds: begun.elapsed().as_secs_f64(), played })
}

/// Finds the last result, which is the one that counts.
fn find_played(said: &str) -> Result<Option<Played>> {
    let line = said.lines().rev().find_map(|line| line.strip_prefix(CELL));
    line.map(|line| serde_json::from_str(line).context("a cell's result cannot be parsed"))
        .transpose()
}

/// Writes the table, unless most cells have not been played.
fn write(cells: &BTreeSet<String>, state: &State, tree: &Tree, kernel: &str) -> Result<()> {
    let played: Vec<_> = state.tests().filter(|test| cells.contains(&test.row.test)).collect();
    eprintln!("{} of {} cells have been played at this tree", played.len(), cells.len());
    if played.len() * 2 < cells.len() {
        return Ok(());
    }
    let path = workspace().join(PAGE);
    let cannot = || format!("failed to change `{}`", path.display());
    let old = fs::read_to_string(&path).with_context(cannot)?;
    let section = page::render(&played, cells.len(), &tree.name, kernel, &today());
    fs::write(&path, page::replace(&old, &section)?).with_context(cannot)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_play_of_a_cell_counts() {
        let cell = |mean: u32| {
            format!(
                r#"cell: {{"cell":{{"disk":"Servers","device":"Stalls","neighbour":"Gone","does":"Read","load":5}},"truth":[1.0,0.0],"means_ms":[1.0,{mean}.0],"said":{{"cause":"Device","device":0.9,"neighbour":0.0,"is_high":false}},"answer":"Right","has_accused":false}}"#
            )
        };
        let said = format!("test a ...\n{}\nplayed again: x\n{}\nok\n", cell(3), cell(4));
        assert_eq!(find_played(&said).unwrap().unwrap().means_ms, [1.0, 4.0]);
        assert_eq!(find_played("test a ... ok\n").unwrap(), None);
        assert!(find_played("cell: {}\n").is_err());
    }
}
