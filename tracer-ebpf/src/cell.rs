//! Values of maps, which other CPUs and user space read and write meanwhile.
//!
//! A [`MapCell`] points to a value of a map, or to a part of one. It is read and
//! written word by word, and no reference to it is ever made. All memory that
//! the kernel programs share is reached through this file.

use core::{
    mem::MaybeUninit,
    ptr::{NonNull, read_volatile, write_volatile},
};

use zerocopy::{FromBytes, IntoBytes};

/// Plain data: any bytes are a value, and none of its bytes is padding.
pub trait Plain: Copy + FromBytes + IntoBytes + 'static {}

impl<T: Copy + FromBytes + IntoBytes + 'static> Plain for T {}

/// A value of a map, or a part of one.
///
/// # Safety
///
/// All unsafe code on maps' values stands on this argument. A cell is made from
/// what a look-up in a map returned, or from a field or an element of another
/// cell. So it points into a value of a map, which is aligned to 8 bytes and which
/// the kernel does not free while a program runs that looked it up; the verifier
/// checks at the load of the program that every access stays within the value.
///
/// Meanwhile anybody may change the value, and a hash map may give its memory to
/// another key. Therefore nothing here makes a reference to it: words are read
/// and written by volatile instructions, one for each word, and sums that several
/// CPUs add to are changed by atomic adds. Whatever the bytes are, they are a `T`
/// ([`Plain`]). A value of several words may be torn, so its writer is one thread,
/// or the comment at its use says why a torn one does no harm.
pub struct MapCell<T> {
    at: NonNull<T>,
}

impl<T> Clone for MapCell<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for MapCell<T> {}

impl<T> MapCell<T> {
    /// A cell of what a look-up in a map returned.
    ///
    /// # Safety
    ///
    /// It points to a value of a map.
    #[inline(always)]
    pub unsafe fn new(at: NonNull<T>) -> Self {
        Self { at }
    }

    /// A part of it; [`fields`] and the array's methods call this.
    ///
    /// # Safety
    ///
    /// `part` returns a pointer into the value that it is given, and reads nothing.
    #[inline(always)]
    pub unsafe fn part<P>(self, part: impl FnOnce(*mut T) -> *mut P) -> MapCell<P> {
        // SAFETY: a part of what is not null is not null.
        unsafe { MapCell { at: NonNull::new_unchecked(part(self.at.as_ptr())) } }
    }
}

impl<T: Plain> MapCell<T> {
    #[inline(always)]
    pub fn get(self) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        let (from, to) = (self.at.as_ptr(), value.as_mut_ptr());
        // SAFETY: see `MapCell`; both are whole words, and all of the value is
        // written.
        unsafe {
            each_word::<T>(
                |at| to.cast::<u64>().add(at).write(read_volatile(from.cast::<u64>().add(at))),
                |at| to.cast::<u32>().add(at).write(read_volatile(from.cast::<u32>().add(at))),
                |at| to.cast::<u16>().add(at).write(read_volatile(from.cast::<u16>().add(at))),
                |at| to.cast::<u8>().add(at).write(read_volatile(from.cast::<u8>().add(at))),
            );
            value.assume_init()
        }
    }

    #[inline(always)]
    pub fn set(self, value: T) {
        let (from, to) = (&raw const value, self.at.as_ptr());
        // SAFETY: see `MapCell`; both are whole words, none of which is padding.
        unsafe {
            each_word::<T>(
                |at| write_volatile(to.cast::<u64>().add(at), from.cast::<u64>().add(at).read()),
                |at| write_volatile(to.cast::<u32>().add(at), from.cast::<u32>().add(at).read()),
                |at| write_volatile(to.cast::<u16>().add(at), from.cast::<u16>().add(at).read()),
                |at| write_volatile(to.cast::<u8>().add(at), from.cast::<u8>().add(at).read()),
            );
        }
    }

    /// Looks at the memory as words.
    #[inline(always)]
    pub fn words<const N: usize>(self) -> MapCell<[u64; N]> {
        const { assert!(size_of::<T>() == N * 8 && align_of::<T>() == 8) };
        MapCell { at: self.at.cast() }
    }
}

