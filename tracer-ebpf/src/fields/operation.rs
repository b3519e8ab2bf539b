//! The class of a request's or a bio's operation.

use tracer_ebpf::record::op;

use super::look_up;

// The values of enum req_op, which are the same since 4.8, except those of zones:
// <https://elixir.bootlin.com/linux/v6.12/source/include/linux/blk_types.h>.
const REQ_OP_READ: usize = 0;
const REQ_OP_WRITE: usize = 1;
const REQ_OP_FLUSH: usize = 2;
const REQ_OP_DISCARD: usize = 3;
const REQ_OP_SECURE_ERASE: usize = 5;
const REQ_OP_ZONE_APPEND: usize = 7;
const REQ_OP_WRITE_ZEROES: usize = 9;
// Commands that only the driver understands. There are two, one for each direction of
// their data; older kernels have two more for SCSI:
// <https://elixir.bootlin.com/linux/v5.10/source/include/linux/blk_types.h>.
const REQ_OP_SCSI_IN: usize = 32;
const REQ_OP_SCSI_OUT: usize = 33;
const REQ_OP_DRV_IN: usize = 34;
const REQ_OP_DRV_OUT: usize = 35;

/// How many values enum req_op may have: eight bits of the flags.
const REQ_OPS: usize = 1 << u8::BITS;

/// In [`CLASSES`], for the management of zones.
const NO_CLASS: u8 = u8::MAX;

/// The class of each of the kernel's operations. What is read from a table is any number to
/// the verifier, which follows the code behind it once. Behind a `match` it follows that code
/// for each class, and each of a request's pointers that is loaded there takes newer kernels
/// a search through all of their types.
static CLASSES: [u8; REQ_OPS] = classes();

const fn classes() -> [u8; REQ_OPS] {
    let mut classes = [NO_CLASS; REQ_OPS];
    classes[REQ_OP_READ] = op::READ as u8;
    classes[REQ_OP_WRITE] = op::WRITE as u8;
    classes[REQ_OP_ZONE_APPEND] = op::WRITE as u8;
    classes[REQ_OP_FLUSH] = op::FLUSH as u8;
    classes[REQ_OP_DISCARD] = op::DISCARD as u8;
    classes[REQ_OP_SECURE_ERASE] = op::DISCARD as u8;
    classes[REQ_OP_WRITE_ZEROES] = op::WRITE_ZEROES as u8;
    classes[REQ_OP_SCSI_IN] = op::PASS_THROUGH as u8;
    classes[REQ_OP_SCSI_OUT] = op::PASS_THROUGH as u8;
    classes[REQ_OP_DRV_IN] = op::PASS_THROUGH as u8;
    classes[REQ_OP_DRV_OUT] = op::PASS_THROUGH as u8;
    classes
}

/// The class of a request or bio of these flags; `None` for the management of zones.
#[inline(always)]
pub fn operation(flags: u32) -> Option<u32> {
    let class = look_up(&CLASSES, flags as u8);
    (class != NO_CLASS).then_some(u32::from(class))
}
