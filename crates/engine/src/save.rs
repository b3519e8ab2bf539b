//! How the engine's state is written down and read again: field by field, in few bytes.
//!
//! Numbers are as long as they need to be, and histograms are lists of the buckets that hold
//! something, since most hold nothing. Whoever reads trusts nothing: each structure says what must
//! hold in it, so that nothing overflows and no index is too large.
//! The names and types of all fields make a number, the *shape*: what a build with another
//! shape has written is not read.

use super::histogram::Histogram;

/// No sum is larger, and so none overflows. It is two years in nanoseconds.
pub const MAX_SUM: u64 = 1 << 56;

/// No fraction is larger. Sums of them are far from what an `f32` can hold.
const MAX_REAL: f64 = 1e25;

/// No list is longer.
const MAX_ITEMS: usize = 64;

/// FNV-1a, 64 bits: no protection against people, only against accidents.
#[derive(Clone, Copy, Debug)]
pub struct Digest(pub u64);

impl Digest {
    pub const NONE: Self = Self(0xcbf2_9ce4_8422_2325);

    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// The bytes that are left to be read.
pub struct Source<'a>(pub &'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Seven bits in each byte, the lowest first; the highest bit says that more follow.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            number |= bits.checked_shl(shift).filter(|moved| moved >> shift == bits)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A part of the engine's state.
pub trait Save {
    /// Adds what it looks like.
    fn shape(shape: &mut Digest);

    fn put(&self, out: &mut Vec<u8>);

    /// Reads what [`Save::put`] wrote; `None` if that cannot be what it wrote.
    fn read(&mut self, from: &mut Source<'_>) -> Option<()>;
}

/// The shape of a field, whose type need not be named.
pub fn shape_of<S, T: Save>(_: fn(&S) -> &T, shape: &mut Digest) {
    T::shape(shape);
}

/// Says which fields of a structure are saved, which are left as they are in a new one,
/// and what must hold in one that was read.
macro_rules! saved {
    ($of:ty { $($field:ident),* $(,)? } $(left { $($left:ident),* $(,)? })? $(if $holds:expr)?) => {
        impl $crate::save::Save for $of {
            fn shape(shape: &mut $crate::save::Digest) {
                shape.add(stringify!($of).as_bytes());
                $(
                    shape.add(stringify!($field).as_bytes());
                    $crate::save::shape_of(|it: &Self| &it.$field, shape);
                )*
            }

            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field,)* $($($left: _,)*)? } = self;
                $($crate::save::Save::put($field, out);)*
            }

            fn read(&mut self, from: &mut $crate::save::Source<'_>) -> Option<()> {
                $($crate::save::Save::read(&mut self.$field, from)?;)*
                $(
                    let holds: fn(&Self) -> bool = $holds;
                    if !holds(self) {
                        return None;
                    }
                )?
                Some(())
            }
        }
    };
}
pub(crate) use saved;

/// Whole numbers up to `$max`.
macro_rules! whole {
    ($($of:ty: $max:expr,)*) => {$(
        impl Save for $of {
            fn shape(shape: &mut Digest) {
                shape.add(stringify!($of).as_bytes());
            }

            fn put(&self, out: &mut Vec<u8>) {
                put_number(u64::from(*self), out);
            }

            fn read(&mut self, from: &mut Source<'_>) -> Option<()> {
                let number = from.number().filter(|number| *number <= $max)?;
                *self = number.try_into().ok()?;
                Some(())
            }
        }
    )*};
}

whole! {
    u8: u64::from(u8::MAX),
    u16: u64::from(u16::MAX),
    u32: u64::from(u32::MAX),
    u64: u64::MAX,
}

impl Save for bool {
    fn shape(shape: &mut Digest) {
        shape.add(b"bool");
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push((*self).into());
    }

    fn read(&mut self, from: &mut Source<'_>) -> Option<()> {
        *self = from.number().filter(|bit| *bit <= 1)? == 1;
        Some(())
    }
}

/// The last bits come first: in most numbers these are zeros.
impl Save for f64 {
    fn shape(shape: &mut Digest) {
        shape.add(b"f64");
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_number(self.to_bits().swap_bytes(), out);
    }

    fn read(&mut self, from: &mut Source<'_>) -> Option<()> {
        *self = Self::from_bits(from.number()?.swap_bytes());
        (self.abs() <= MAX_REAL).then_some(())
    }
}

impl Save for f32 {
    fn shape(shape: &mut Digest) {
        shape.add(b"f32");
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_number(self.to_bits().swap_bytes().into(), out);
    }

    fn read(&mut self, from: &mut Source<'_>) -> Option<()> {
        *self = Self::from_bits(u32::try_from(from.number()?).ok()?.swap_bytes());
        (f64::from(self.abs()) <= MAX_REAL).then_some(())
    }
}

impl<T: Save, const N: usize> Save for [T; N] {
    fn shape(shape: &mut Digest) {
        shape.add(&N.to_le_bytes());
        T::shape(shape);
    }

    fn put(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|one| one.put(out));
    }

    fn read(&mut self, from: &mut Source<'_>) -> Option<()> {
        self.iter_mut().try_for_each(|one| one.read(from))
    }
}

impl<A: Save, B: Save> Save for (A, B) {
    fn shape(shape: &mut Digest) {
        A::shape(shape);
        B::shape(shape);
    }

    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn read(&mut self, from: &mut Source<'_>) -> Option<()> {
        self.0.read(from)?;
        self.1.read(from)
    }
}

