//! Every limit of the product in one place: default, minimum, maximum and the reason for each.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A whole-number setting that a user may choose within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The name under which `function.yaml` and the deploy form know it.
    pub name: &'static str,
    /// What holds when the user says nothing.
    pub default: u32,
    /// Smallest accepted value.
    pub min: u32,
    /// Largest accepted value.
    pub max: u32,
    /// The unit, for messages.
    pub unit: &'static str,
}

impl Setting {
    /// Returns `value` when it lies within the bounds, else a sentence that names the field.
    ///
    /// # Errors
    /// A message that says which field is out of range, and the range.
    pub fn check(&self, value: i64) -> Result<u32, String> {
        u32::try_from(value)
            .ok()
            .filter(|v| self.range().contains(v))
            .ok_or_else(|| {
                format!(
                    "{} must be between {} and {} {}, got {value}",
                    self.name, self.min, self.max, self.unit
                )
            })
    }

    /// The accepted values.
    #[must_use]
    pub fn range(&self) -> RangeInclusive<u32> {
        self.min..=self.max
    }
}

/// Linear memory of one instance. 256 MB is what one pool slot reserves; Go programs need about 4 MB to start.
pub const MEMORY_MB: Setting =
    Setting { name: "memory", default: 64, min: 1, max: 256, unit: "MB" };

/// Wall time of one invocation.
pub const TIMEOUT_SECONDS: Setting =
    Setting { name: "timeout", default: 30, min: 1, max: 300, unit: "seconds" };

/// Further attempts after a failed one.
pub const RETRY_COUNT: Setting =
    Setting { name: "retry.count", default: 0, min: 0, max: 5, unit: "attempts" };

/// Wait between attempts. A day bounds what a retry may hold in the queue.
pub const RETRY_DELAY_SECONDS: Setting =
    Setting { name: "retry.delay", default: 5, min: 0, max: 86_400, unit: "seconds" };

/// Longest name of a function, namespace or secret, in bytes: what fits a DNS label.
pub const NAME_MAX_BYTES: usize = 63;

/// Largest invocation input (HTTP body), in bytes: the contract's 1 MiB.
pub const INPUT_MAX_BYTES: usize = 1 << 20;

/// Largest standard output of one invocation, in bytes. Answers are held in memory until they are sent.
pub const OUTPUT_MAX_BYTES: usize = 8 << 20;

/// Largest wasm module accepted, in bytes. Standard Go programs are 3 to 20 MB.
pub const WASM_MAX_BYTES: usize = 64 << 20;

/// Largest deploy request: the module and 1 MiB for the form's other fields.
pub const DEPLOY_MAX_BYTES: usize = WASM_MAX_BYTES + (1 << 20);

/// Largest body of any other control-plane request, in bytes.
pub const CONTROL_BODY_MAX_BYTES: usize = 1 << 20;

/// Environment variables of one function version.
pub const ENV_MAX_ENTRIES: usize = 128;

/// Names and values of a version's environment together, in bytes; they are copied into every instance.
pub const ENV_MAX_BYTES: usize = 64 << 10;

/// Longest log message kept whole, in bytes; a longer one is cut and says so.
pub const LOG_MESSAGE_MAX_BYTES: usize = 8 << 10;

/// Log messages kept of one invocation; the record counts the ones dropped.
pub const LOG_MESSAGES_MAX: usize = 200;

/// All log messages of one invocation together, in bytes, so that one function cannot flood the store.
pub const LOG_TOTAL_MAX_BYTES: usize = 64 << 10;

/// Entries of one `iovec` array in `fd_read`/`fd_write`, as POSIX's `IOV_MAX`.
pub const IOVEC_MAX: u32 = 1024;

/// Subscriptions of one `poll_oneoff`.
pub const POLL_SUBSCRIPTIONS_MAX: u32 = 64;

/// Bytes of randomness produced before the guest's core serves others.
pub const RANDOM_CHUNK_BYTES: usize = 64 << 10;

/// Elements of one table. Go hello has 4,000.
pub const TABLE_MAX_ELEMENTS: usize = 1 << 16;

/// How often running guests are asked whether their slice or their deadline has passed.
pub const EPOCH_TICK: Duration = Duration::from_millis(1);

/// Instances alive at once on a node. Each slot reserves 4 GiB of address space; 47 bits hold about 30,000.
pub const INSTANCE_SLOTS: u32 = 4096;

/// Fiber stacks beyond one an instance: a host call that calls the guest's allocator back runs on a second one.
pub const EXTRA_STACKS: u32 = 512;
