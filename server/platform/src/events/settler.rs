//! Takes the outcomes of attempts to the writer, in batches, and none before its invocation's record is written: what a
//! crash leaves without a record runs again, so no event is ever gone without a trace in the log.

use super::Inner;
use super::writer::Change;
use crate::limits::JOB_OUTCOME_COMMIT_EVERY;
use crate::records::Records;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout_at};

/// Outcomes of one batch at most. More than the turns of a node can have waiting for long.
const BATCH_MAX: usize = 1024;

/// Starts a settler; it ends when every sender is gone.
pub(super) fn start(inner: &Arc<Inner>, records: Records) -> UnboundedSender<Change> {
    let (sender, inbox) = unbounded_channel();
    inner.backplane.spawn(run(Arc::clone(inner), records, inbox));
    sender
}

async fn run(inner: Arc<Inner>, records: Records, mut inbox: UnboundedReceiver<Change>) {
    while let Some(first) = inbox.recv().await {
        let due = Instant::now() + JOB_OUTCOME_COMMIT_EVERY;
        let mut batch = vec![first];
        // Others may share the commit for as long as nobody waits for it.
        while batch.len() < BATCH_MAX {
            let next = match inbox.try_recv() {
                Ok(next) => Some(next),
                Err(_) if batch.iter().any(|change| matches!(change, Change::Flush(_))) => None,
                Err(_) => timeout_at(due, inbox.recv()).await.ok().flatten(),
            };
            let Some(next) = next else { break };
            batch.push(next);
        }
        let records = records.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || records.flush()).await {
            tracing::error!(%error, "records were not written before the outcomes of events");
        }
        for change in batch {
            inner.change(change);
        }
    }
}