impl<T: Save + Default> Save for Option<T> {
    fn shape(shape: &mut Digest) {
        shape.add(b"option");
        T::shape(shape);
    }

    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        self.iter().for_each(|one| one.put(out));
    }

    fn read(&mut self, from: &mut Source<'_>) -> Option<()> {
        let mut is_there = false;
        is_there.read(from)?;
        *self = is_there.then(T::default);
        self.iter_mut().try_for_each(|one| one.read(from))
    }
}

impl<T: Save> Save for Box<T> {
    fn shape(shape: &mut Digest) {
        T::shape(shape);
    }

    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }

    fn read(&mut self, from: &mut Source<'_>) -> Option<()> {
        (**self).read(from)
    }
}

impl<T: Save + Default> Save for Vec<T> {
    fn shape(shape: &mut Digest) {
        shape.add(b"list");
        T::shape(shape);
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_number(self.len() as u64, out);
        self.iter().for_each(|one| one.put(out));
    }

    fn read(&mut self, from: &mut Source<'_>) -> Option<()> {
        let count = usize::try_from(from.number()?).ok().filter(|count| *count <= MAX_ITEMS)?;
        self.clear();
        for _ in 0..count {
            let mut one = T::default();
            one.read(from)?;
            self.push(one);
        }
        Some(())
    }
}

/// For each bucket that holds something: how many empty ones are before it, and its count.
impl<const STEP_BITS: u32, const BUCKETS: usize> Save for Histogram<STEP_BITS, BUCKETS> {
    fn shape(shape: &mut Digest) {
        shape.add(&STEP_BITS.to_le_bytes());
        shape.add(&BUCKETS.to_le_bytes());
    }

    fn put(&self, out: &mut Vec<u8>) {
        let held = self.counts().iter().enumerate().filter(|(_, count)| **count > 0);
        put_number(held.clone().count() as u64, out);
        let mut next = 0;
        for (at, count) in held {
            put_number((at - next) as u64, out);
            count.put(out);
            next = at + 1;
        }
    }

    fn read(&mut self, from: &mut Source<'_>) -> Option<()> {
        self.clear();
        let mut next = 0usize;
        for _ in 0..from.number()? {
            let at = next.checked_add(usize::try_from(from.number()?).ok()?)?;
            self.counts_mut().get_mut(at)?.read(from)?;
            next = at + 1;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::histogram::Evidence;

    fn bytes(of: &impl Save) -> Vec<u8> {
        let mut bytes = Vec::new();
        of.put(&mut bytes);
        bytes
    }

    fn read<T: Save + Default>(bytes: &[u8]) -> Option<(T, usize)> {
        let (mut value, mut source) = (T::default(), Source(bytes));
        value.read(&mut source).map(|()| (value, source.0.len()))
    }

    #[test]
    fn numbers_are_as_long_as_they_need_to_be() {
        assert_eq!(bytes(&0u64), [0]);
        assert_eq!(bytes(&127u32), [127]);
        assert_eq!(bytes(&128u16), [0x80, 1]);
        assert_eq!(bytes(&300u64), [0xac, 2]);
        assert_eq!(bytes(&0.0f64), [0]);
        // 1.0 is 0x3ff0 and zeros: 0xf03f from behind, in groups of seven bits.
        assert_eq!(bytes(&1.0f64), [0xbf, 0xe0, 3]);
        assert_eq!(bytes(&vec![true, false]), [2, 1, 0]);
        assert_eq!(bytes(&None::<u64>), [0]);
        assert_eq!(bytes(&Some(5u64)), [1, 5]);
        // Two buckets of the histogram hold something.
        let mut evidence = Evidence::default();
        (0..3).for_each(|_| evidence.record(0));
        evidence.record(u64::MAX);
        assert_eq!(bytes(&evidence), [2, 0, 3, 96, 1]);
    }

    #[test]
    fn what_cannot_have_been_written_is_refused() {
        assert!(read::<u64>(&[]).is_none(), "nothing");
        assert!(read::<u64>(&[0x80]).is_none(), "cut off");
        assert!(read::<u64>(&[0xff; 11]).is_none(), "more than 64 bits");
        assert!(read::<u8>(&[0x80, 2]).is_none(), "256");
        assert!(read::<bool>(&[2]).is_none());
        for real in [f64::NAN, f64::INFINITY, -1e26] {
            assert!(read::<f64>(&bytes(&real)).is_none(), "{real}");
            assert!(read::<f32>(&bytes(&(real as f32))).is_none(), "{real}");
        }
        assert!(read::<Vec<u8>>(&bytes(&vec![0u8; 64])).is_some());
        assert!(read::<Vec<u8>>(&bytes(&vec![0u8; 65])).is_none(), "a longer list");
        assert!(read::<Evidence>(&[1, 97, 1]).is_some());
        assert!(read::<Evidence>(&[1, 98, 1]).is_none(), "a bucket that is not there");
        assert!(read::<Evidence>(&[2, 97, 1, 0, 1]).is_none());
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(
            whole in prop::collection::vec(any::<u64>(), 0..64),
            real in prop::collection::vec(-1e25f64..1e25, 0..64),
            durations in prop::collection::vec(0u64..1 << 36, 0..99),
        ) {
            prop_assert_eq!(read::<Vec<u64>>(&bytes(&whole)), Some((whole, 0)));
            let short: Vec<f32> = real.iter().map(|real| (*real / 2.0) as f32).collect();
            prop_assert_eq!(read::<Vec<f64>>(&bytes(&real)), Some((real, 0)));
            prop_assert_eq!(read::<Vec<f32>>(&bytes(&short)), Some((short, 0)));
            let mut evidence = Evidence::default();
            durations.iter().for_each(|ns| evidence.record(*ns));
            let (again, left) = read::<Evidence>(&bytes(&evidence)).unwrap();
            prop_assert_eq!((again.counts(), left), (evidence.counts(), 0));
        }
    }
}
