//! Waits for the answer to a call, and reads it.

use super::{AWAKE_FOR_ANSWER, Decoded, End, Incoming, Process, failed};
use crate::database::sqlite::{by, deadline_exceeded};
use crate::readiness::{is_readable_within, readable};
use orama_runtime::services::{BatchOutcome, ServiceError};
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Answers up to so many bytes are decoded where they are read. A core serves others while a longer one is decoded.
const DECODED_HERE_MAX_BYTES: usize = 1 << 20;

/// Why there is no answer.
enum Stopped {
    /// The call has failed.
    Call(ServiceError),
    /// The process must end.
    Process(End),
}

impl From<ServiceError> for Stopped {
    fn from(error: ServiceError) -> Self {
        Self::Call(error)
    }
}

impl From<End> for Stopped {
    fn from(end: End) -> Self {
        Self::Process(end)
    }
}

/// A call in progress. Dropping it cancels the call.
pub(in crate::database::sqlite) struct Waiting {
    process: Arc<Process>,
    lane: usize,
    id: u64,
    statements: usize,
    /// Whether this thread stays awake for the answer.
    stays_awake: bool,
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
        stays_awake: bool,
        lost: oneshot::Receiver<ServiceError>,
    ) -> Self {
        Self {
            process,
            lane,
            id,
            statements,
            stays_awake,
            incoming: Incoming::default(),
            lost,
            is_answered: false,
        }
    }

    /// Waits for the outcome, until a time.
    pub(in crate::database::sqlite) async fn outcome(
        mut self,
        until: Instant,
        backplane: &Handle,
    ) -> Result<BatchOutcome, ServiceError> {
        match self.answer(until, backplane).await {
            Ok((outcome, quick_on)) => {
                self.is_answered = true;
                self.process.release(self.lane, quick_on);
                Ok(outcome)
            }
            Err(Stopped::Call(error)) => Err(error),
            Err(Stopped::Process(end)) => {
                // The thread ends the process, and then tells what became of its calls.
                self.process.fail(end);
                let error = by(backplane, until, &mut self.lost).await;
                Err(error.map_or_else(deadline_exceeded, |error| error.unwrap_or_else(|_| failed())))
            }
        }
    }

    async fn answer(&mut self, until: Instant, backplane: &Handle) -> Result<Decoded, Stopped> {
        loop {
            let Some(socket) = self.process.lanes.get(self.lane) else { return Err(failed().into()) };
            let stays_awake = std::mem::take(&mut self.stays_awake);
            let comes = async {
                match stays_awake && is_readable_within(socket, AWAKE_FOR_ANSWER).await {
                    true => Ok(true),
                    false => readable(socket, until, backplane).await,
                }
            };
            let is_readable = tokio::select! {
                biased;
                is_readable = comes => is_readable,
                error = &mut self.lost => {
                    // It may have answered before it ended.
                    let error = error.unwrap_or_else(|_| failed());
                    let Some(message) = self.incoming.read_rest(socket) else { return Err(error.into()) };
                    return self.decode(message, backplane).await.map_err(|_| error.into());
                }
            };
            match is_readable {
                Ok(true) => {}
                Ok(false) => return Err(deadline_exceeded().into()),
                Err(error) => {
                    tracing::error!(%error, "cannot wait for the answer of a SQL process");
                    return Err(failed().into());
                }
            }
            if let Some(message) = self.incoming.read(socket)? {
                return Ok(self.decode(message, backplane).await?);
            }
        }
    }

    async fn decode(&self, message: Vec<u8>, backplane: &Handle) -> Result<Decoded, End> {
        let (id, statements) = (self.id, self.statements);
        if message.len() <= DECODED_HERE_MAX_BYTES {
            return self.process.decode(id, statements, &message);
        }
        let process = Arc::clone(&self.process);
        let decoded = backplane.spawn_blocking(move || process.decode(id, statements, &message));
        decoded.await.unwrap_or(Err(End::Nonsense))
    }
}
