//! The keys of the config file, of which each is a variable too. A key is one entry here and a field of [`super::Config`]; what
//! it accepts, `orama serve --check` and docs/CONFIG.md follow from the entry.

use super::key::Key;

mod access;
mod bounds;
mod node;
mod telemetry;

/// The variable that filters the log, also of commands that are no node.
pub(crate) const LOG_VARIABLE: &str = "ORAMA_LOG";

/// All of them, apart from those of backends and issuers.
pub(super) fn keys() -> impl Iterator<Item = &'static Key> {
    [node::KEYS, bounds::KEYS, access::KEYS, telemetry::KEYS].into_iter().flatten()
}
