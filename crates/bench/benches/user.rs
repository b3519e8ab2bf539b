//! Measures user space by itself, without a kernel or root. It takes some seconds:
//! `cargo bench -p tracer-bench --bench user`.
//!
//! It replays a recording of an fstrim next to an etcd, through the same engine,
//! scene and outputs as a session. The other bench (`src`) measures the whole
//! tracer under a load.

use std::{fs, io::Cursor, path::Path};

use divan::{Bencher, black_box, counter::BytesCount};
use tracer::output::{json, text};
use tracer_ebpf::record::SyncRecord;
use tracer_engine::victim::Span;
use tracer_kernel::maps::ring::decode;
use tracer_recording::replay::{Played, Replay};
use tracer_snapshot::Snapshot;
use zerocopy::{FromZeros as _, IntoBytes as _};

// Allocations are reported along with the times.
#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench]
fn decode_a_record(bencher: Bencher<'_, '_>) {
    let record = SyncRecord::new_zeroed();
    bencher.bench_local(|| {
        black_box(decode(black_box(record.as_bytes())));
    });
}

/// Covers the reader, the engine, evidence and blame.
#[divan::bench(sample_count = 20)]
fn replay_a_recording(bencher: Bencher<'_, '_>) {
    let bytes = read_recording();
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| play(&bytes));
}

#[divan::bench]
fn make_a_snapshot(bencher: Bencher<'_, '_>) {
    let mut replay = play(&read_recording());
    bencher.bench_local(|| replay.snapshot_of(Span::Period));
}

#[divan::bench]
fn write_a_snapshot_as_text(bencher: Bencher<'_, '_>) {
    let (snapshot, mut out) = (snapshot(), Vec::new());
    bencher.bench_local(|| {
        out.clear();
        text::write_snapshot(&mut out, &snapshot).expect("a Vec takes everything");
    });
}

#[divan::bench]
fn write_a_snapshot_as_json(bencher: Bencher<'_, '_>) {
    let (snapshot, mut out) = (snapshot(), Vec::new());
    bencher.bench_local(|| {
        out.clear();
        json::write_json(&mut out, &snapshot).expect("a Vec takes everything");
    });
}

fn snapshot() -> Snapshot {
    play(&read_recording()).snapshot_of(Span::Period)
}

fn play(bytes: &[u8]) -> Replay {
    let source = Cursor::new(bytes.to_vec());
    let mut replay = Replay::new("fstrim.rec".to_owned(), source).expect("it is a recording");
    assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
    replay
}

fn read_recording() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/fstrim.rec");
    fs::read(path).expect("the recording is in the repository")
}
