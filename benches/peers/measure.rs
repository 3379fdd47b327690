//! Measures all peers in turns, so that a change of the machine's speed affects all of them.

use crate::kinds::{Kind, Peer};
use crate::load::{self, Paced, Run};
use crate::options::Options;
use crate::servers::{Function, Server};
use crate::stats::{median, turns};
use orama_test_support::guests;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Numbers of connections.
pub const CONNECTIONS: [usize; 2] = [1, 32];
/// Starts with a new module, and restarts, of each function on each peer.
const STARTS: usize = 3;
/// Time between two requests of the paced load, and its length as a multiple of a run.
const PACE: Duration = Duration::from_millis(5);
const PACED_LENGTH: u32 = 2;
const PACED_ROUNDS: usize = 3;
const PACED: [&str; 2] = ["tinygo-hello", "go-hello"];
/// Requests that check that no instance serves twice.
const ISOLATION_CALLS: usize = 20;

/// The name of a function and a property of the measurement.
pub type Key<T> = (&'static str, T);

/// The results of one peer. A measurement that failed or does not apply is absent.
#[derive(Debug, Default, Clone)]
pub struct Showing {
    /// From a new module to the first answer.
    pub cold_ms: BTreeMap<&'static str, f64>,
    /// From the start of the process to the first answer, with the files of an earlier run on disk.
    pub restart_ms: BTreeMap<&'static str, f64>,
    /// Under load, by function and connections: medians of the runs.
    pub load: BTreeMap<Key<usize>, Run>,
    /// At a steady pace, by function and the function's `start` setting (empty for other peers).
    pub paced: BTreeMap<Key<&'static str>, Paced>,
    /// Resident memory at rest and after the load.
    pub memory_mb: Option<(f64, f64)>,
    /// What failed.
    pub notes: Vec<String>,
}

impl Showing {
    /// The value, or a note of why there is none.
    fn note<T>(&mut self, peer: &Peer, result: Result<T, String>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        eprintln!("{}: {error}", peer.kind.name());
        self.notes.push(error);
        None
    }
}

/// Measures all peers. Returns one [`Showing`] for each.
pub fn all(peers: &[Peer], functions: &[Function], dir: &Path, options: &Options) -> Vec<Showing> {
    let mut showings = vec![Showing::default(); peers.len()];
    eprintln!("isolation: {ISOLATION_CALLS} calls, none sees the memory of another...");
    for (peer, showing) in peers.iter().zip(&mut showings).filter(|(peer, _)| peer.kind.sandboxed()) {
        showing.note(peer, isolation(peer, dir));
    }
    eprintln!("starts...");
    let states: Vec<_> =
        peers.iter().zip(&mut showings).map(|it| primed(it.0, functions, dir, it.1)).collect();
    for function in functions {
        starts(peers, functions, function, &states, dir, &mut showings);
    }
    let mut servers = Vec::new();
    for ((peer, state), showing) in peers.iter().zip(&states).zip(&mut showings) {
        let started = state.as_ref().map(|state| peer.start(&of(peer, functions), state.path()));
        servers.push(started.and_then(|server| showing.note(peer, server)));
    }
    std::thread::sleep(Duration::from_millis(500));
    let at_rest: Vec<_> = servers.iter().map(|server| server.as_ref().map(Server::memory)).collect();
    saturate(peers, functions, &servers, &mut showings, options);
    for ((showing, server), at_rest) in showings.iter_mut().zip(&servers).zip(at_rest) {
        let after = server.as_ref().map(Server::memory);
        showing.memory_mb = at_rest.zip(after).map(|(rest, after)| (megabytes(rest), megabytes(after)));
    }
    paced(peers, functions, &servers, &mut showings, options);
    showings
}

/// Makes a folder in which the peer has its functions. `None` when that failed, which is noted.
fn primed(
    peer: &Peer,
    functions: &[Function],
    dir: &Path,
    showing: &mut Showing,
) -> Option<tempfile::TempDir> {
    let state = showing.note(peer, folder(dir))?;
    let result = peer.prime(&of(peer, functions), state.path());
    showing.note(peer, result);
    Some(state)
}

/// Measures starts with a new module, and restarts, of one function.
fn starts(
    peers: &[Peer],
    functions: &[Function],
    function: &Function,
    states: &[Option<tempfile::TempDir>],
    dir: &Path,
    showings: &mut [Showing],
) {
    let mut times = vec![(Vec::new(), Vec::new()); peers.len()];
    for round in 0..STARTS {
        for index in turns(peers.len(), round).filter(|index| peers[*index].kind.runs(function)) {
            let (Some(state), peer) = (&states[index], &peers[index]) else { continue };
            let (cold, restarts) = &mut times[index];
            cold.extend(showings[index].note(peer, cold_start(peer, function, dir)));
            restarts.extend(showings[index].note(peer, restart(peer, functions, function, state.path())));
        }
    }
    for (showing, (cold, restart)) in showings.iter_mut().zip(times) {
        showing.cold_ms.extend(median(cold).map(|ms| (function.name, ms)));
        showing.restart_ms.extend(median(restart).map(|ms| (function.name, ms)));
    }
}

fn saturate(
    peers: &[Peer],
    functions: &[Function],
    servers: &[Option<Server>],
    showings: &mut [Showing],
    options: &Options,
) {
    let mut runs: Vec<BTreeMap<Key<usize>, Vec<Run>>> = vec![BTreeMap::new(); peers.len()];
    for round in 0..options.rounds {
        eprintln!("load, round {} of {}...", round + 1, options.rounds);
        for (cell, (function, connections)) in functions
            .iter()
            .flat_map(|function| CONNECTIONS.map(|connections| (function, connections)))
            .enumerate()
        {
            for index in turns(peers.len(), round + cell).filter(|index| peers[*index].kind.runs(function)) {
                let Some(server) = &servers[index] else { continue };
                let run = load::saturate(&server.target(function), connections, options.run, || server.cpu());
                runs[index].entry((function.name, connections)).or_default().push(run);
            }
        }
    }
    for (showing, runs) in showings.iter_mut().zip(runs) {
        showing.load = runs.into_iter().map(|(key, runs)| (key, middle(&runs))).collect();
    }
}

/// Measures the hello functions at a steady pace; on the node once for each `start` setting. The others would tell no more.
fn paced(
    peers: &[Peer],
    functions: &[Function],
    servers: &[Option<Server>],
    showings: &mut [Showing],
    options: &Options,
) {
    let mut cases = Vec::new();
    for function in functions.iter().filter(|function| PACED.contains(&function.name)) {
        for (index, peer) in peers.iter().enumerate().filter(|(_, peer)| peer.kind.runs(function)) {
            let Some(server) = &servers[index] else { continue };
            if peer.kind != Kind::Orama {
                cases.push((index, (function.name, ""), server.target(function), Vec::new()));
                continue;
            }
            for start in ["command", "parked", "auto"] {
                let name = format!("{}-{start}", function.name);
                match server.deploy(function, &name, &format!("{{\"start\":\"{start}\"}}")) {
                    Ok(()) => cases.push((
                        index,
                        (function.name, start),
                        server.target_named(function, &name),
                        Vec::new(),
                    )),
                    Err(error) => showings[index].notes.push(error),
                }
            }
        }
    }
    for round in 0..PACED_ROUNDS {
        eprintln!("{} requests a second, round {} of {PACED_ROUNDS}...", 1000 / PACE.as_millis(), round + 1);
        for case in turns(cases.len(), round) {
            let (_, _, target, runs) = &mut cases[case];
            // Not counted: pools fill and caches warm up.
            load::pace(target, PACE, options.run / 4);
            runs.push(load::pace(target, PACE, options.run * PACED_LENGTH));
        }
    }
    for (index, key, _, runs) in cases {
        let field = |field: fn(&Paced) -> f64| median(runs.iter().map(field)).unwrap_or(f64::NAN);
        let paced = Paced {
            p50_us: field(|it| it.p50_us),
            p99_us: field(|it| it.p99_us),
            failed: runs.iter().map(|it| it.failed).sum::<f64>() / runs.len() as f64,
        };
        showings[index].paced.insert(key, paced);
    }
}

/// Measures from a new module to the first answer: a running node gets it, another server starts with it.
fn cold_start(peer: &Peer, function: &Function, dir: &Path) -> Result<f64, String> {
    let state = folder(dir)?;
    let only = std::slice::from_ref(function);
    peer.prepare(only, state.path())?;
    let running = if peer.kind == Kind::Orama { Some(peer.start(&[], state.path())?) } else { None };
    let begun = Instant::now();
    let server = match running {
        Some(node) => {
            node.deploy(function, function.name, "{}")?;
            node
        }
        None => peer.start(only, state.path())?,
    };
    server.first_answer(function)?;
    Ok(millis(begun.elapsed()))
}

/// Measures from the start of the process, with all functions, to the first answer of one.
fn restart(peer: &Peer, functions: &[Function], function: &Function, state: &Path) -> Result<f64, String> {
    let begun = Instant::now();
    let server = peer.start(&of(peer, functions), state)?;
    server.first_answer(function)?;
    Ok(millis(begun.elapsed()))
}

/// Runs a guest that reports whether its memory was used before, and then writes to it. (The component of `wasmtime serve` fails
/// when an instance is called twice, so any answer of it is proof enough.)
fn isolation(peer: &Peer, dir: &Path) -> Result<(), String> {
    let state = folder(dir)?;
    let wasm = state.path().join("guest.wasm");
    let function = if peer.kind == Kind::Wasmtime {
        Function { name: "echo", wasm, answer: Vec::new(), needs_node: false }
    } else {
        std::fs::write(&wasm, guests::wat("memory_dirty")).map_err(|error| error.to_string())?;
        Function { name: "isolation", wasm, answer: Vec::new(), needs_node: false }
    };
    let only = std::slice::from_ref(&function);
    peer.prepare(only, state.path())?;
    let server = peer.start(only, state.path())?;
    if peer.kind == Kind::Orama {
        server.deploy(&function, function.name, "{}")?;
    }
    for body in server.bodies(&function, ISOLATION_CALLS)? {
        let clean = if peer.kind == Kind::Wasmtime { "World" } else { "clean" };
        if !body.contains(clean) {
            return Err(format!("an instance saw the memory of another, or failed: {body}"));
        }
    }
    Ok(())
}

/// The functions that a peer runs.
fn of(peer: &Peer, functions: &[Function]) -> Vec<Function> {
    functions.iter().filter(|function| peer.kind.runs(function)).cloned().collect()
}

/// Combines runs: the medians of their figures, and the mean of their failures.
fn middle(runs: &[Run]) -> Run {
    let field = |field: fn(&Run) -> f64| median(runs.iter().map(field)).unwrap_or(f64::NAN);
    Run {
        rate: field(|run| run.rate),
        p50_us: field(|run| run.p50_us),
        p99_us: field(|run| run.p99_us),
        cpu_us: field(|run| run.cpu_us),
        failed: runs.iter().map(|run| run.failed).sum::<f64>() / runs.len() as f64,
    }
}

fn folder(dir: &Path) -> Result<tempfile::TempDir, String> {
    tempfile::tempdir_in(dir).map_err(|error| format!("{}: {error}", dir.display()))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
