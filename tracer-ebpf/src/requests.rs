//! Block requests in flight: the slot of each, and the account that it is in.
//!
//! A request is submitted, issued to its driver, and completes. [`open`] gives it
//! a slot and puts it into its submitter's account, [`end`] takes it out again
//! and learns from it. The hooks say when; nobody else is told of a request.

use core::ptr::read_volatile;

use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use tracer_ebpf::{
    dropped::Dropped,
    ledger::{born, tick},
    record::{ACCOUNTS, Account, Disk, InFlight, op},
};

use crate::{
    accounts,
    clock::now_ns,
    dirtier::submitter_of_bio,
    fields::{Kernel, Request, config},
    maps::{IN_FLIGHT, LEDGER, add, ask_for_disk, count_drop, described, observe},
    submitter::{SUBMITTERS, Submitter},
    syncs::own::{credit, note_submission},
    work,
};

// include/linux/blk_types.h, enum req_op; stable since 4.8 but for the zones.
const REQ_OP_MASK: u32 = 0xff;
const REQ_OP_READ: u32 = 0;
const REQ_OP_WRITE: u32 = 1;
const REQ_OP_FLUSH: u32 = 2;
const REQ_OP_DISCARD: u32 = 3;
const REQ_OP_SECURE_ERASE: u32 = 5;
const REQ_OP_ZONE_APPEND: u32 = 7;
const REQ_OP_WRITE_ZEROES: u32 = 9;

// The same file, enum req_flag_bits; stable since 4.10.
const REQ_FUA: u32 = 1 << 17;
const REQ_PREFLUSH: u32 = 1 << 18;

/// An account that a request of the flush machinery has: none.
const NO_ACCOUNT: u32 = u32::MAX;

/// What a hook on a request was handed out.
#[inline(always)]
pub fn request_of(ctx: &BtfTracePointContext) -> Request {
    // Both branches name a constant; the verifier follows only one.
    Request(Kernel(if config!(request_arg) == 1 { ctx.arg(1) } else { ctx.arg(0) }))
}

/// What tells a request from all others that are alive.
#[inline(always)]
pub fn address(request: Request) -> u64 {
    request.0.0 as u64
}

/// The class of a request; `None` for what is no one's data (pass-through,
/// zone management).
#[inline(always)]
fn operation(request: Request) -> Option<u32> {
    match request.cmd_flags() & REQ_OP_MASK {
        REQ_OP_READ => Some(op::READ),
        REQ_OP_WRITE | REQ_OP_ZONE_APPEND => Some(op::WRITE),
        REQ_OP_FLUSH => Some(op::FLUSH),
        REQ_OP_DISCARD | REQ_OP_SECURE_ERASE => Some(op::DISCARD),
        REQ_OP_WRITE_ZEROES => Some(op::WRITE_ZEROES),
        _ => None,
    }
}

/// Finds the class of a request, and the slot that belongs to it by its disk,
/// hardware queue and tag. A request of the flush machinery borrows another's
/// tag, and there is one at most per hardware queue, so it has a slot of its
/// own.
#[inline(always)]
pub fn with_slot(request: Request, then: impl FnOnce(u32, &Disk, &mut InFlight)) {
    let Some(operation) = operation(request) else { return };
    let device = request.device();
    let Some(disk) = described(device) else {
        if device != 0 {
            count_drop(Dropped::DiskUnknown);
            ask_for_disk(device);
        }
        return;
    };
    let queue = request.hardware_queue();
    let last = disk.depth.wrapping_sub(1);
    let tag = if operation == op::FLUSH { last } else { request.tag() };
    if queue >= disk.queues || tag > last || (tag == last && operation != op::FLUSH) {
        count_drop(Dropped::TableOverflow);
        return;
    }
    if let Some(slot) = IN_FLIGHT.get_ptr_mut(disk.base + queue * disk.depth + tag) {
        // SAFETY: the slot belongs to this request's tag; nobody else is in it.
        then(operation, disk, unsafe { &mut *slot });
    }
}

