//! Tests of blocks, of what is computed from them, and of when there are enough.

use crate::report::{
    machine::Machine,
    paired::{Arm, Block, Blocks, Kernel, Paired, Ratio, Sample},
};

fn sample(reads_per_second: f64, others: f64) -> Sample {
    Sample { reads_per_second, syncs_per_second: others, sync_p50_us: others, sync_p99_us: others }
}

/// Makes `count` blocks, of which ours has `ratio` of the reads, give or take `noise`
/// in turn, on a machine that is a tenth slower from block to block.
fn blocks(count: u32, ratio: f64, noise: f64) -> Blocks {
    let block = |number: u32| {
        let bare = 100_000.0 * 0.9_f64.powf(f64::from(number));
        let sign = if number.is_multiple_of(2) { 1.0 } else { -1.0 };
        let ours = bare * ratio * (noise * sign).exp();
        let mut block = Block::default();
        block.samples.insert(Arm::Nobody, sample(bare, 80.0));
        block.samples.insert(Arm::Again, sample(bare, 80.0));
        block.samples.insert(Arm::Ours, sample(ours, 80.0));
        let kernel = Kernel { per_request_ns: 600.0, per_sync_ns: 4000.0, ..Kernel::default() };
        block.kernel.insert(Arm::Ours, kernel);
        block
    };
    Blocks { seed: 1, kept_awake: true, against: None, blocks: (0..count).map(block).collect() }
}

fn with_theirs(mut blocks: Blocks, reads: f64, per_request_ns: f64) -> Blocks {
    blocks.against = Some("30dec36".to_owned());
    for block in &mut blocks.blocks {
        let bare = block.samples[&Arm::Nobody].reads_per_second;
        block.samples.insert(Arm::Theirs, sample(bare * reads, 80.0));
        let kernel = Kernel { per_request_ns, per_sync_ns: 4000.0, ..Kernel::default() };
        block.kernel.insert(Arm::Theirs, kernel);
    }
    blocks
}

fn find(blocks: &Blocks, arms: (Arm, Arm), what: &str) -> Option<Ratio> {
    let mut rows = blocks.load_rows().into_iter();
    rows.find(|row| row.arms == arms && row.what == what)?.ratio
}

const COST: (Arm, Arm) = (Arm::Ours, Arm::Nobody);

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-9
}

#[test]
fn what_drifts_is_in_both_arms_of_a_block_and_cancels_out() {
    let ratio = find(&blocks(20, 0.9, 0.0), COST, "reads per second").unwrap();
    assert!(near(ratio.ratio, 0.9) && near(ratio.low, 0.9) && near(ratio.high, 0.9), "{ratio:?}");
    assert_eq!(ratio.pairs, 20);
    let null = find(&blocks(20, 0.9, 0.0), (Arm::Again, Arm::Nobody), "reads per second").unwrap();
    assert!(near(null.ratio, 1.0) && null.is_narrow, "{null:?}");
}

/// Half of the differences are at +noise and half at -noise, and so are the interval's ends.
#[test]
fn narrow_is_two_per_cent_to_either_side() {
    let ratio = find(&blocks(20, 1.0, 0.019), COST, "reads per second").unwrap();
    assert!(near(ratio.low, (-0.019_f64).exp()) && near(ratio.high, 0.019_f64.exp()), "{ratio:?}");
    assert!(ratio.is_narrow);
    // ln 1.02 is 0.0198.
    assert!(!find(&blocks(20, 1.0, 0.0199), COST, "reads per second").unwrap().is_narrow);
}

#[test]
fn it_stops_when_all_is_narrow_and_not_before_twenty_blocks() {
    assert!(blocks(20, 0.9, 0.0).is_done());
    assert!(!blocks(19, 0.9, 0.0).is_done());
    assert!(!blocks(20, 0.9, 0.03).is_done());
    assert!(!blocks(0, 0.9, 0.0).is_done());
}

