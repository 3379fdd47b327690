//! Following the records of a namespace: where on each node a reader has come to.
//!
//! A position is the number of a block, which counts the blocks of all namespaces. It leaves the node veiled, as it would tell
//! tenants of each other's load.

use super::wide::{self, WideFilter};
use super::{Record, Records, RecordsError};
use orama_runtime::names::Namespace;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name of a node that has no peers.
pub const ALONE: &str = "alone";

/// Where a reader has come to on every node. It began at a time: of a node that it has not heard of, it reads what started since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// When the reader began, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// The position on each node.
    pub positions: BTreeMap<String, String>,
}

impl Cursor {
    /// As text for a query. Empty positions and names have no meaning.
    #[must_use]
    pub fn text(&self) -> String {
        let of = |(node, position): (&String, &String)| format!("_{node}.{position}");
        format!("{}{}", self.since_ms, self.positions.iter().map(of).collect::<String>())
    }

    /// Reads [`Self::text`]; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('_');
        let since_ms = parts.next()?.parse().ok()?;
        let position = |part: &str| part.split_once('.').map(|(node, at)| (node.to_owned(), at.to_owned()));
        Some(Self { since_ms, positions: parts.map(position).collect::<Option<_>>()? })
    }
}

/// A part of a namespace's records, newest first.
#[derive(Debug, Default)]
pub struct Part {
    /// The records.
    pub records: Vec<Record>,
    /// The time from which on they are complete, in milliseconds since the Unix epoch; `None` if none are missing.
    pub complete_since_ms: Option<i64>,
    /// Where the reader has come to.
    pub position: String,
    /// Whether more have arrived than were looked at.
    pub has_more: bool,
}

/// Hides numbers of blocks. The key is of the process, so that a position of an earlier run means nothing.
pub(super) struct Veil([u8; 32]);

impl Veil {
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        // Without random bytes, positions of this run are not hidden; the system has some from its start on.
        if let Err(error) = getrandom::fill(&mut key) {
            tracing::warn!(%error, "positions of logs are not hidden");
        }
        Self(key)
    }

    /// The first bytes of a keyed hash.
    fn hash(&self, nonce: u64, of: &[u8]) -> u64 {
        let hash = blake3::keyed_hash(&self.0, &[&nonce.to_le_bytes(), of].concat());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(bytes)
    }

    /// A nonce, the number under a mask, and a check that tells a number of this run.
    fn hide(&self, id: i64) -> String {
        let mut nonce = [0; 8];
        // Zeros hide less, and the system has random bytes from its start on.
        let _filled = getrandom::fill(&mut nonce);
        let nonce = u64::from_le_bytes(nonce);
        let hidden = id.cast_unsigned() ^ self.hash(nonce, b"");
        format!("{nonce:016x}{hidden:016x}{:016x}", self.hash(nonce, &id.to_le_bytes()))
    }

    fn reveal(&self, text: &str) -> Option<i64> {
        let part = |n: usize| u64::from_str_radix(text.get(16 * n..16 * (n + 1))?, 16).ok();
        let (nonce, hidden, check) = (part(0)?, part(1)?, part(2)?);
        let id = (hidden ^ self.hash(nonce, b"")).cast_signed();
        (self.hash(nonce, &id.to_le_bytes()) == check).then_some(id)
    }
}

impl Records {
    /// Reads records of all functions of a namespace: the newest ones, or with a cursor those that have arrived since it on the
    /// node of this name. Blocks.
    ///
    /// # Errors
    /// [`RecordsError`]
    pub fn of_namespace(
        &self,
        namespace: &Namespace,
        filter: &WideFilter,
        follow: Option<(&Cursor, &str)>,
    ) -> Result<Part, RecordsError> {
        let veil = &self.inner.veil;
        self.inner.database.read(|c| {
            let Some((cursor, node)) = follow else {
                // Before the records are read: what arrives meanwhile comes twice rather than never.
                let position = veil.hide(wide::last_id(c)?);
                let wide::Newest { records, complete_since_ms } = wide::newest(c, namespace, filter)?;
                return Ok(Part { records, complete_since_ms, position, has_more: false });
            };
            let known = cursor.positions.get(node).and_then(|position| veil.reveal(position));
            let after = match known {
                Some(id) => id,
                None => wide::before(c, namespace, cursor.since_ms)?,
            };
            let wide::Arrived { records, last_id, has_more } = wide::arrived(c, namespace, filter, after)?;
            Ok(Part { records, complete_since_ms: None, position: veil.hide(last_id), has_more })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_only_by_who_gave_it() {
        let (veil, other) = (Veil::new(), Veil::new());
        for id in [0, 1, 77, i64::MAX] {
            let text = veil.hide(id);
            assert_eq!(veil.reveal(&text), Some(id));
            assert_eq!(other.reveal(&text), None);
            assert_ne!(veil.hide(id), text);
        }
        for bad in ["", "1", "x", &"0".repeat(48), &"ä".repeat(24)] {
            assert_eq!(veil.reveal(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_cursor_is_text() {
        let positions = [("a-1", "00ff"), ("b", "1")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        let cursor = Cursor { since_ms: 12, positions: positions.into() };
        assert_eq!(cursor.text(), "12_a-1.00ff_b.1");
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        assert_eq!(Cursor::parse("12"), Some(Cursor { since_ms: 12, ..Cursor::default() }));
        for bad in ["", "x", "12_", "12_a", "_a.1"] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }
}
