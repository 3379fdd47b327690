//! How a call is made.

use std::time::Duration;

/// How fresh a read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// What the node that was asked has: also when it is cut off from the others.
    None,
    /// What the leader has, which may have been deposed without knowing it yet.
    #[default]
    Weak,
    /// Nothing older than the call: the leader makes sure that it is the leader.
    Linearizable,
    /// The same, through the log of all nodes.
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

/// How a call is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// For reads.
    pub level: Level,
    /// All or nothing; reads see one state.
    pub transaction: bool,
    /// Whether rqlite replaces `random()`, `date('now')` and the like by values, so that all of its nodes store the same, and
    /// returns the rows of RETURNING.
    pub rewrites: bool,
    /// How long SQLite may run one statement.
    pub statement_timeout: Option<Duration>,
    /// Bytes of the answer at most.
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
