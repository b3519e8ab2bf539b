//! The names of sections, and of rows that other modules look up.

use super::table::Section;

pub const READS: Section =
    Section { title: "kernel: BPF run time, random 4k reads, depth 16", base: "empty programs" };
pub const SYNCS: Section =
    Section { title: "kernel: BPF run time, 4k writes with fdatasync", base: "" };
pub const SNAPSHOT: Section = Section { title: "user: a snapshot of everything", base: "" };
pub const REPLAY: Section =
    Section { title: "user: replay of sync records, 64 owners, 6 of them active", base: "" };
pub const ALLOCATIONS: &str = "allocations, in 1,000,000 records";
pub const ITSELF: Section =
    Section { title: "`tracer top --batch`, under 2000 reads/s and 200 fdatasyncs/s", base: "" };
pub const LOAD: Section =
    Section { title: "the load beside `tracer top --batch`", base: "without the tracer" };

/// Kernel time of all tracers' programs, and of almost empty ones.
pub const REQUEST: Section = Section {
    title: "kernel: BPF run time per block request, random 4k reads, depth 16",
    base: "the tracer",
};
pub const SYNC: Section =
    Section { title: "kernel: BPF run time per fdatasync", base: "the tracer" };
pub const COMMIT: Section =
    Section { title: "kernel: BPF run time per journal commit (appends with fdatasync)", base: "" };

pub const OURS: &str = "tracer, all its programs";
pub const OURS_BLOCK: &str = "tracer, its block programs alone";
pub const OURS_NOTED: &str = "tracer, all its programs, on a node whose disks have no scheduler";
pub const OURS_SYNC: &str = "tracer, its sync programs (begin, end, snapshots)";
pub const OURS_EVERYTHING: &str = "tracer, all its programs, block requests too";
pub const EMPTY_FLOOR: &str = "empty programs on the same block hooks";
pub const CLOCK_FLOOR: &str = "two programs that only read the clock";

pub const BIOLATENCY: &str = "libbpf-tools biolatency";
pub const LIBBPF_BIOSNOOP: &str = "libbpf-tools biosnoop";
pub const BIOLATENCY_BT: &str = "bpftrace biolatency.bt";
pub const BIOSNOOP_BT: &str = "bpftrace biosnoop.bt";
pub const BPFTRACE_HISTOGRAM: &str = "bpftrace on tracepoints, a histogram";
pub const BPFTRACE_LINES: &str = "bpftrace on tracepoints, a line per request";
pub const BPFTRACE_FDATASYNC: &str = "bpftrace one-liner, fdatasync latency";

/// Peers that name the owner of a request.
pub const NAME_OWNERS: [&str; 3] = [LIBBPF_BIOSNOOP, BIOSNOOP_BT, BPFTRACE_LINES];

/// A load without a tracer, with ours, or with another one. Together these are one matrix.
pub const NOBODY: &str = "nobody";
pub const TRACER: &str = "tracer top --batch";
pub const BESIDE_READS: Section = Section {
    title: "the load beside a tracer: random 4k reads, depth 16, per second",
    base: NOBODY,
};
pub const BESIDE_SYNCS: Section = Section {
    title: "the load beside a tracer: 4k writes with fdatasync, per second",
    base: NOBODY,
};
pub const BESIDE_P50: Section =
    Section { title: "the load beside a tracer: fdatasync, median", base: NOBODY };
pub const BESIDE_P99: Section =
    Section { title: "the load beside a tracer: fdatasync, p99", base: NOBODY };
pub const BESIDE_PUT_P50: Section =
    Section { title: "the load beside a tracer: etcd put, median", base: NOBODY };
pub const BESIDE_PUT_P99: Section =
    Section { title: "the load beside a tracer: etcd put, p99", base: NOBODY };
pub const BESIDE_CPU: Section = Section {
    title: "the load beside a tracer: CPU of the tracer's process under these reads",
    base: "",
};

/// The matrix: each section is a column with a short heading.
pub const BESIDE: [(&str, &Section); 7] = [
    ("4k reads/s", &BESIDE_READS),
    ("fdatasync/s", &BESIDE_SYNCS),
    ("fdatasync p50", &BESIDE_P50),
    ("fdatasync p99", &BESIDE_P99),
    ("etcd put p50", &BESIDE_PUT_P50),
    ("etcd put p99", &BESIDE_PUT_P99),
    ("its CPU", &BESIDE_CPU),
];

pub const START: Section = Section { title: "start and size", base: "" };
pub const FIRST_ANSWER: &str = "start to the first snapshot that names the one who waits";
pub const BINARY: &str = "binary, stripped, linked to libc";
pub const STATIC_BINARY: &str = "binary, stripped, static";

pub const THOUSAND: Section =
    Section { title: "`tracer top --batch`, under 1,000 fdatasyncs/s", base: "" };
pub const CROWD: Section =
    Section { title: "`tracer top --batch`, with 1,000 owners and 100 victims", base: "" };
pub const CPU: &str = "CPU";
pub const RSS: &str = "resident size";
pub const PEAK: &str = "largest resident size since its start";
pub const MAPS: &str = "kernel memory of its maps";
