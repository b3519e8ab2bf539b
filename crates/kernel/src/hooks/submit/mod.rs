//! A block request is submitted, in its submitter's context.
//!
//! If submissions have no hook of their own (before 6.5,
//! <https://github.com/torvalds/linux/commit/5a80bd075f3b>), three others stand in: the
//! bio that gets a request, the request's insertion into a scheduler, and its issue.
//!
//! It feeds `tracer_block_requests_in_flight`, and all blame for block requests.

use anyhow::Result;
use tracer_ebpf::config::Config;

use crate::{
    hook::{Gap, Hook, Layout, Served, Strategy, gap, step},
    program::Program,
};

pub const HOOK: Hook = Hook {
    name: "submit",
    purpose: "who submits a block request",
    is_required: true,
    without: "no culprit can be named: block requests are not seen in their submitter's \
              context",
    strategies: &[
        Strategy { name: "tracepoint", steps: &[step(Program::BlockIoStart)] },
        Strategy { name: "fentry", steps: &[step(Program::BlkAccountIoStart)] },
        // The bio shows who submits; the request is first seen at its insertion or issue.
        Strategy {
            name: "getrq",
            steps: &[step(Program::BlockGetrq), step(Program::BlockRqInsert)],
        },
        // On a disk without a scheduler, the issue stands in for the insertion.
        Strategy { name: "insert", steps: &[step(Program::BlockRqInsert)] },
    ],
    find_fields,
    is_usable,
    find_gaps,
    ..Hook::PLAIN
};

fn find_fields(layout: &Layout<'_>, config: &mut Config) -> Result<()> {
    let types = layout.types;
    let is_by_bio = types.tracepoint("block_io_start").is_none()
        && types.tracepoint_args("block_getrq").is_some_and(|args| args.len() == 1);
    config.submits_by_bio = u32::from(is_by_bio);
    Ok(())
}

fn is_usable(program: Program, config: &Config) -> bool {
    // Until 5.10 block_getrq has other arguments.
    program != Program::BlockGetrq || config.submits_by_bio == 1
}

fn find_gaps(served: &Served<'_>) -> Vec<Gap> {
    // A command that is passed through gets its request without a bio, and is in no
    // scheduler: <https://elixir.bootlin.com/linux/v6.1/source/block/blk-mq-sched.c>.
    let by_a_worker = "commands that are passed through to a drive (SMART) are charged to a \
                          kernel worker where that issues them";
    let pass_through = gap("pass_through", by_a_worker);
    match served.strategy {
        "insert" => {}
        "getrq" => return vec![pass_through],
        _ => return Vec::new(),
    }
    let submitter = "requests that a kernel worker hands on are charged to it, not to who \
                     submitted them";
    let flush = "waiting for a flush without data is shown as `other`";
    vec![gap("submitter", submitter), gap("flush", flush), pass_through]
}
