//! Passes outcomes of attempts to the writer in batches. It first waits until their invocation records are written: after a
//! crash, a job without a record runs again, so no event disappears without a trace in the logs.

use super::writer::Change;
use super::{EventsError, Inner};
use crate::limits::{JOB_OUTCOME_COMMIT_EVERY, JOB_OUTCOMES_MAX};
use crate::records::Records;
use orama_store::blocking::blocking;
use std::sync::Arc;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, timeout_at};

/// Starts a settler. It ends when all senders are dropped. Turns wait while [`JOB_OUTCOMES_MAX`] outcomes are queued.
pub(super) fn start(inner: &Arc<Inner>, records: Records) -> Sender<Change> {
    let (sender, inbox) = mpsc::channel(JOB_OUTCOMES_MAX);
    inner.backplane.spawn(run(Arc::clone(inner), records, inbox));
    sender
}

async fn run(inner: Arc<Inner>, records: Records, mut inbox: Receiver<Change>) {
    while let Some(first) = inbox.recv().await {
        let due = Instant::now() + JOB_OUTCOME_COMMIT_EVERY;
        let mut batch = vec![first];
        // Waits for others to share the commit, unless somebody waits for the outcome.
        while batch.len() < JOB_OUTCOMES_MAX {
            let next = match inbox.try_recv() {
                Ok(next) => Some(next),
                Err(_) if batch.iter().any(|change| matches!(change, Change::Flush(_))) => None,
                Err(_) => timeout_at(due, inbox.recv()).await.ok().flatten(),
            };
            let Some(next) = next else { break };
            batch.push(next);
        }
        let (records, writer) = (records.clone(), Arc::clone(&inner));
        let handed_over = blocking(move || {
            records.flush();
            // If the writer has ended, the jobs remain and run again.
            let _ended = batch.into_iter().try_for_each(|change| writer.change(change));
            Ok::<_, EventsError>(())
        });
        if let Err(error) = handed_over.await {
            tracing::error!(%error, "outcomes of events were lost; their functions run again");
        }
    }
}
