//! Chance that can be had again: by its seed.

use std::time::Duration;

/// A stream of numbers (SplitMix64).
#[derive(Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream of the seed in this variable, or else of an ordinary run's; it is printed.
    pub fn from_environment(variable: &str) -> Self {
        let seed = std::env::var(variable).map_or(20_260_202, |seed| seed.parse().unwrap());
        println!("{variable}={seed}");
        Self(seed)
    }

    /// Lets up to so many milliseconds pass.
    pub async fn pause(&mut self, within: u64) {
        tokio::time::sleep(Duration::from_micros(self.below(within * 1000))).await;
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// One of several.
    pub fn one_of<T: Copy>(&mut self, several: &[T]) -> T {
        let at = self.below(several.len() as u64);
        several[usize::try_from(at).unwrap()]
    }

    /// Another stream, for somebody else.
    pub fn split(&mut self) -> Self {
        Self(self.below(u64::MAX))
    }
}
