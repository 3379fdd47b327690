//! Waits for the answer to a call, and reads it.

use super::{End, Incoming, Process};
use crate::database::sqlite::{by, deadline_exceeded};
use crate::readiness::readable;
use orama_runtime::services::{BatchOutcome, ErrorCode, ServiceError};
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Answers up to so many bytes are decoded where they are read. A core serves others while a longer one is decoded.
const DECODED_HERE_MAX_BYTES: usize = 1 << 20;

/// A call in progress. Dropping it cancels the call.
pub(in crate::database::sqlite) struct Waiting {
    process: Arc<Process>,
    lane: usize,
    id: u64,
    statements: usize,
    incoming: Incoming,
    /// Receives the error if the process ends.
    lost: oneshot::Receiver<ServiceError>,
    is_answered: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.is_answered {
            self.process.abandon(self.lane, self.id, std::mem::take(&mut self.incoming));
        }
    }
}

impl Waiting {
    pub(super) fn new(
        process: Arc<Process>,
        lane: usize,
        id: u64,
        statements: usize,
        lost: oneshot::Receiver<ServiceError>,
    ) -> Self {
        Self { process, lane, id, statements, incoming: Incoming::default(), lost, is_answered: false }
    }

    /// Waits for the outcome, until a time.
    pub(in crate::database::sqlite) async fn outcome(
        mut self,
        until: Instant,
        backplane: &Handle,
    ) -> Result<BatchOutcome, ServiceError> {
        let end = match self.message(until, backplane).await? {
            Ok(message) => match self.decode(message, backplane).await {
                Ok(outcome) => {
                    self.is_answered = true;
                    self.process.release(self.lane);
                    return Ok(outcome);
                }
                Err(end) => end,
            },
            Err(end) => end,
        };
        // The thread ends the process, and then tells what became of its calls.
        self.process.fail(end);
        match by(backplane, until, &mut self.lost).await {
            Some(error) => Err(error.unwrap_or_else(|_| failed())),
            None => Err(deadline_exceeded()),
        }
    }

    /// Waits for the whole answer, or for what ends the process.
    async fn message(
        &mut self,
        until: Instant,
        backplane: &Handle,
    ) -> Result<Result<Vec<u8>, End>, ServiceError> {
        loop {
            let Some(socket) = self.process.lanes.get(self.lane) else { return Err(failed()) };
            tokio::select! {
                biased;
                is_readable = readable(socket, until, backplane) => match is_readable {
                    Ok(true) => {}
                    Ok(false) => return Err(deadline_exceeded()),
                    Err(error) => {
                        tracing::error!(%error, "cannot wait for the answer of a SQL process");
                        return Err(failed());
                    }
                },
                // It may have answered before it ended.
                error = &mut self.lost => loop {
                    let before = self.incoming.len();
                    match self.incoming.read(socket) {
                        Ok(Some(message)) => return Ok(Ok(message)),
                        Ok(None) if self.incoming.len() > before => {}
                        Ok(None) | Err(_) => return Err(error.unwrap_or_else(|_| failed())),
                    }
                },
            }
            match self.incoming.read(socket) {
                Ok(None) => {}
                Ok(Some(message)) => return Ok(Ok(message)),
                Err(end) => return Ok(Err(end)),
            }
        }
    }

    async fn decode(&self, message: Vec<u8>, backplane: &Handle) -> Result<BatchOutcome, End> {
        let (id, statements) = (self.id, self.statements);
        if message.len() <= DECODED_HERE_MAX_BYTES {
            return self.process.decode(id, statements, &message);
        }
        let process = Arc::clone(&self.process);
        let decoded = backplane.spawn_blocking(move || process.decode(id, statements, &message));
        decoded.await.unwrap_or(Err(End::Nonsense))
    }
}

fn failed() -> ServiceError {
    ServiceError::new(ErrorCode::Internal, "the database failed")
}
