//! Questions about all functions of a namespace.

use super::{Gathered, Peers, Question, Wide};
use crate::records::{ALONE, Cursor, WideFilter};
use orama_runtime::names::Namespace;

impl Peers {
    /// Asks the peers for records of all functions of a namespace: the newest ones, or what has arrived since a cursor. Returns
    /// within [`PEER_PATIENCE`].
    pub async fn ask_wide(
        &self,
        namespace: &Namespace,
        filter: &WideFilter,
        since: Option<&Cursor>,
    ) -> Gathered {
        let mut gathered = self.ask_all(Question::wide(namespace, filter, since), namespace).await;
        // A peer that did not answer goes on where it was; one that is gone is forgotten.
        let known = self.0.known.lock();
        for (node, position) in since.into_iter().flat_map(|cursor| &cursor.positions) {
            if known.contains_key(node) {
                gathered.positions.entry(node.clone()).or_insert_with(|| position.clone());
            }
        }
        gathered
    }

    /// What cursors call this node.
    #[must_use]
    pub fn own_name(&self) -> &str {
        &self.0.id
    }
}

/// The name of a node in cursors.
#[must_use]
pub fn name_in_cursors(peers: Option<&Peers>) -> &str {
    peers.map_or(ALONE, Peers::own_name)
}

impl Question {
    /// Without an id, and without who asks.
    pub(super) fn wide(namespace: &Namespace, filter: &WideFilter, since: Option<&Cursor>) -> Self {
        Self {
            namespace: namespace.to_string(),
            limit: filter.limit,
            since_ms: filter.since_ms,
            status: filter.status,
            request_id: filter.request_id.clone(),
            wide: Some(Box::new(Wide { filter: filter.clone(), since: since.cloned() })),
            ..Self::default()
        }
    }
}
