//! What of each share is taken, and how often a share or a rate was refused. Parties are not named: anyone may read the metrics.

use super::Text;
use crate::shares::{KINDS, Kind, RATE_KINDS, RateKind, SCOPES, Scope, Shares};

/// All shares at the moment of a scrape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareGauges {
    /// Taken, and the node's limit.
    used: Vec<(Kind, usize, usize)>,
    refused: Vec<(Kind, Scope, u64)>,
    limited: Vec<(RateKind, Scope, u64)>,
}

impl ShareGauges {
    /// Reads the shares.
    #[must_use]
    pub fn of(shares: &Shares) -> Self {
        let used = KINDS.map(|kind| (kind, shares.used(kind), shares.limit(kind))).to_vec();
        let each = |kind| SCOPES.map(|scope| (kind, scope, shares.refused(kind, scope)));
        let refused = KINDS.into_iter().flat_map(each).collect();
        let each = |kind| SCOPES.map(|scope| (kind, scope, shares.limited(kind, scope)));
        let limited = RATE_KINDS.into_iter().flat_map(each).collect();
        Self { used, refused, limited }
    }
}

/// `running` is what the cores count of invocations.
pub(super) fn render(text: &mut Text, gauges: &ShareGauges, running: u64) {
    if gauges.used.is_empty() {
        return;
    }
    let name = "orama_share_used";
    text.head(name, "gauge", "What is taken of what all share.");
    for (kind, used, _) in &gauges.used {
        let used = if *kind == Kind::Invocations { running } else { *used as u64 };
        text.line(name, &[("kind", kind.as_str())], used);
    }
    let name = "orama_share_limit";
    text.head(name, "gauge", "How much of it the node has.");
    for (kind, _, limit) in &gauges.used {
        text.line(name, &[("kind", kind.as_str())], limit);
    }
    let name = "orama_share_refused_total";
    text.head(name, "counter", "Requests for a share that were refused, by whose limit was met.");
    for (kind, scope, count) in &gauges.refused {
        text.line(name, &[("kind", kind.as_str()), ("scope", scope.as_str())], count);
    }
    let name = "orama_rate_limited_total";
    text.head(name, "counter", "Requests that came too often, by whose limit was met.");
    for (kind, scope, count) in &gauges.limited {
        text.line(name, &[("kind", kind.as_str()), ("scope", scope.as_str())], count);
    }
}
