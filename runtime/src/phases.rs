//! Where the time of a run went: waiting for a turn, its start, and the host calls that it waited for.

use std::time::Duration;

/// What a host function reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `db_*`, and `exec_and_publish`.
    Database,
    /// `cache_*`.
    Cache,
    /// `http_fetch`.
    Fetch,
    /// `storage_*`.
    Storage,
    /// `pubsub_*` and `function_invoke_async`.
    Events,
    /// `function_invoke` and `function_invoke_v2`.
    Calls,
    /// `get_secret`.
    Secrets,
    /// `http_response_*`: the client takes what the function sends.
    Sending,
}

impl Kind {
    /// All kinds, each at the place of its number.
    pub const ALL: [Self; 8] = [
        Self::Database,
        Self::Cache,
        Self::Fetch,
        Self::Storage,
        Self::Events,
        Self::Calls,
        Self::Secrets,
        Self::Sending,
    ];

    /// The word used in records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Cache => "cache",
            Self::Fetch => "fetch",
            Self::Storage => "storage",
            Self::Events => "events",
            Self::Calls => "calls",
            Self::Secrets => "secrets",
            Self::Sending => "sending",
        }
    }
}

/// The host calls of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostCalls {
    /// How many the guest made.
    pub count: u32,
    /// Microseconds that it waited for them. A call that is answered at once is not waited for.
    pub waited_us: u32,
}

/// Where the time of a run went. The rest of its duration ran the guest's code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases {
    /// Microseconds of waiting until the core had time for it.
    pub wait_us: u32,
    /// Microseconds until the instance was there, and had done its start if it is a reactor's; 0 for a parked one.
    pub start_us: u32,
    /// Host calls by [`Kind`].
    pub calls: [HostCalls; Kind::ALL.len()],
}

impl Phases {
    /// The host calls of a kind.
    #[must_use]
    pub const fn of(&self, kind: Kind) -> HostCalls {
        self.calls[kind as usize]
    }

    pub(crate) const fn of_mut(&mut self, kind: Kind) -> &mut HostCalls {
        &mut self.calls[kind as usize]
    }
}

/// Microseconds; at most those that fit, over an hour.
#[must_use]
pub fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
