//! The order in which the arms of a block are measured, and the random numbers for it.

/// Steele, Lea and Flood's splitmix64. It is good enough for orders and for offsets in a
/// file, and repeatable from its seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`. As `end` is small, the bias is less than 2⁻³².
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}

/// Random orders, each followed by its reverse. Of any two arms each comes first in one of
/// two such blocks, so an even drift cancels out.
pub struct Orders<T> {
    arms: Vec<T>,
    random: Random,
    is_reverse_next: bool,
}

impl<T: Copy> Orders<T> {
    pub fn new(arms: &[T], seed: u64) -> Self {
        Self { arms: arms.to_vec(), random: Random::new(seed), is_reverse_next: false }
    }

    pub fn next(&mut self) -> Vec<T> {
        if self.is_reverse_next {
            self.arms.reverse();
        } else {
            for last in (1..self.arms.len()).rev() {
                let other = self.random.below(last + 1);
                self.arms.swap(last, other);
            }
        }
        self.is_reverse_next = !self.is_reverse_next;
        self.arms.clone()
    }
}
