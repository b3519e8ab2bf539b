//! Cells whose truth is clear: one cause has nine tenths of what makes the syncs at least
//! two and a half times as long, or nothing does. Where the device changes as the
//! neighbour asks for more, `undecided` is right, too. The numbers are drawn by a seed,
//! so that this machine can serve what is asked of the disk: at most 2,600 requests and
//! 45 MB a second.

use tracer_timelines::{
    cell::{Cell, Device, DiskKind, Neighbour},
    timeline::Does,
};

/// Makes a test of each.
macro_rules! cells {
    ($($name:ident: [$disk:ident, $device:ident, $neighbour:ident, $does:ident, $load:literal], $seed:literal;)+) => {
        $(#[test]
        fn $name() {
            crate::live::scenarios::need_stage!();
            let cell = Cell {
                disk: DiskKind::$disk,
                device: Device::$device,
                neighbour: Neighbour::$neighbour,
                does: Does::$does,
                load: $load,
            };
            super::play(cell, $seed);
        })+
    };
}

cells! {
    bytes_bytes_write_50_halved: [ByteLimit, ByteLimit, Halved, Write, 50], 23757;
    bytes_flush_only_read_5_gone: [ByteLimit, FlushOnly, Gone, Read, 5], 15838;
    bytes_requests_read_20_unchanged: [ByteLimit, RequestLimit, Unchanged, Read, 20], 15838;
    bytes_slower20_write_50_gone: [ByteLimit, Slower20, Gone, Write, 50], 118785;
    bytes_slower3_sync_5_gone: [ByteLimit, Slower3, Gone, SyncingWrite, 5], 7919;
    bytes_stalls_buffer_20_halved: [ByteLimit, Stalls, Halved, BufferedWrite, 20], 1005713;
    bytes_unchanged_read_50_doubled: [ByteLimit, Unchanged, Doubled, Read, 50], 237570;
    bytes_unchanged_sync_50_doubled: [ByteLimit, Unchanged, Doubled, SyncingWrite, 50], 229651;
    bytes_unchanged_write_50_doubled: [ByteLimit, Unchanged, Doubled, Write, 50], 237570;
    bytes_unchanged_buffer_5_unchanged: [ByteLimit, Unchanged, Unchanged, BufferedWrite, 5], 15838;
    cache_bytes_sync_5_gone: [Cache, ByteLimit, Gone, SyncingWrite, 5], 23757;
    cache_flush_only_sync_20_unchanged: [Cache, FlushOnly, Unchanged, SyncingWrite, 20], 23757;
    cache_requests_write_5_doubled: [Cache, RequestLimit, Doubled, Write, 5], 47514;
    cache_slower20_buffer_5_halved: [Cache, Slower20, Halved, BufferedWrite, 5], 7919;
    cache_slower20_sync_50_unchanged: [Cache, Slower20, Unchanged, SyncingWrite, 50], 7919;
    cache_slower3_read_20_halved: [Cache, Slower3, Halved, Read, 20], 7919;
    cache_stalls_write_50_gone: [Cache, Stalls, Gone, Write, 50], 55433;
    cache_unchanged_buffer_20_doubled: [Cache, Unchanged, Doubled, BufferedWrite, 20], 7919;
    cache_unchanged_read_50_halved: [Cache, Unchanged, Halved, Read, 50], 142542;
    credits_bytes_read_50_halved: [Credits, ByteLimit, Halved, Read, 50], 7919;
    credits_flush_only_read_5_doubled: [Credits, FlushOnly, Doubled, Read, 5], 7919;
    credits_requests_buffer_5_halved: [Credits, RequestLimit, Halved, BufferedWrite, 5], 7919;
    credits_slower20_sync_20_doubled: [Credits, Slower20, Doubled, SyncingWrite, 20], 7919;
    credits_slower3_buffer_50_unchanged: [Credits, Slower3, Unchanged, BufferedWrite, 50], 7919;
    credits_stalls_sync_20_gone: [Credits, Stalls, Gone, SyncingWrite, 20], 142542;
    credits_unchanged_buffer_50_gone: [Credits, Unchanged, Gone, BufferedWrite, 50], 47514;
    credits_unchanged_write_20_unchanged: [Credits, Unchanged, Unchanged, Write, 20], 31676;
    flash_bytes_read_20_gone: [Flash, ByteLimit, Gone, Read, 20], 15838;
    flash_flush_only_buffer_5_unchanged: [Flash, FlushOnly, Unchanged, BufferedWrite, 5], 15838;
    flash_requests_sync_5_halved: [Flash, RequestLimit, Halved, SyncingWrite, 5], 15838;
    flash_slower20_read_5_doubled: [Flash, Slower20, Doubled, Read, 5], 7919;
    flash_slower3_write_20_halved: [Flash, Slower3, Halved, Write, 20], 23757;
    flash_stalls_sync_50_halved: [Flash, Stalls, Halved, SyncingWrite, 50], 55433;
    flash_unchanged_buffer_20_doubled: [Flash, Unchanged, Doubled, BufferedWrite, 20], 554330;
    flash_unchanged_write_5_gone: [Flash, Unchanged, Gone, Write, 5], 7919;
    flash_unchanged_sync_50_unchanged: [Flash, Unchanged, Unchanged, SyncingWrite, 50], 23757;
    head_bytes_buffer_5_unchanged: [Head, ByteLimit, Unchanged, BufferedWrite, 5], 39595;
    head_flush_only_write_50_halved: [Head, FlushOnly, Halved, Write, 50], 110866;
    head_requests_read_20_doubled: [Head, RequestLimit, Doubled, Read, 20], 39595;
    head_requests_sync_50_gone: [Head, RequestLimit, Gone, SyncingWrite, 50], 641439;
    head_slower3_buffer_5_doubled: [Head, Slower3, Doubled, BufferedWrite, 5], 63352;
    head_slower3_sync_20_halved: [Head, Slower3, Halved, SyncingWrite, 20], 63352;
    head_stalls_write_5_unchanged: [Head, Stalls, Unchanged, Write, 5], 641439;
    requests_bytes_sync_5_unchanged: [RequestLimit, ByteLimit, Unchanged, SyncingWrite, 5], 31676;
    requests_flush_only_buffer_20_gone: [RequestLimit, FlushOnly, Gone, BufferedWrite, 20], 23757;
    requests_requests_write_50_gone: [RequestLimit, RequestLimit, Gone, Write, 50], 31676;
    requests_slower20_buffer_5_halved: [RequestLimit, Slower20, Halved, BufferedWrite, 5], 7919;
    requests_slower3_write_20_gone: [RequestLimit, Slower3, Gone, Write, 20], 7919;
    requests_stalls_read_5_unchanged: [RequestLimit, Stalls, Unchanged, Read, 5], 55433;
    requests_unchanged_read_50_doubled: [RequestLimit, Unchanged, Doubled, Read, 50], 15838;
    requests_unchanged_sync_50_doubled: [RequestLimit, Unchanged, Doubled, SyncingWrite, 50], 79190;
    requests_unchanged_write_50_doubled: [RequestLimit, Unchanged, Doubled, Write, 50], 87109;
    requests_unchanged_sync_20_halved: [RequestLimit, Unchanged, Halved, SyncingWrite, 20], 7919;
    servers_bytes_write_20_doubled: [Servers, ByteLimit, Doubled, Write, 20], 7919;
    servers_flush_only_sync_50_halved: [Servers, FlushOnly, Halved, SyncingWrite, 50], 7919;
    servers_requests_buffer_20_gone: [Servers, RequestLimit, Gone, BufferedWrite, 20], 839414;
    servers_slower20_write_20_unchanged: [Servers, Slower20, Unchanged, Write, 20], 7919;
    servers_slower3_read_50_unchanged: [Servers, Slower3, Unchanged, Read, 50], 47514;
    servers_stalls_sync_5_doubled: [Servers, Stalls, Doubled, SyncingWrite, 5], 7919;
    servers_unchanged_read_20_gone: [Servers, Unchanged, Gone, Read, 20], 7919;
    servers_unchanged_buffer_5_halved: [Servers, Unchanged, Halved, BufferedWrite, 5], 15838;
}
