//! Random changes to seeds, for runs without instrumentation.

/// Numbers that follow from a seed (xorshift64*), so that a run can be repeated.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`; 0 for 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or(0) % end.max(1)
    }

    fn range(&mut self, bytes: &[u8], longest: usize) -> std::ops::Range<usize> {
        let start = self.below(bytes.len() + 1);
        let length = self.below(longest.min(bytes.len() - start) + 1);
        start..start + length
    }
}

/// A seed, changed in a few places; other seeds give parts.
pub fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        match random.below(7) {
            0 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            1 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
            }
            2 => drop(bytes.drain(random.range(&bytes, 16))),
            3 => {
                let new: Vec<u8> = (0..=random.below(8)).map(|_| random.below(256) as u8).collect();
                let at = random.below(bytes.len() + 1);
                bytes.splice(at..at, new);
            }
            4 => {
                let part = bytes[random.range(&bytes, 64)].to_vec();
                let at = random.below(bytes.len() + 1);
                bytes.splice(at..at, part);
            }
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let part = other[random.range(other, 64)].to_vec();
                let at = random.range(&bytes, 16);
                bytes.splice(at, part);
            }
        }
    }
    bytes
}