/// Calls one of the functions for each word of a `T`: the one for words of its
/// alignment.
#[inline(always)]
fn each_word<T>(
    of_8: impl Fn(usize),
    of_4: impl Fn(usize),
    of_2: impl Fn(usize),
    of_1: impl Fn(usize),
) {
    for at in 0..size_of::<T>() / align_of::<T>() {
        match align_of::<T>() {
            8 => of_8(at),
            4 => of_4(at),
            2 => of_2(at),
            1 => of_1(at),
            _ => {}
        }
    }
}

impl MapCell<u64> {
    /// `*word += value`, atomically. All kernels know this instruction; kernels before
    /// 5.12 have none that also returns the result:
    /// <https://github.com/torvalds/linux/commit/5ca419f2864a>.
    #[inline(always)]
    pub fn add(self, value: u64) {
        #[cfg(target_arch = "bpf")]
        // SAFETY: see `MapCell`.
        unsafe {
            use core::intrinsics::{AtomicOrdering, atomic_xadd};
            atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(self.at.as_ptr(), value);
        }
        #[cfg(not(target_arch = "bpf"))]
        // SAFETY: see `MapCell`.
        unsafe {
            use core::sync::atomic::{AtomicU64, Ordering};
            AtomicU64::from_ptr(self.at.as_ptr()).fetch_add(value, Ordering::Relaxed);
        }
    }

    /// Sets a word that is 0 to this mark. Returns false if another CPU claimed the word
    /// first. Kernels before 5.12 have no compare-and-swap
    /// (<https://github.com/torvalds/linux/commit/5ffa25502b5a>), so the mark is added: the
    /// claim holds if the word is exactly the mark then, and else the mark is taken out
    /// again. If several CPUs claim at once, at most one succeeds. No mark may be the sum
    /// of others.
    #[inline(always)]
    pub fn claim(self, mark: u64) -> bool {
        if self.get() != 0 {
            return false;
        }
        self.add(mark);
        if self.get() == mark {
            return true;
        }
        self.give_up(mark);
        false
    }

    /// Ends what [`claim`](Self::claim) began. A mere 0 would overwrite a claim that is
    /// about to fail.
    #[inline(always)]
    pub fn give_up(self, mark: u64) {
        self.add(mark.wrapping_neg());
    }

    /// `*word += value` where one thread alone writes the word: a load, an add
    /// and a store.
    #[inline(always)]
    pub fn add_alone(self, value: u64) {
        self.set(self.get().wrapping_add(value));
    }
}

impl<T, const N: usize> MapCell<[T; N]> {
    /// An element. The compiler knows that the index is in range: else a panic
    /// is left, and the program cannot be loaded.
    #[inline(always)]
    pub fn at(self, index: usize) -> MapCell<T> {
        assert!(index < N);
        // SAFETY: an element of the array.
        unsafe { self.part(|array| array.cast::<T>().add(index)) }
    }

    /// An element, if the array is long enough. The compiler may know that it is, and
    /// would drop the check that the verifier wants to see, so the index is hidden from it.
    #[inline(always)]
    pub fn find(self, index: usize) -> Option<MapCell<T>> {
        let index = core::hint::black_box(index);
        if index >= N {
            return None;
        }
        // SAFETY: an element of the array.
        Some(unsafe { self.part(|array| array.cast::<T>().add(index)) })
    }
}

/// Zeros, word by word: what the compiler makes of an assignment is a call that
/// writes byte by byte.
#[inline(always)]
pub fn clear<const N: usize>(words: &mut [u64; N]) {
    for word in words {
        // SAFETY: a reference; volatile only to keep it a loop of words.
        unsafe { write_volatile(word, 0) };
    }
}

/// Gives the cells of a struct a method for each of these fields.
macro_rules! fields {
    ($of:ident { $($name:ident: $type:ty),+ $(,)? }) => {
        impl $crate::cell::MapCell<$of> {
            $(
                #[inline(always)]
                pub fn $name(self) -> $crate::cell::MapCell<$type> {
                    // SAFETY: a field of the struct.
                    unsafe { self.part(|whole| &raw mut (*whole).$name) }
                }
            )+
        }
    };
}
#[cfg(target_arch = "bpf")]
pub(crate) use fields;

#[cfg(test)]
mod tests;
