//! Keys and values of maps, as the plain bytes that they are.

use aya::Pod;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A key or value of a map, of one of the contract's types.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Plain<T>(pub T);

// SAFETY: a transparent wrapper has its field's bytes: none of them is padding
// (`IntoBytes`), whatever they hold makes a value (`FromBytes`), and no value
// changes behind a shared reference (`Immutable`). zerocopy proves all three.
unsafe impl<T: Copy + FromBytes + Immutable + IntoBytes + 'static> Pod for Plain<T> {}
