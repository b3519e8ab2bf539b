//! Block requests in flight: the slot of each, and the account that it is in.
//!
//! A request is submitted, issued to its driver, and completes. [`open`] gives it
//! a slot and puts it into its submitter's account, [`end`] takes it out again
//! and learns from it. The hooks call both; no other module sees a request.

use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use tracer_ebpf::{
    dropped::Dropped,
    ledger::{submission, tick},
    record::{ACCOUNTS, Account, Disk, InFlight, op, waits},
};

use crate::{
    accounts,
    cell::MapCell,
    clock::now_ns,
    dirtier::submitter_of_bio,
    fields::{Kernel, Request, config, operation},
    freed,
    maps::{LEDGER, Lookup as _, ask_for_disk, count_drop, described, observe},
    slots,
    submitter::{SUBMITTERS, Submitter},
    syncs::own::{credit, note_submission},
    work,
};

// The bits of enum req_flag_bits, which are the same since 4.10:
// <https://elixir.bootlin.com/linux/v6.12/source/include/linux/blk_types.h>.
pub const REQ_FUA: u32 = 1 << 17;
pub const REQ_PREFLUSH: u32 = 1 << 18;

/// The flush machinery's own requests are in no account.
pub const NO_ACCOUNT: u32 = u32::MAX;

/// The request that a hook was handed out.
#[inline(always)]
pub fn request_of(ctx: &BtfTracePointContext) -> Request {
    // Both branches name a constant; the verifier follows only one.
    Request(Kernel(if config!(request_arg) == 1 { ctx.arg(1) } else { ctx.arg(0) }))
}

/// The address, which distinguishes a request from all others in flight.
#[inline(always)]
pub fn address(request: Request) -> u64 {
    request.0.0 as u64
}

/// Finds the class of a request, and its disk.
#[inline(always)]
pub fn with_disk(request: Request, then: impl FnOnce(u32, MapCell<Disk>)) {
    let Some(operation) = operation(request.cmd_flags()) else { return };
    let device = request.device();
    if let Some(disk) = described(device) {
        then(operation, disk);
    } else if device != 0 {
        count_drop(Dropped::DiskUnknown);
        ask_for_disk(device, || request.disk_name());
    }
}

/// Gives a request a slot, and puts it into its submitter's account.
#[inline(always)]
pub fn open(request: Request, operation: u32, disk: MapCell<Disk>) -> Option<MapCell<InFlight>> {
    let now = now_ns();
    let Some(slot) = slots::claim(request, operation, disk, now) else {
        if config!(submits_by_bio) == 1 {
            // Otherwise, at its issue, it would be taken for a request that is still to be
            // submitted.
            let _ = SUBMITTERS.remove(request.bio().0 as u64);
        }
        return None;
    };
    describe(request, operation, disk, slot, now);
    // The flush itself has no owner: the request that wanted it waits on in its own slot.
    if operation != op::FLUSH {
        charge(slot, disk, submitter(request, operation, now));
    }
    Some(slot)
}

/// Calls [`open`] for a request whose submission was not seen. Such requests are few, so
/// this code stays out of the usual path.
#[cold]
#[inline(never)]
pub fn open_late(
    request: Request,
    operation: u32,
    disk: MapCell<Disk>,
) -> Option<MapCell<InFlight>> {
    open(request, operation, disk)
}

/// Fills a slot with its request's fields.
#[inline(always)]
pub fn describe(
    request: Request,
    operation: u32,
    disk: MapCell<Disk>,
    slot: MapCell<InFlight>,
    now: u64,
) {
    slot.issued_ns().set(0);
    slot.bytes().set(request.bytes());
    slot.op().set(operation as u16);
    slot.disk().set(disk.index().get() as u16);
    let for_flush = request.cmd_flags() & (REQ_PREFLUSH | REQ_FUA) != 0;
    slot.may_wait().set(if for_flush { waits::FLUSH } else { 0 });
    slot.sync_tid().set(0);
    slot.account().set(NO_ACCOUNT);
    slot.submitted_ns().set(now);
}

/// Puts a request, or a bio on a carrying disk, into its submitter's account. Its operation
/// is read back from the slot: otherwise the verifier follows each operation on its own
/// through all of this code.
#[inline(always)]
pub fn charge(slot: MapCell<InFlight>, disk: MapCell<Disk>, mut who: Submitter) {
    let (index, operation) = (disk.index().get(), u32::from(slot.op().get()));
    slot.submitted_ns().set(who.submitted_ns);
    if let Some(ledger) = LEDGER.cell(index) {
        freed::stand_in(&mut who, operation, ledger);
        work::enter(ledger, who.submitted_ns);
        let (at, account) = accounts::account(&who, (index, ledger), operation);
        slot.account().set(index * ACCOUNTS as u32 + at);
        if let Some(account) = account {
            account.tgid().set(who.tgid);
            account.word().add(submission(tick(who.submitted_ns)));
        }
    }
    if let Some(seq) = note_submission(who.tid, operation, disk, who.submitted_ns) {
        slot.sync_tid().set(who.tid);
        slot.sync_seq().set(seq);
    }
}

