//! The SQL process of one namespace: runs its batches on a few threads, confined to its folder.
//!
//! Whichever thread is free reads the next request and runs it itself, so that a call changes threads only where it enters and
//! leaves the process. There is one thread more than calls can run at once: it sees the end of the socket, and calls that are
//! given up, while all others work.

use super::layout;
use super::wire::{self, Access, Answer, Outcome, REQUEST_MAX_BYTES, Request};
use crate::limits::{DB_HEAP_MAX_BYTES, DB_PROCESS_LIMITS, DB_READERS_MAX};
use orama_runtime::child::{self, Held, Kind, frame};
use orama_runtime::services::{BatchOutcome, Statement, StatementResult};
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use std::collections::HashMap;
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

/// One writes, some read, one waits for the next request.
const THREADS: usize = 1 + DB_READERS_MAX + 1;

/// Stack of each: SQLite's parser and expressions are bounded to some 1000 levels.
const STACK_BYTES: usize = 2 << 20;

/// Time for what runs to be interrupted and undone when the node has closed the socket. What is left then is undone by the next
/// process, as after a crash.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Longest path of a folder, in bytes.
const PATH_MAX_BYTES: usize = 4096;

/// Rows up to so many bytes leave with the rest of the answer in one write.
const TOGETHER_MAX_BYTES: usize = 64 << 10;

struct Process {
    tenant: Tenant,
    folder: PathBuf,
    requests: Mutex<Requests>,
    answers: Mutex<UnixStream>,
    running: Mutex<Running>,
    /// Told when a call ends, and when the socket does.
    changed: Condvar,
}

struct Requests {
    socket: BufReader<UnixStream>,
    has_ended: bool,
}

#[derive(Default)]
struct Running {
    calls: HashMap<u64, Arc<Watch>>,
    has_ended: bool,
}

/// A call that was read.
struct Taken {
    id: u64,
    access: Access,
    statements: Vec<Statement>,
    watch: Arc<Watch>,
}

fn run(socket: UnixStream, _label: &str) -> ExitCode {
    // A thread that panicked would leave its caller without an answer.
    std::panic::set_hook(Box::new(|_| child::end_now(101)));
    match serve(socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(mut socket: UnixStream) -> io::Result<()> {
    DB_PROCESS_LIMITS.apply()?;
    let Some(folder) = frame::read(&mut socket, PATH_MAX_BYTES)? else { return Ok(()) };
    let folder = PathBuf::from(OsStr::from_bytes(&folder));
    prepare(&folder).map_err(io::Error::other)?;
    let process = Arc::new(Process {
        tenant: Tenant::new(folder.join(layout::FILE)),
        folder,
        answers: Mutex::new(socket.try_clone()?),
        requests: Mutex::new(Requests { socket: BufReader::new(socket), has_ended: false }),
        running: Mutex::default(),
        changed: Condvar::new(),
    });
    let together = Arc::new(Barrier::new(THREADS + 1));
    for index in 0..THREADS {
        let (process, together) = (Arc::clone(&process), Arc::clone(&together));
        let work = move || {
            watch::count_writes_of_this_thread();
            process.confine(&together);
            process.work();
        };
        std::thread::Builder::new().name(format!("sql-{index}")).stack_size(STACK_BYTES).spawn(work)?;
    }
    let Held { files, calls } = process.confine(&together);
    process.answers.lock().write_all(&wire::answer(&Answer::Ready { files, calls }, 0)?)?;
    process.wait_for_end();
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

    fn work(&self) {
        while let Some(Taken { id, access, statements, watch }) = self.take() {
            let outcome = self.tenant.run(access, &statements, &watch);
            // Its memory is another call's now.
            drop(statements);
            if self.answer(id, &outcome, watch.take_note()).is_err() {
                child::end_now(1);
            }
            self.running.lock().calls.remove(&id);
            self.changed.notify_all();
        }
    }

    /// The next call; `None` at the end of the socket.
    fn take(&self) -> Option<Taken> {
        let mut requests = self.requests.lock();
        while !requests.has_ended {
            let taken = match frame::read(&mut requests.socket, REQUEST_MAX_BYTES) {
                Ok(Some(bytes)) => self.receive(&bytes),
                Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => Err(error),
            };
            match taken {
                Ok(None) => {}
                Ok(taken) => return taken,
                Err(_) => {
                    requests.has_ended = true;
                    self.end();
                }
            }
        }
        None
    }

    fn receive(&self, bytes: &[u8]) -> io::Result<Option<Taken>> {
        match wire::read_request(bytes)? {
            Request::Cancel(id) => {
                if let Some(watch) = self.running.lock().calls.get(&id) {
                    watch.abandon();
                }
                Ok(None)
            }
            Request::Call(call) => {
                // A deadline so far away is none.
                let deadline = Instant::now().checked_add(call.left).ok_or(io::ErrorKind::InvalidData)?;
                let watch = Arc::new(Watch::new(deadline));
                self.running.lock().calls.insert(call.id, Arc::clone(&watch));
                let statements = call.statements();
                Ok(Some(Taken { id: call.id, access: call.access, statements, watch }))
            }
        }
    }

    fn answer(&self, id: u64, outcome: &BatchOutcome, note: Option<String>) -> io::Result<()> {
        let texts = || {
            outcome.results.iter().filter_map(|result| match result {
                StatementResult::Query { rows, .. } => Some(rows.as_bytes()),
                StatementResult::Exec { .. } => None,
            })
        };
        let bytes: usize = texts().map(<[u8]>::len).sum();
        let mut frame = wire::answer(&Answer::Outcome(Outcome::of(id, outcome, note)), bytes)?;
        let is_short = bytes <= TOGETHER_MAX_BYTES;
        if is_short {
            texts().for_each(|text| frame.extend_from_slice(text));
        }
        let mut answers = self.answers.lock();
        answers.write_all(&frame)?;
        if !is_short {
            texts().try_for_each(|text| answers.write_all(text))?;
        }
        Ok(())
    }

    /// The node wants nothing more.
    fn end(&self) {
        let mut running = self.running.lock();
        running.has_ended = true;
        running.calls.values().for_each(|watch| watch.abandon());
        drop(running);
        self.changed.notify_all();
    }

    /// Waits for the end, then closes the database, which brings its log into its file.
    fn wait_for_end(&self) {
        let mut running = self.running.lock();
        while !running.has_ended {
            self.changed.wait(&mut running);
        }
        let until = Instant::now() + END_PATIENCE;
        while !running.calls.is_empty() && !self.changed.wait_until(&mut running, until).timed_out() {}
        if running.calls.is_empty() {
            self.tenant.close();
        }
    }
}
