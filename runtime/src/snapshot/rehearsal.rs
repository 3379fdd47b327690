//! A rehearsal: a run in a world in which nothing happens by chance, so that two of them can be compared.

use std::time::Duration;

/// The time of day at which every rehearsal begins: in 2027, in nanoseconds since the Unix epoch.
const BEGIN_NS: u64 = 1_800_000_000_000_000_000;
/// The monotonic clock's first time, and what passes between two looks at a clock, in nanoseconds.
const FIRST_NS: u64 = 1_000_000;
const STEP_NS: u64 = 1_000;

/// What everything random in a rehearsal follows from.
pub(crate) type Seed = [u8; 32];

/// The clocks and the randomness of a rehearsal.
pub(crate) struct Rehearsal {
    random: blake3::OutputReader,
    /// How often the guest asked for random bytes.
    pub(crate) random_calls: u32,
    clock_ns: u64,
}

impl Rehearsal {
    /// The world at the start of a program.
    pub(crate) fn new(seed: &Seed) -> Self {
        let random = blake3::Hasher::new_keyed(seed).finalize_xof();
        Self { random, random_calls: 0, clock_ns: FIRST_NS }
    }

    /// The same world at the moment of a snapshot.
    pub(crate) fn go_on(seed: &Seed, clock_ns: u64, random_bytes: u64) -> Self {
        let mut this = Self::new(seed);
        this.random.set_position(random_bytes);
        Self { clock_ns, ..this }
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.random.fill(bytes);
    }

    /// Random bytes that the guest has had.
    pub(crate) fn random_bytes(&self) -> u64 {
        self.random.position()
    }

    /// The monotonic clock, without letting time pass.
    pub(crate) fn clock_ns(&self) -> u64 {
        self.clock_ns
    }

    pub(crate) fn monotonic_ns(&mut self) -> u64 {
        self.clock_ns += STEP_NS;
        self.clock_ns
    }

    pub(crate) fn realtime_ns(&mut self) -> u64 {
        BEGIN_NS + self.monotonic_ns()
    }

    /// Waits, which takes no time.
    pub(crate) fn wait(&mut self, duration: Duration) {
        self.clock_ns = self.clock_ns.saturating_add(duration.as_nanos() as u64);
    }
}