/// Whether a request's submitter was seen with its bio.
#[inline(always)]
pub fn has_known_submitter(request: Request) -> bool {
    config!(submits_by_bio) == 1 && SUBMITTERS.cell(&(request.bio().0 as u64)).is_some()
}

/// The submitter of a request: the task that was seen with its bio, or else the running
/// task, or the task for which a running kernel thread works.
#[inline(always)]
fn submitter(request: Request, operation: u32, now: u64) -> Submitter {
    if config!(submits_by_bio) == 1 {
        let bio = request.bio().0 as u64;
        // An entry is written before its request is issued, and by nobody else.
        if let Some(known) = SUBMITTERS.cell(&bio) {
            let known = known.get();
            let _ = SUBMITTERS.remove(bio);
            return known;
        }
        // A pass-through command gets its request before its bio.
        if bio != 0 && operation != op::PASS_THROUGH {
            count_drop(Dropped::SubmitterUnknown);
        }
    }
    submitter_of_bio(request.bio(), now)
}

#[inline(always)]
pub fn end(request: Request, disk: MapCell<Disk>, slot: MapCell<InFlight>) {
    let noted_ns = request.noted_issue_ns();
    let now = now_ns();
    let (submitted_ns, bytes) = (slot.submitted_ns().get(), slot.bytes().get());
    // The kernel may have read its clock a little before the submission was noted.
    let mut issued_ns =
        if noted_ns == 0 { slot.issued_ns().get() } else { noted_ns.max(submitted_ns) };
    let (index, operation) = (disk.index().get(), u32::from(slot.op().get()));
    // The kernel may note no issue of a pass-through command; no scheduler holds one back.
    if issued_ns == 0 && operation == op::PASS_THROUGH {
        issued_ns = submitted_ns;
    }
    // An empty flush is never issued itself: all its time is the device's.
    let given_ns = if issued_ns == 0 { submitted_ns } else { issued_ns };
    if issued_ns == 0 && bytes != 0 {
        count_drop(Dropped::IssueUnseen);
    }
    let queue = given_ns.saturating_sub(submitted_ns);
    let device = now.saturating_sub(given_ns);
    complete(slot, submitted_ns, now);
    observe(index, operation, queue, device);
    if issued_ns != 0 {
        work::leave(index, (operation, bytes), issued_ns, now);
    }
    if slot.sync_tid().get() != 0 {
        credit(slot, queue, device, now);
    }
    slots::free(slot, request);
}

/// Takes a completed request out of its account, and counts it there.
#[inline(always)]
pub fn complete(slot: MapCell<InFlight>, submitted_ns: u64, now: u64) {
    with_account(slot.account().get(), |account| {
        settle(account, submitted_ns, now);
        account.requests().add(1);
        account.bytes().add(u64::from(slot.bytes().get()));
    });
}

/// Ends a request that has no slot, with the time at which it was given to its driver
/// from the kernel's own note.
#[inline(always)]
pub fn end_unseen(disk: MapCell<Disk>, operation: u32, bytes: u32, noted_ns: u64) {
    let now = now_ns();
    let index = disk.index().get();
    observe(index, operation, 0, now.saturating_sub(noted_ns));
    work::leave(index, (operation, bytes), noted_ns, now);
}

/// Takes a request that will not complete (merged, or missed) out of its account.
#[inline(always)]
pub fn give_back(slot: MapCell<InFlight>, now: u64) {
    with_account(slot.account().get(), |account| settle(account, slot.submitted_ns().get(), now));
}

/// Gives back a request whose completion was missed: another request has its tag now.
#[cold]
#[inline(never)]
pub fn reconcile(slot: MapCell<InFlight>, now: u64) {
    debug!(
        (),
        "disk {}: the completion of a request of class {} was missed; submitted {} ns ago, issued at {}",
        slot.disk().get(),
        slot.op().get(),
        now.saturating_sub(slot.submitted_ns().get()),
        slot.issued_ns().get()
    );
    give_back(slot, now);
    count_drop(Dropped::Reconciled);
}

#[inline(always)]
fn settle(account: MapCell<Account>, submitted_ns: u64, now: u64) {
    let submitted = tick(submitted_ns);
    // `done` comes first: the ledger says what a reader between the two adds sees.
    account.done().add(tick(now).wrapping_sub(submitted));
    account.word().add(submission(submitted).wrapping_neg());
}

#[inline(always)]
fn with_account(place: u32, then: impl FnOnce(MapCell<Account>)) {
    if place == NO_ACCOUNT {
        return;
    }
    if let Some(account) = accounts::of_disk(place / ACCOUNTS as u32, place % ACCOUNTS as u32) {
        then(account);
    }
}