#[inline(always)]
pub fn open(request: Request, operation: u32, disk: &Disk, slot: &mut InFlight) {
    let now = now_ns();
    if slot.request != 0 {
        // Its tag was given away again, so it has ended unseen.
        debug!(
            (),
            "disk {}: a request of class {} ended unseen; born {} ns ago, issued at {}",
            slot.disk,
            slot.op,
            now.saturating_sub(slot.born_ns),
            slot.issued_ns
        );
        give_back(slot, now);
        count_drop(Dropped::Reconciled);
    }
    slot.request = address(request);
    slot.issued_ns = 0;
    slot.bytes = request.bytes();
    slot.op = operation as u16;
    slot.disk = disk.index as u16;
    slot.may_wait = u32::from(request.cmd_flags() & (REQ_PREFLUSH | REQ_FUA) != 0);
    slot.sync_tid = 0;
    slot.account = NO_ACCOUNT;
    slot.born_ns = now;
    // The flush itself has no owner: the request that wanted it waits on in
    // its own slot.
    if operation == op::FLUSH {
        return;
    }
    let who = submitter(request, now);
    slot.born_ns = who.born_ns;
    if let Some(ledger) = LEDGER.get_ptr_mut(disk.index) {
        work::enter(ledger, who.born_ns);
        let (at, account) = accounts::account(&who, (disk.index, ledger), operation);
        slot.account = disk.index * ACCOUNTS as u32 + at;
        if let Some(account) = account {
            account.tgid = who.tgid;
            add(&raw mut account.word, born(tick(who.born_ns)));
        }
    }
    // By way of the map: the verifier would follow each operation through all above.
    // SAFETY: a field of a value of a map.
    let operation = u32::from(unsafe { read_volatile(&raw const slot.op) });
    if let Some(seq) = note_submission(who.tid, operation, disk, who.born_ns) {
        slot.sync_tid = who.tid;
        slot.sync_seq = seq;
    }
}

/// Whether a request's submitter was seen with its bio.
#[inline(always)]
pub fn has_known_submitter(request: Request) -> bool {
    // SAFETY: looked at, not read.
    config!(births_by_bio) == 1 && unsafe { SUBMITTERS.get(request.bio().0 as u64) }.is_some()
}

/// Who submitted a request: who was seen with its bio, or who runs now or whom
/// that one works for.
#[inline(always)]
fn submitter(request: Request, now: u64) -> Submitter {
    if config!(births_by_bio) == 1 {
        let bio = request.bio().0 as u64;
        // SAFETY: copied at once; an entry is written before its request is
        // issued, and by nobody else.
        if let Some(known) = unsafe { SUBMITTERS.get(bio) } {
            let known = *known;
            let _ = SUBMITTERS.remove(bio);
            return known;
        }
    }
    submitter_of_bio(request.bio(), now)
}

#[inline(always)]
pub fn end(disk: &Disk, slot: &mut InFlight, noted_ns: u64) {
    let now = now_ns();
    // The kernel may have read its clock a little before the birth.
    let issued_ns = if noted_ns == 0 { slot.issued_ns } else { noted_ns.max(slot.born_ns) };
    // An empty flush is never issued itself: all its time is the device's.
    let given_ns = if issued_ns == 0 { slot.born_ns } else { issued_ns };
    if issued_ns == 0 && slot.bytes != 0 {
        count_drop(Dropped::IssueUnseen);
    }
    let (operation, bytes) = (u32::from(slot.op), slot.bytes);
    let queue = given_ns.saturating_sub(slot.born_ns);
    let device = now.saturating_sub(given_ns);
    with_account(slot.account, |account| {
        settle(account, slot.born_ns, now);
        add(&raw mut account.ios, 1);
        add(&raw mut account.bytes, u64::from(bytes));
    });
    observe(disk.index, operation, queue, device);
    if issued_ns != 0 {
        work::leave(disk.index, (operation, bytes), issued_ns, now);
    }
    if slot.sync_tid != 0 {
        credit(slot, queue, device, now);
    }
    slot.request = 0;
}

/// The end of a request that has no slot, of which the kernel's note tells when it
/// was given to its driver.
#[inline(always)]
pub fn end_unseen(disk: &Disk, operation: u32, bytes: u32, noted_ns: u64) {
    let now = now_ns();
    observe(disk.index, operation, 0, now.saturating_sub(noted_ns));
    work::leave(disk.index, (operation, bytes), noted_ns, now);
}

/// Takes a request that is no more out of its account.
#[inline(always)]
pub fn give_back(slot: &InFlight, now: u64) {
    with_account(slot.account, |account| settle(account, slot.born_ns, now));
}

#[inline(always)]
fn settle(account: &mut Account, born_ns: u64, now: u64) {
    let birth = tick(born_ns);
    // In this order: see the ledger on what a reader in between sees.
    add(&raw mut account.done, tick(now).wrapping_sub(birth));
    add(&raw mut account.word, born(birth).wrapping_neg());
}

#[inline(always)]
fn with_account(place: u32, then: impl FnOnce(&mut Account)) {
    if place == NO_ACCOUNT {
        return;
    }
    if let Some(account) = accounts::of_disk(place / ACCOUNTS as u32, place % ACCOUNTS as u32) {
        then(account);
    }
}
