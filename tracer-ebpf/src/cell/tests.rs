use core::{cell::UnsafeCell, ptr::NonNull};
use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    thread,
};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{MapCell, clear};

#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, PartialEq)]
#[repr(C)]
struct Mixed {
    sum: u64,
    tid: u32,
    op: u16,
    flags: [u8; 2],
    list: [u64; 3],
}

fields! { Mixed { sum: u64, tid: u32, op: u16, flags: [u8; 2], list: [u64; 3] } }

const MIXED: Mixed = Mixed { sum: 1, tid: 2, op: 3, flags: [4, 5], list: [6, 7, 8] };

/// As memory of a map: nobody has a reference to what is in it.
struct Value<T>(UnsafeCell<T>);

// SAFETY: it is reached through cells only.
unsafe impl<T> Sync for Value<T> {}

impl<T> Value<T> {
    const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    fn cell(&self) -> MapCell<T> {
        // SAFETY: it lives longer than the tests' cells, and has no references.
        unsafe { MapCell::new(NonNull::new_unchecked(self.0.get())) }
    }
}

#[test]
fn a_value_is_read_and_written_whole_and_by_its_fields() {
    let value = Value::new(MIXED);
    let cell = value.cell();
    assert_eq!(cell.get(), MIXED);
    cell.tid().set(20);
    cell.op().set(30);
    cell.flags().set([40, 50]);
    cell.list().at(2).set(80);
    let changed = Mixed { tid: 20, op: 30, flags: [40, 50], list: [6, 7, 80], ..MIXED };
    assert_eq!(cell.get(), changed);
    assert_eq!((cell.sum().get(), cell.tid().get(), cell.op().get()), (1, 20, 30));
    cell.set(MIXED);
    assert_eq!(cell.get(), MIXED);
    assert_eq!(cell.words::<5>().at(0).get(), 1);
    assert_eq!(cell.words::<5>().at(4).get(), 8);
}

#[test]
fn what_lies_beyond_an_array_is_not_found() {
    let value = Value::new(MIXED);
    let list = value.cell().list();
    assert_eq!(list.find(2).map(MapCell::get), Some(8));
    assert!(list.find(3).is_none() && list.find(usize::MAX).is_none());
}

#[test]
#[should_panic(expected = "index < N")]
fn an_index_that_is_out_of_range_is_no_element() {
    let _ = Value::new(MIXED).cell().list().at(3);
}

#[test]
fn sums_that_many_add_to_lose_nothing() {
    const ADDS: u64 = if cfg!(miri) { 50 } else { 10_000 };
    let value = Value::new(MIXED);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..ADDS).for_each(|_| value.cell().sum().add(1)));
        }
    });
    assert_eq!(value.cell().get(), Mixed { sum: 1 + 4 * ADDS, ..MIXED });
    value.cell().sum().add_alone(u64::MAX);
    assert_eq!(value.cell().sum().get(), 4 * ADDS);
}

#[test]
fn words_are_cleared() {
    let mut words = [1, 2, 3];
    clear(&mut words);
    assert_eq!(words, [0; 3]);
}

/// Four threads claim three words, as CPUs claim slots for requests.
#[test]
fn of_claims_at_once_at_most_one_holds_and_nothing_is_left() {
    const CLAIMS: u32 = 200_000;
    let words = [const { Value::new(0u64) }; 3];
    let holders = [const { AtomicU32::new(0) }; 3];
    let held = AtomicU32::new(0);
    thread::scope(|scope| {
        for thread in 1..5_u64 {
            let (words, holders, held) = (&words, &holders, &held);
            scope.spawn(move || {
                // Addresses of the kernel's half.
                let mark = 0xffff_8881_0000_0000 + thread * 0x140;
                for at in 0..CLAIMS {
                    let at = at as usize % words.len();
                    let word = words[at].cell();
                    if word.claim(mark) {
                        assert_eq!(holders[at].fetch_add(1, SeqCst), 0, "two hold one word");
                        held.fetch_add(1, SeqCst);
                        holders[at].fetch_sub(1, SeqCst);
                        word.give_up(mark);
                    }
                }
            });
        }
    });
    assert_eq!(words.map(|word| word.cell().get()), [0; 3]);
    // A claim fails only beside another.
    assert!(held.into_inner() > CLAIMS / 10);
}
