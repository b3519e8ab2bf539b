//! Many syncs in one line, and the syncs that a replay makes of it.
//!
//! A sum has the fields of a sync: what is a length or an amount is added up, and what
//! is a name is that of them all. A replay divides it into as many syncs as there were,
//! so that none of them is lost and the engine needs to know nothing of sums.

use serde::{Deserialize, Serialize};
use tracer_ebpf::{record::ACCOUNTS, sync_record_fields};

use crate::line::{Account, Sync, Underlying};

/// The greatest count in one line; a second with more has several.
pub const MAX_SUMMED: u32 = 1 << 12;

/// Syncs of one victim in one second that took about as long, beside the same owners.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Syncs {
    pub count: u32,
    /// `begin_ns`, `tid`, `fd` and `inode` are those of the first. Durations, requests and
    /// bytes are exact, all other amounts as [`Syncs::rounded`] leaves them.
    pub sum: Sync,
}

/// Adds where a field is an amount.
macro_rules! add {
    (length $to:expr, $from:expr) => {
        $to = $to.saturating_add($from)
    };
    (lengths $to:expr, $from:expr) => {
        $to.iter_mut().zip($from).for_each(|(to, from)| *to = to.saturating_add(from))
    };
    ($other:ident $to:expr, $from:expr) => {
        ()
    };
}

/// Divides where a field is an amount.
macro_rules! divide {
    (length $field:expr, $part:expr) => {
        $field = $part.of($field)
    };
    (lengths $field:expr, $part:expr) => {
        $field.iter_mut().for_each(|field| *field = $part.of(*field))
    };
    ($other:ident $field:expr, $part:expr) => {
        ()
    };
}

/// Rounds where a field is an amount.
macro_rules! round {
    (length $field:expr) => {
        $field = rounded($field)
    };
    (lengths $field:expr) => {
        $field.iter_mut().for_each(|field| *field = rounded(*field))
    };
    ($other:ident $field:expr) => {
        ()
    };
}

macro_rules! define {
    ($($(#[$doc:meta])* $name:ident: $type:ty as $form:ident $(, $serde:meta)?;)+) => {
        fn add_fields(to: &mut Sync, from: &Sync) {
            $(add!($form to.$name, from.$name);)+
        }

        fn divide_fields(sync: &mut Sync, part: Fraction) {
            $(divide!($form sync.$name, part);)+
        }

        fn round_fields(sync: &mut Sync) {
            $(round!($form sync.$name);)+
        }
    };
}

sync_record_fields!(define);

/// One of `count` parts of a whole.
#[derive(Clone, Copy)]
struct Fraction {
    number: u32,
    count: u32,
}

impl Fraction {
    /// All parts of an amount add up to it, and no two differ by more than one.
    fn of(self, amount: u64) -> u64 {
        let (number, count) = (u128::from(self.number), u128::from(self.count.max(1)));
        let up_to = |number: u128| u128::from(amount) * number / count;
        // Not more than the amount.
        (up_to(number + 1) - up_to(number)) as u64
    }
}

/// The nearest number of three digits and zeros: not more than 0.5 % away.
pub fn rounded(amount: u64) -> u64 {
    let digits = amount.checked_ilog10().map_or(1, |log| log + 1);
    let unit = 10u64.pow(digits.saturating_sub(3));
    let down = amount - amount % unit;
    if amount - down >= unit.div_ceil(2) { down.saturating_add(unit) } else { down }
}

impl Syncs {
    pub fn new(sync: &Sync) -> Self {
        Self { count: 1, sum: sync.clone() }
    }

    /// Whether `count` others of the same victim and disk, of which `more` is the sum, can be
    /// added: there may be too many of them, or of owners.
    pub fn has_room_for(&self, count: u32, more: &Sync) -> bool {
        let has_room = |to: &[Account], from: &[Account]| {
            let is_new = |(id, ..): &&Account| !to.iter().any(|(known, ..)| known == id);
            to.len() + from.iter().filter(is_new).count() <= ACCOUNTS
        };
        let mut underlying = self.sum.underlying.iter().zip(&more.underlying);
        let count = self.count.checked_add(count);
        count.is_some_and(|count| count <= MAX_SUMMED)
            && self.sum.underlying.len() == more.underlying.len()
            && underlying
                .all(|(to, from)| to.disk == from.disk && has_room(&to.in_flight, &from.in_flight))
            && has_room(&self.sum.in_flight, &more.in_flight)
    }

    /// Adds `count` others, of which `more` is the sum, and for which there is room.
    pub fn add(&mut self, count: u32, more: &Sync) {
        let sum = &mut self.sum;
        self.count = self.count.saturating_add(count);
        add_fields(sum, more);
        sum.own_bytes = sum.own_bytes.saturating_add(more.own_bytes);
        sum.own_requests = sum.own_requests.saturating_add(more.own_requests);
        sum.need_ns = sum.need_ns.saturating_add(more.need_ns);
        add_accounts(&mut sum.in_flight, &more.in_flight);
        for (to, from) in sum.underlying.iter_mut().zip(&more.underlying) {
            add_accounts(&mut to.in_flight, &from.in_flight);
        }
    }

    /// The sum as it is written. Digits take most of a line, and a mean of many syncs is not
    /// exact to more than three of them.
    pub fn rounded(mut self) -> Self {
        let sum = &mut self.sum;
        let duration_ns = sum.duration_ns;
        round_fields(sum);
        (sum.duration_ns, sum.need_ns) = (duration_ns, rounded(sum.need_ns));
        sum.begin_ns -= sum.begin_ns % 1_000_000;
        let lists = sum.underlying.iter_mut().map(|Underlying { in_flight, .. }| in_flight);
        for (_, ticks, weight_ns) in lists.chain([&mut sum.in_flight]).flatten() {
            *ticks = rounded(*ticks);
            *weight_ns = u32::try_from(rounded((*weight_ns).into())).unwrap_or(u32::MAX);
        }
        self
    }

    /// One of them, from 0 to `count` - 1.
    pub fn part(&self, number: u32) -> Sync {
        let part = Fraction { number, count: self.count };
        let mut sync = self.sum.clone();
        divide_fields(&mut sync, part);
        sync.own_bytes = part.of(sync.own_bytes);
        // Not more than it was.
        sync.own_requests = part.of(sync.own_requests.into()) as u32;
        sync.need_ns = part.of(sync.need_ns);
        let lists = sync.underlying.iter_mut().map(|Underlying { in_flight, .. }| in_flight);
        for (_, ticks, _) in lists.chain([&mut sync.in_flight]).flatten() {
            *ticks = part.of(*ticks);
        }
        sync
    }
}

/// Adds up by owner; the cost of a request is the mean by time in flight.
pub fn add_accounts(to: &mut Vec<Account>, from: &[Account]) {
    for one @ (id, ticks, weight_ns) in from {
        let Some((_, sum, mean_ns)) = to.iter_mut().find(|(known, ..)| known == id) else {
            to.push(*one);
            continue;
        };
        let work = |ticks: u64, ns: u32| u128::from(ticks) * u128::from(ns);
        let all = u128::from(*sum) + u128::from(*ticks);
        let mean = (work(*sum, *mean_ns) + work(*ticks, *weight_ns)) / all.max(1);
        *mean_ns = u32::try_from(mean).unwrap_or(u32::MAX);
        *sum = sum.saturating_add(*ticks);
    }
}