#[test]
fn with_two_builds_what_the_kernel_takes_must_be_narrow_too() {
    let mut blocks = with_theirs(blocks(20, 1.0, 0.0), 1.0, 600.0);
    assert!(blocks.is_done());
    for (number, block) in blocks.blocks.iter_mut().enumerate() {
        let kernel = block.kernel.get_mut(&Arm::Theirs).unwrap();
        kernel.per_sync_ns *= if number % 2 == 0 { 1.0 } else { 1.5 };
    }
    assert!(!blocks.is_done());
}

#[test]
fn what_the_kernel_takes_is_held_against_the_other_build() {
    let blocks = with_theirs(blocks(20, 1.0, 0.0), 1.0, 800.0);
    let rows = blocks.kernel_rows();
    assert_eq!(rows[0].what, "all programs, per request");
    assert!(near(rows[0].ours.unwrap().ns, 600.0) && near(rows[0].theirs.unwrap().ns, 800.0));
    assert!(near(rows[0].ratio.unwrap().ratio, 0.75));
    assert!(near(rows[1].ratio.unwrap().ratio, 1.0));
}

#[test]
fn a_requirement_is_decided_only_by_a_whole_interval() {
    let reached = |blocks: &Blocks, asked: &str| {
        let mut all = blocks.requirements().into_iter();
        all.find(|one| one.asked == asked).unwrap().reached
    };
    let change = "reads per second: 0.98 to 1.02 × those of 30dec36";
    let against = |ratio, noise| with_theirs(blocks(20, ratio, noise), 1.0, 600.0);
    assert_eq!(reached(&against(0.99, 0.005), change), Some(true));
    assert_eq!(reached(&against(0.99, 0.02), change), None);
    assert_eq!(reached(&against(0.9, 0.005), change), Some(false));
    assert_eq!(reached(&against(1.1, 0.005), change), Some(false));
    let cost = "reads per second: ≥ 0.98 × those without a tracer";
    assert_eq!(reached(&blocks(20, 1.1, 0.005), cost), Some(true));
    assert_eq!(reached(&blocks(20, 0.9, 0.005), cost), Some(false));
    let null = "reads per second: no tracer twice, 0.99 to 1.01";
    assert_eq!(reached(&blocks(20, 0.9, 0.005), null), Some(true));
}

fn paired(blocks: Blocks) -> Paired {
    Paired::new(Machine::read("cargo xtask bench --paired", 0, 0), blocks)
}

#[test]
fn an_interval_that_is_too_wide_is_said_to_be() {
    let text = |noise| {
        let mut bytes = Vec::new();
        paired(blocks(20, 0.9, noise)).write_text(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let line = |text: &str| {
        let cost = text.split("this tree / no tracer").nth(1).unwrap();
        cost.lines().find(|line| line.contains("reads per second")).unwrap().to_owned()
    };
    assert!(!line(&text(0.01)).contains("not within 2 %"), "{}", text(0.01));
    assert!(line(&text(0.03)).contains("not within 2 %"), "{}", text(0.03));
    assert!(text(0.01).contains("no tracer again / no tracer"), "{}", text(0.01));
    assert!(paired(blocks(20, 0.9, 0.03)).page().contains("not within 2 %"));
    // It also says when there are too few pairs.
    assert!(paired(blocks(3, 0.9, 0.0)).page().contains("too few pairs"));
}

#[test]
fn its_json_makes_the_same_page() {
    let first = paired(with_theirs(blocks(20, 0.9, 0.01), 1.0, 700.0));
    let mut json = Vec::new();
    first.write_json(&mut json).unwrap();
    let mut read: Paired = serde_json::from_slice(&json).unwrap();
    read.evaluate();
    assert_eq!(read.page(), first.page());
    let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(value["load"][0]["arms"], serde_json::json!(["again", "nobody"]));
    assert_eq!(value["load"][0]["ratio"]["pairs"], 20);
}
