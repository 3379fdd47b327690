//! The SQL process of one namespace: runs its batches on a few threads, confined to its folder.
//!
//! Each thread reads the calls of one lane, runs them, and writes their answers to the same lane, so that a call changes threads
//! only where it enters and leaves the process. The main thread reads the control socket: which calls are cancelled, and its end.

use super::lanes::{self, LANES};
use super::layout;
use super::wire::{self, Cancel, Outcome, REQUEST_MAX_BYTES, Ready};
use crate::limits::{DB_HEAP_MAX_BYTES, DB_PROCESS_LIMITS};
use crate::readiness::is_readable;
use orama_runtime::child::{self, Held, Kind, frame};
use orama_runtime::services::{BatchOutcome, StatementResult};
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use std::ffi::OsStr;
use std::io::{self, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use tenant::Tenant;
use watch::Watch;

mod batch;
#[doc(hidden)]
pub mod fuzzing;
pub(in crate::database) mod guard;
mod rows;
mod tenant;
#[cfg(test)]
mod tests;
mod watch;

/// The kind of child that a SQL process is.
pub const PROCESS: Kind = Kind { name: "sql", run };

/// Stack of each thread of a lane: SQLite's parser and expressions are bounded to some 1000 levels.
const STACK_BYTES: usize = 2 << 20;

/// Time for what runs to be interrupted and undone when the node has closed the control socket. What is left then is undone by
/// the next process, as after a crash.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Longest message on the control socket, in bytes: that of the folder's path.
const CONTROL_MAX_BYTES: usize = 4096;

/// Rows up to so many bytes leave with the rest of the answer in one write.
const TOGETHER_MAX_BYTES: usize = 64 << 10;

struct Process {
    tenant: Tenant,
    folder: PathBuf,
    running: Mutex<Running>,
    /// Notified when a call ends after the control socket has.
    changed: Condvar,
}

#[derive(Default)]
struct Running {
    lanes: [Lane; LANES],
    /// Whether the node wants nothing more.
    has_ended: bool,
}

#[derive(Default)]
struct Lane {
    /// The call that runs.
    call: Option<(u64, Arc<Watch>)>,
    /// The call that was cancelled last, which may not have been read yet.
    cancelled: Option<u64>,
}

fn run(socket: UnixStream, _label: &str) -> ExitCode {
    // A thread that panicked would leave its caller without an answer.
    std::panic::set_hook(Box::new(|_| child::end_now(101)));
    match serve(&socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(mut control: &UnixStream) -> io::Result<()> {
    DB_PROCESS_LIMITS.apply()?;
    let lanes = lanes::receive(control)?;
    let Some(folder) = frame::read(&mut control, CONTROL_MAX_BYTES)? else { return Ok(()) };
    let folder = PathBuf::from(OsStr::from_bytes(&folder));
    prepare(&folder).map_err(io::Error::other)?;
    let process = Arc::new(Process {
        tenant: Tenant::new(folder.join(layout::FILE)),
        folder,
        running: Mutex::default(),
        changed: Condvar::new(),
    });
    let together = Arc::new(Barrier::new(LANES + 1));
    for (lane, socket) in lanes.into_iter().enumerate() {
        let (process, together) = (Arc::clone(&process), Arc::clone(&together));
        let work = move || {
            watch::count_writes_of_this_thread();
            process.confine(&together);
            if process.work(lane, &socket).is_err() {
                child::end_now(1);
            }
        };
        std::thread::Builder::new().name(format!("sql-{lane}")).stack_size(STACK_BYTES).spawn(work)?;
    }
    let Held { files, calls } = process.confine(&together);
    control.write_all(&wire::ready(Ready { files, calls })?)?;
    while let Ok(Some(bytes)) = frame::read(&mut control, CONTROL_MAX_BYTES) {
        process.cancel(wire::read_cancel(&bytes)?);
    }
    process.end();
    Ok(())
}

/// What must be opened before the process is confined: SQLite's randomness, and what local time is. Sets what holds for all
/// connections.
fn prepare(folder: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open_in_memory()?;
    connection.query_row("SELECT randomblob(8), datetime('now', 'localtime')", [], |_| Ok(()))?;
    // They may be as large as what is sorted, and the system's own folder for them may be memory. They have no name from their
    // beginning, so a crash leaves none.
    connection.pragma_update(None, "temp_store_directory", folder.to_string_lossy())?;
    connection.pragma_update(None, "hard_heap_limit", DB_HEAP_MAX_BYTES as i64)
}

impl Process {
    /// Confines this thread, after all have opened what they need and before any reads a request.
    fn confine(&self, together: &Barrier) -> Held {
        together.wait();
        let held = child::restrict(&[&self.folder]);
        together.wait();
        held
    }

    /// Serves a lane until its end.
    fn work(&self, lane: usize, socket: &UnixStream) -> io::Result<()> {
        let mut requests = BufReader::new(socket);
        // What cannot be read any more has ended; the control socket tells the process.
        while let Ok(Some(bytes)) = frame::read(&mut requests, REQUEST_MAX_BYTES) {
            let begun = Instant::now();
            let call = wire::read_call(&bytes)?;
            // A deadline so far away is none.
            let deadline = begun.checked_add(call.left).ok_or(io::ErrorKind::InvalidData)?;
            let watch = self.begin(lane, call.id, deadline);
            let (id, access, stays_awake, statements) =
                (call.id, call.access, call.stays_awake, call.statements());
            drop(bytes);
            let outcome = self.tenant.run(access, &statements, &watch);
            // Its memory is another call's now.
            drop(statements);
            let ended = Instant::now();
            let quick_on = (ended - begun < lanes::AWAKE_FOR_ANSWER).then(lanes::cpu);
            answer(socket, &Outcome::of(id, quick_on, &outcome, watch.take_note()), &outcome)?;
            self.finish(lane);
            while stays_awake && ended.elapsed() < lanes::AWAKE_FOR_CALL && !is_readable(socket) {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }

    fn begin(&self, lane: usize, id: u64, deadline: Instant) -> Arc<Watch> {
        let watch = Arc::new(Watch::new(deadline));
        let mut running = self.running.lock();
        let has_ended = running.has_ended;
        if let Some(lane) = running.lanes.get_mut(lane) {
            if has_ended || lane.cancelled == Some(id) {
                watch.abandon();
            }
            lane.call = Some((id, Arc::clone(&watch)));
        }
        watch
    }

    fn finish(&self, lane: usize) {
        let mut running = self.running.lock();
        if let Some(lane) = running.lanes.get_mut(lane) {
            lane.call = None;
        }
        if running.has_ended {
            self.changed.notify_all();
        }
    }

    fn cancel(&self, Cancel { lane, id }: Cancel) {
        let mut running = self.running.lock();
        let Some(lane) = running.lanes.get_mut(usize::from(lane)) else { return };
        lane.cancelled = Some(id);
        if let Some((_, watch)) = lane.call.as_ref().filter(|(running, _)| *running == id) {
            watch.abandon();
        }
    }

    /// Ends what runs, then closes the database, which brings its log into its file.
    fn end(&self) {
        let mut running = self.running.lock();
        running.has_ended = true;
        running.lanes.iter().filter_map(|lane| lane.call.as_ref()).for_each(|(_, watch)| watch.abandon());
        let until = Instant::now() + END_PATIENCE;
        let is_busy = |running: &Running| running.lanes.iter().any(|lane| lane.call.is_some());
        while is_busy(&running) && !self.changed.wait_until(&mut running, until).timed_out() {}
        if !is_busy(&running) {
            self.tenant.close();
        }
    }
}

fn answer(mut socket: &UnixStream, encoded: &Outcome, outcome: &BatchOutcome) -> io::Result<()> {
    let texts = || {
        outcome.results.iter().filter_map(|result| match result {
            StatementResult::Query { rows, .. } => Some(rows.as_bytes()),
            StatementResult::Exec { .. } => None,
        })
    };
    let bytes: usize = texts().map(<[u8]>::len).sum();
    let mut frame = wire::outcome(encoded, bytes)?;
    let is_short = bytes <= TOGETHER_MAX_BYTES;
    if is_short {
        texts().for_each(|text| frame.extend_from_slice(text));
    }
    socket.write_all(&frame)?;
    if !is_short {
        texts().try_for_each(|text| socket.write_all(text))?;
    }
    Ok(())
}
