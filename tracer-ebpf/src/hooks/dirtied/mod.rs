//! Finds who writes to a file that was dirty before the tracer came.
//!
//! `writeback` sees only who makes a clean file dirty. On a slow disk a file that somebody keeps
//! writing to may not be clean for minutes. This hook fires for each page that becomes dirty, so
//! it is attached for some seconds, after data were written back whose writer was unknown.
//!
//! Prototype, in
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/writeback.h>:
//! - writeback_mark_inode_dirty(struct inode *, int flags), in the dirtier's context

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{dirtier, fields::Kernel};

/// `I_DIRTY_PAGES`: a page became dirty, and not just a time or an owner of the file. In
/// <https://elixir.bootlin.com/linux/v6.12/source/include/linux/fs.h>.
const PAGES: u64 = 1 << 2;

#[btf_tracepoint(function = "writeback_mark_inode_dirty")]
pub fn writeback_mark_inode_dirty(ctx: BtfTracePointContext) -> i32 {
    let flags: u64 = ctx.arg(1);
    if flags & PAGES != 0 {
        dirtier::note_writer(Kernel(ctx.arg(0)));
    }
    0
}
