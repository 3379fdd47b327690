//! The options of a call.

use std::time::Duration;

/// The consistency level of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// The state of the server that is called, which may be cut off from the others.
    None,
    /// The state of the leader, which may have been deposed without knowing it yet.
    #[default]
    Weak,
    /// Linearizable: the leader verifies that it is the leader.
    Linearizable,
    /// Linearizable, through the log of the cluster.
    Strong,
}

impl Level {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Weak => "weak",
            Self::Linearizable => "linearizable",
            Self::Strong => "strong",
        }
    }
}

/// The options of a call.
#[derive(Debug, Clone)]
pub struct Options {
    /// The consistency of reads.
    pub level: Level,
    /// Whether the statements are one transaction.
    pub transaction: bool,
    /// Whether rqlite replaces `random()`, `date('now')` and the like by values, so that all of its nodes store the same, and
    /// returns the rows of RETURNING.
    pub rewrites: bool,
    /// Timeout of one statement on the server.
    pub statement_timeout: Option<Duration>,
    /// Maximum size of the answer, in bytes.
    pub reply_max_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            level: Level::Weak,
            transaction: false,
            rewrites: true,
            statement_timeout: None,
            reply_max_bytes: 64 << 20,
        }
    }
}
