//! Random numbers that are the same on each machine.

/// Random numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to 1.
    pub fn chance(&mut self) -> f64 {
        (self.throw() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[(self.throw() % of.len() as u64) as usize]
    }

    /// A number from a range, with equal probability.
    pub fn within(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.chance()
    }
}
