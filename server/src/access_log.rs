//! The access log: one line for each request, written by a thread of its own. A core that has a line hands it over without
//! waiting; where the queue is full, the line is dropped and counted.

use crate::log::ACCESS;
use http::Method;
use parking_lot::Mutex;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Lines that wait to be written. With the longest paths they take some 10 MB.
const WAITING_MAX: usize = 8192;

/// The pause between two warnings of dropped lines.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// How long a node that ends waits for the lines that are left.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
const CLOSE_POLL: Duration = Duration::from_millis(5);

/// Bytes of a path that are kept.
pub(crate) const PATH_MAX_BYTES: usize = 1024;

/// A request and its answer.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) method: Method,
    /// Without the query, which may hold secrets.
    pub(crate) path: String,
    pub(crate) status: u16,
    /// From the request's head to the end of the answer's body, or to its beginning where the body was at hand.
    pub(crate) duration: Duration,
    /// Of the answer's body.
    pub(crate) bytes: u64,
    pub(crate) client: IpAddr,
    pub(crate) request_id: String,
    /// The id of the API key; empty for a token and for a stranger.
    pub(crate) key_id: String,
}

/// The access log of a node. All cores share it, and none takes a lock.
#[derive(Debug, Default)]
pub(crate) struct AccessLog {
    is_on: AtomicBool,
    dropped: AtomicU64,
    /// `None` ends the thread.
    queue: OnceLock<SyncSender<Option<Line>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AccessLog {
    /// Whether requests are logged.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Logs requests from now on, or does not any more.
    ///
    /// # Errors
    /// When the thread that writes cannot be started; then nothing is logged.
    pub(crate) fn switch(self: &Arc<Self>, on: bool) -> io::Result<()> {
        let mut writer = self.writer.lock();
        if on && writer.is_none() {
            let (lines, queue) = sync_channel(WAITING_MAX);
            let log = Arc::clone(self);
            let thread = Builder::new().name("access-log".to_owned()).spawn(move || log.write(&queue))?;
            *writer = Some(thread);
            // Set once: the thread stays.
            let _ = self.queue.set(lines);
        }
        self.is_on.store(on, Ordering::Relaxed);
        Ok(())
    }

    /// Hands a line over, or drops it. Does not wait.
    pub(crate) fn submit(&self, line: Line) {
        let taken = self.queue.get().is_some_and(|queue| queue.try_send(Some(line)).is_ok());
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes what waits, as far as that takes no longer than [`CLOSE_PATIENCE`]. Called when the cores have ended. Blocks.
    pub(crate) fn close(&self) {
        self.is_on.store(false, Ordering::Relaxed);
        let until = Instant::now() + CLOSE_PATIENCE;
        let Some(thread) = self.writer.lock().take() else { return };
        while !thread.is_finished() && Instant::now() < until {
            // Full until the thread has written a line.
            if let Some(queue) = self.queue.get() {
                let _ = queue.try_send(None);
            }
            std::thread::sleep(CLOSE_POLL);
        }
    }

    fn write(&self, queue: &Receiver<Option<Line>>) {
        let (mut told, mut told_at) = (0, None::<Instant>);
        while let Ok(Some(line)) = queue.recv() {
            line.write();
            let dropped = self.dropped();
            let is_quiet = told_at.is_none_or(|when| when.elapsed() > TOLD_EVERY);
            if dropped > told && is_quiet {
                told_at = Some(Instant::now());
                tracing::warn!(target: ACCESS, lines = dropped - told, "the access log could not keep up; lines were dropped");
                told = dropped;
            }
        }
    }
}

impl Line {
    fn write(&self) {
        tracing::info!(
            target: ACCESS,
            method = %self.method,
            path = self.path,
            status = self.status,
            duration_ms = self.duration.as_micros() as f64 / 1000.0,
            bytes = self.bytes,
            client = %self.client,
            request_id = self.request_id,
            key_id = self.key_id,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_lines_and_counts_them() {
        let log = AccessLog::default();
        let (lines, _queue) = sync_channel(1);
        log.queue.set(lines).unwrap();
        let line = || Line {
            method: Method::GET,
            path: "/".to_owned(),
            status: 200,
            duration: Duration::ZERO,
            bytes: 0,
            client: IpAddr::from([127, 0, 0, 1]),
            request_id: String::new(),
            key_id: String::new(),
        };
        log.submit(line());
        log.submit(line());
        assert_eq!(log.dropped(), 1);
    }
}
