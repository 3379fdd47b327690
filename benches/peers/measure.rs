//! What is measured, in which order: everything in turns, so that a change of the machine's speed meets all.

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
/// Distance of two requests of the paced load, and how long it is per run beside the other load.
const PACE: Duration = Duration::from_millis(5);
const PACED_LENGTH: u32 = 2;
const PACED_ROUNDS: usize = 3;
/// Requests that show that no instance serves twice.
const ISOLATION_CALLS: usize = 20;

/// The name of a function and something beside it.
pub type Key<T> = (&'static str, T);

/// What one peer showed. What failed or does not apply is absent.
#[derive(Debug, Default, Clone)]
pub struct Showing {
    /// From a module that was never seen to the first answer.
    pub cold_ms: BTreeMap<&'static str, f64>,
    /// From the start of the process to the first answer, what it keeps on disk being there.
    pub restart_ms: BTreeMap<&'static str, f64>,
    /// Under load, by function and connections: medians of the runs.
    pub load: BTreeMap<Key<usize>, Run>,
    /// At a steady pace, by function and the function's `start` setting (empty for other peers).
    pub paced: BTreeMap<Key<&'static str>, Paced>,
    /// Resident memory at rest and after the load.
    pub memory_mb: Option<(f64, f64)>,
    /// What went wrong.
    pub notes: Vec<String>,
}

/// Measures all peers; one showing for each.
pub fn all(peers: &[Peer], functions: &[Function], dir: &Path, options: &Options) -> Vec<Showing> {
    let mut showings = vec![Showing::default(); peers.len()];
    let note = |showings: &mut Vec<Showing>, index: usize, result: Result<(), String>| {
        if let Err(error) = result {
            eprintln!("{}: {error}", peers[index].kind.name());
            showings[index].notes.push(error);
        }
    };

    eprintln!("isolation: {ISOLATION_CALLS} calls, none sees what another left...");
    for (index, peer) in peers.iter().enumerate().filter(|(_, peer)| peer.kind.sandboxed()) {
        note(&mut showings, index, isolation(peer, dir));
    }

    eprintln!("starts...");
    let mut states = Vec::new();
    for (index, peer) in peers.iter().enumerate() {
        let state = folder(dir);
        let primed = state
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|state| peer.prime(&of(peer, functions), state.path()));
        note(&mut showings, index, primed);
        states.push(state);
    }
    for function in functions {
        let mut times = vec![(Vec::new(), Vec::new()); peers.len()];
        for round in 0..STARTS {
            for index in turns(peers.len(), round).filter(|index| peers[*index].kind.runs(function)) {
                let Ok(state) = &states[index] else { continue };
                let cold = cold_start(&peers[index], function, dir).map(|ms| times[index].0.push(ms));
                note(&mut showings, index, cold);
                let restart = restart(&peers[index], functions, function, state.path());
                note(&mut showings, index, restart.map(|ms| times[index].1.push(ms)));
            }
        }
        for (showing, (cold, restart)) in showings.iter_mut().zip(times) {
            showing.cold_ms.extend(median(cold).map(|ms| (function.name, ms)));
            showing.restart_ms.extend(median(restart).map(|ms| (function.name, ms)));
        }
    }

    let mut servers = Vec::new();
    for (index, (peer, state)) in peers.iter().zip(&states).enumerate() {
        let server = state
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|state| peer.start(&of(peer, functions), state.path()));
        let (server, error) = server.map_or_else(|error| (None, Err(error)), |server| (Some(server), Ok(())));
        note(&mut showings, index, error);
        servers.push(server);
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

/// The hello functions at a steady pace; on the node once for each way of starting.
fn paced(
    peers: &[Peer],
    functions: &[Function],
    servers: &[Option<Server>],
    showings: &mut [Showing],
    options: &Options,
) {
    let mut cases = Vec::new();
    for function in functions.iter().filter(|function| function.name != "echo") {
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
            // Pools fill and caches warm before it counts.
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

/// From a module that was never seen to the first answer: a node is running and gets it, another server starts with it.
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

/// From the start of the process, with all functions, to the first answer of one.
fn restart(peer: &Peer, functions: &[Function], function: &Function, state: &Path) -> Result<f64, String> {
    let begun = Instant::now();
    let server = peer.start(&of(peer, functions), state)?;
    server.first_answer(function)?;
    Ok(millis(begun.elapsed()))
}

/// Runs a guest that tells whether its memory was used before, and leaves it used. (The component of `wasmtime serve`
/// fails when it is called again, so for it any answers will do.)
fn isolation(peer: &Peer, dir: &Path) -> Result<(), String> {
    let state = folder(dir)?;
    let wasm = state.path().join("guest.wasm");
    let function = if peer.kind == Kind::Wasmtime {
        Function { name: "echo", wasm, answer: Vec::new() }
    } else {
        std::fs::write(&wasm, guests::wat("memory_dirty")).map_err(|error| error.to_string())?;
        Function { name: "isolation", wasm, answer: Vec::new() }
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
            return Err(format!("an instance saw what another left, or failed: {body}"));
        }
    }
    Ok(())
}

/// The functions that a peer runs.
fn of(peer: &Peer, functions: &[Function]) -> Vec<Function> {
    functions.iter().filter(|function| peer.kind.runs(function)).cloned().collect()
}

/// A run whose figures are the medians of the runs', and whose failures are those of all.
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
