//! Questions about statistics of functions.

use super::{Gathered, Peers, Question};
use crate::limits::PEER_ANSWER_MAX_BYTES;
use crate::records::{Records, Stats};
use orama_runtime::names::{FunctionName, Namespace};

/// About the most bytes that the statistics of one version take.
const STATS_BYTES: usize = 8 << 10;

impl Peers {
    /// Asks the peers for statistics of a namespace's functions, or of one, from a second on. Returns within
    /// [`crate::limits::PEER_PATIENCE`].
    pub async fn ask_stats(
        &self,
        namespace: &Namespace,
        name: Option<&FunctionName>,
        since_s: i64,
    ) -> Gathered {
        let question = Question {
            namespace: namespace.to_string(),
            function: name.map(FunctionName::to_string).unwrap_or_default(),
            stats_since_s: Some(since_s),
            ..Question::default()
        };
        self.ask_all(question, namespace).await
    }
}

/// Reads this node's statistics for a question, as far as an answer has room. `None` if the question is invalid or they cannot be
/// read. Blocks.
pub(super) fn own(records: &Records, question: &Question, since_s: i64) -> Option<Vec<(String, u32, Stats)>> {
    let namespace = Namespace::new(&question.namespace).ok()?;
    let name = match question.function.as_str() {
        "" => None,
        name => Some(FunctionName::new(name).ok()?),
    };
    records.flush();
    let found = records.stats(&namespace, name.as_ref(), since_s);
    let found =
        found.inspect_err(|error| tracing::warn!(%error, "a peer asked for statistics that cannot be read"));
    let told = found.ok()?.into_iter().map(|((name, version), stats)| (name.to_string(), version, stats));
    Some(told.take(PEER_ANSWER_MAX_BYTES / STATS_BYTES).collect())
}
