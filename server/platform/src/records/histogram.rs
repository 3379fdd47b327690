//! Durations by size: eight classes for each doubling, so that a percentile is at most an eighth too high.

use serde::{Deserialize, Serialize};

/// Classes for each doubling.
const PARTS: u32 = 8;
/// The doublings below this are one class for each microsecond.
const EXACT_BITS: u32 = 3;

/// A histogram of durations. It holds only the classes that occur.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Class and count, in order.
    classes: Vec<(u8, u32)>,
    sum_us: u64,
}

fn class(us: u32) -> u8 {
    let Some(bits) = us.checked_ilog2().filter(|bits| *bits >= EXACT_BITS) else { return us as u8 };
    let part = (us >> (bits - EXACT_BITS)) & (PARTS - 1);
    ((bits - EXACT_BITS + 1) * PARTS + part) as u8
}

/// The longest duration of a class.
fn longest_us(class: u8) -> u64 {
    let (octave, part) = (u32::from(class) / PARTS, u64::from(class) % u64::from(PARTS));
    match octave {
        0 => part,
        octave => ((u64::from(PARTS) + part + 1) << (octave - 1)) - 1,
    }
}

impl Histogram {
    /// Adds a duration.
    pub fn add(&mut self, us: u32) {
        self.add_many(class(us), 1);
        self.sum_us += u64::from(us);
    }

    fn add_many(&mut self, class: u8, count: u32) {
        match self.classes.binary_search_by_key(&class, |(class, _)| *class) {
            Ok(at) => {
                if let Some((_, there)) = self.classes.get_mut(at) {
                    *there = there.saturating_add(count);
                }
            }
            Err(at) => self.classes.insert(at, (class, count)),
        }
    }

    /// Adds another one.
    pub fn merge(&mut self, other: &Self) {
        for (class, count) in &other.classes {
            self.add_many(*class, *count);
        }
        self.sum_us += other.sum_us;
    }

    /// How many durations there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.classes.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// Their sum in microseconds.
    #[must_use]
    pub const fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// How many are shorter than 2^`bits` microseconds; `bits` is at least 3.
    #[must_use]
    pub fn below(&self, bits: u32) -> u64 {
        let end = (bits - EXACT_BITS + 1) * PARTS;
        let below = self.classes.iter().take_while(|(class, _)| u32::from(*class) < end);
        below.map(|(_, count)| u64::from(*count)).sum()
    }

    /// The duration in microseconds that this share of all, from 0 to 1, does not exceed; 0 if there are none.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> u64 {
        let count = self.count();
        let rank = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        for (class, count) in &self.classes {
            seen += u64::from(*count);
            if seen >= rank {
                return longest_us(*class);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_in_order_and_at_most_an_eighth_wide() {
        let mut last = 0;
        for us in (0..100_000).chain([u32::MAX - 1, u32::MAX]) {
            let class = class(us);
            let longest = longest_us(class);
            assert!(class >= last && longest >= u64::from(us), "{us}");
            assert!(longest <= u64::from(us) + u64::from(us) / 8, "{us}: {longest}");
            last = class;
        }
    }

    #[test]
    fn quantiles_and_bounds_are_those_of_the_durations() {
        let mut all = Histogram::default();
        let mut half = Histogram::default();
        for us in 1..=1000 {
            if us % 2 == 0 { all.add(us) } else { half.add(us) }
        }
        all.merge(&half);
        assert_eq!((all.count(), all.sum_us()), (1000, 500_500));
        assert_eq!((all.below(3), all.below(9), all.below(20)), (7, 511, 1000));
        for (share, us) in [(0.0, 1), (0.5, 500), (0.99, 990), (1.0, 1000)] {
            let told = all.quantile_us(share);
            assert!(told >= us && told <= us + us / 8, "{share}: {told}");
        }
        assert_eq!(Histogram::default().quantile_us(0.5), 0);
    }
}
