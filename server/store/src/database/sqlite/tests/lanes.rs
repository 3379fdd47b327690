//! Lanes: whose they are and for how long, and processes that lie on them.

use super::processes::{eventually, id_of, kill, process_of};
use super::*;
use crate::database::sqlite::lanes;
use crate::database::sqlite::wire::{Call, Outcome, REQUEST_MAX_BYTES, Ready, outcome, read_call, ready};
use crate::limits::DB_KILL_AFTER;
use orama_runtime::child::{Kind, end_now, frame};
use orama_runtime::services::StatementResult;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// Bytes of an answer that never comes whole.
const LARGE: usize = 16 << 20;

/// Becomes a process that does as the SQL says; see [`Program::of_test`].
#[test]
fn lying_process_entry() {
    dispatch_in_test(&[Kind { name: PROCESS.name, run: lie }]);
}

fn lie(mut control: UnixStream, _label: &str) -> ExitCode {
    let sockets = lanes::receive(&control).unwrap();
    frame::read(&mut control, 4096).unwrap();
    control.write_all(&ready(Ready { files: true, calls: true }).unwrap()).unwrap();
    for (lane, mut socket) in sockets.into_iter().enumerate() {
        let control = control.try_clone().unwrap();
        std::thread::spawn(move || {
            while let Ok(Some(bytes)) = frame::read(&mut socket, REQUEST_MAX_BYTES) {
                answer(lane, &mut socket, &control, &read_call(&bytes).unwrap());
            }
        });
    }
    // Cancellations are ignored.
    std::io::copy(&mut control, &mut std::io::sink()).unwrap();
    ExitCode::SUCCESS
}

/// The lane's number as rows.
fn truth(lane: usize, id: u64) -> Vec<u8> {
    let rows = lane.to_string();
    let results = vec![StatementResult::Query { rows: rows.clone(), row_count: 1 }];
    let batch = BatchOutcome { committed: true, results, failure: None };
    let mut bytes = outcome(&Outcome::of(id, Some(lane as u32), &batch, None), rows.len()).unwrap();
    bytes.extend_from_slice(rows.as_bytes());
    bytes
}

fn answer(lane: usize, socket: &mut UnixStream, mut control: &UnixStream, call: &Call<'_>) {
    let truth = |id| truth(lane, id);
    let large = frame::header(LARGE).unwrap();
    let bytes = match call.statements()[0].sql.as_str() {
        "truth" => truth(call.id),
        "late" => {
            std::thread::sleep(Duration::from_millis(700));
            truth(call.id)
        }
        "another call" => truth(call.id + 1),
        "twice" => [truth(call.id), truth(call.id)].concat(),
        "no message" => [frame::header(5).unwrap().as_slice(), &[0xff; 5]].concat(),
        "too long" => vec![0xff; 64],
        "half" => [large.as_slice(), &[b'x'; 10]].concat(),
        "half, then dead" => [large.as_slice(), &vec![b'x'; 3 << 20]].concat(),
        "ready again" => {
            return control.write_all(&ready(Ready { files: true, calls: true }).unwrap()).unwrap();
        }
        "closed" => {
            socket.shutdown(Shutdown::Both).unwrap();
            return;
        }
        other => panic!("{other}"),
    };
    socket.write_all(&bytes).unwrap();
    if call.statements()[0].sql == "half, then dead" {
        end_now(3);
    }
}

fn liars() -> Node {
    let program = Program::of_test("database::sqlite::tests::lanes::lying_process_entry");
    Node::with_program(tempfile::tempdir().unwrap(), DB_PROCESS_IDLE, program)
}

fn call(node: &Node, ns: &Namespace, mode: BatchMode, sql: &str, within: Duration) -> Answer<BatchOutcome> {
    let statement =
        if mode == BatchMode::Write { suite::exec(sql, vec![]) } else { suite::query(sql, vec![]) };
    node.databases.run(ns, mode, vec![statement], Instant::now() + within)
}

fn rows_of(outcome: &BatchOutcome) -> &str {
    match outcome.results.as_slice() {
        [StatementResult::Query { rows, .. }] => rows,
        _ => panic!("{outcome:?}"),
    }
}

fn turns(node: &Node, ns: &Namespace) -> (usize, usize, usize) {
    let tenant = node.databases.0.tenant(ns);
    let (writes, reads) = (tenant.write_turns.available_permits(), tenant.read_turns.available_permits());
    (writes, reads, node.databases.0.calls.available_permits())
}

const ALL_TURNS: (usize, usize, usize) = (1, DB_READERS_MAX, DB_CALLS_MAX);

#[test]
fn calls_at_once_have_lanes_of_their_own() {
    let (node, ns) = (liars(), namespace());
    for _ in 0..3 {
        let mut reads: Vec<_> =
            (0..DB_READERS_MAX).map(|_| call(&node, &ns, READ, "late", PATIENCE)).collect();
        reads.iter_mut().for_each(begin);
        let mut write = call(&node, &ns, BatchMode::Write, "late", PATIENCE);
        begin(&mut write);
        assert_eq!(turns(&node, &ns), (0, 0, DB_CALLS_MAX - DB_READERS_MAX - 1));
        assert_eq!(rows_of(&wait(write)), "0");
        let mut lanes: Vec<_> = reads.into_iter().map(|read| rows_of(&wait(read)).to_owned()).collect();
        lanes.sort();
        assert_eq!(lanes, ["1", "2", "3"]);
        assert_eq!(turns(&node, &ns), ALL_TURNS);
    }
}

#[test]
fn a_call_that_was_given_up_keeps_its_lane_until_the_process_has_answered() {
    let (node, ns) = (liars(), namespace());
    wait(call(&node, &ns, READ, "truth", PATIENCE));
    let id = id_of(&node, &ns);
    for mode in [BatchMode::Write, READ] {
        let begun = Instant::now();
        let mut late = call(&node, &ns, mode, "late", PATIENCE);
        begin(&mut late);
        drop(late);
        assert_ne!(turns(&node, &ns), ALL_TURNS);
        eventually("the turns come back", || turns(&node, &ns) == ALL_TURNS);
        assert!(begun.elapsed() >= Duration::from_millis(700));
        assert_eq!(
            rows_of(&wait(call(&node, &ns, mode, "truth", PATIENCE))),
            if mode == READ { "1" } else { "0" }
        );
    }
    assert_eq!(id_of(&node, &ns), id, "its process was not ended");
}

#[test]
fn a_process_that_lies_is_killed_and_its_calls_fail() {
    let (node, ns) = (liars(), namespace());
    for lie in ["another call", "twice", "no message", "too long", "half, then dead", "ready again", "closed"]
    {
        for mode in [BatchMode::Write, READ] {
            let mut other =
                call(&node, &ns, if mode == READ { BatchMode::Write } else { READ }, "half", PATIENCE);
            begin(&mut other);
            let process = process_of(&node, &ns);
            let outcome = wait(call(&node, &ns, mode, lie, PATIENCE));
            assert_eq!(code(&outcome), ErrorCode::Unavailable, "{lie}: {outcome:?}");
            assert!(message(&outcome).contains("process ended during the call"), "{lie}: {outcome:?}");
            assert_eq!(
                message(&outcome).contains("it is not known whether"),
                mode == BatchMode::Write,
                "{lie}"
            );
            assert_eq!(code(&wait(other)), ErrorCode::Unavailable, "{lie}");
            assert!(process.is_gone(), "{lie}");
            assert_eq!(turns(&node, &ns), ALL_TURNS, "{lie}");
            wait(call(&node, &ns, mode, "truth", PATIENCE));
        }
    }
}

#[test]
fn half_an_answer_fails_at_the_deadline() {
    let (node, ns) = (liars(), namespace());
    wait(call(&node, &ns, READ, "truth", PATIENCE));
    let process = process_of(&node, &ns);
    let mut half = call(&node, &ns, READ, "half", Duration::from_secs(1));
    begin(&mut half);
    assert_eq!(rows_of(&wait(call(&node, &ns, READ, "truth", PATIENCE))), "2", "others go on");
    let outcome = wait(half);
    assert_eq!(code(&outcome), ErrorCode::DeadlineExceeded, "{outcome:?}");
    assert_eq!(turns(&node, &ns).1, DB_READERS_MAX - 1, "the process may still answer");
    assert!(!process.is_gone());
    eventually("it is killed", || process.is_gone());
    assert_eq!(turns(&node, &ns), ALL_TURNS);
}

#[test]
fn an_answer_waits_for_a_caller_who_is_busy() {
    let (node, ns) = (Node::new(), namespace());
    node.does(&ns, "CREATE TABLE t (x)");
    let id = id_of(&node, &ns);
    let mut read = call(&node, &ns, READ, "SELECT count(*) AS n FROM t", Duration::from_secs(1));
    begin(&mut read);
    std::thread::sleep(DB_KILL_AFTER + Duration::from_millis(1500));
    assert_eq!(rows_of(&wait(read)), r#"[{"n":0}]"#);
    assert_eq!(id_of(&node, &ns), id, "its process was not ended");
}

#[test]
fn what_was_answered_before_the_process_ended_is_told() {
    let (node, ns) = (Node::new(), namespace());
    node.does(&ns, "CREATE TABLE t (x)");
    let process = process_of(&node, &ns);
    let mut write = call(&node, &ns, BatchMode::Write, "INSERT INTO t VALUES (1)", PATIENCE);
    let mut read = call(&node, &ns, READ, "SELECT hex(zeroblob(10000)) AS x", PATIENCE);
    begin(&mut write);
    begin(&mut read);
    eventually("both are answered", || process.has_answered(0) && process.has_answered(1));
    kill(process.id());
    eventually("it has ended", || process.is_gone());
    assert!(wait(write).committed);
    assert_eq!(rows_of(&wait(read)).len(), r#"[{"x":""}]"#.len() + 20_000);
    assert_eq!(node.rows(&ns, "SELECT x FROM t"), r#"[{"x":1}]"#);
}

#[test]
fn a_thread_with_an_event_loop_waits_on_it() {
    use crate::readiness::{Readable, wait_here_with};
    use std::sync::atomic::AtomicUsize;
    static WAITS: AtomicUsize = AtomicUsize::new(0);
    /// Blocks; a real one does not.
    fn here(socket: UnixStream, _until: Instant) -> Readable {
        WAITS.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            socket.set_nonblocking(false)?;
            // A look that takes nothing.
            rustix::net::recv(&socket, &mut [0; 1], rustix::net::RecvFlags::PEEK)?;
            socket.set_nonblocking(true)?;
            Ok(true)
        })
    }
    let (node, ns) = (Node::new(), namespace());
    node.does(&ns, "CREATE TABLE t (x)");
    assert_eq!(WAITS.load(Ordering::Relaxed), 0, "the backplane's");
    let looped = || {
        wait_here_with(here);
        assert_eq!(node.rows(&ns, "SELECT 1 AS x"), r#"[{"x":1}]"#);
        assert_eq!(WAITS.load(Ordering::Relaxed), 1);
        // Whether they wait or stay awake.
        for n in 0..500 {
            assert_eq!(node.rows(&ns, &format!("SELECT {n} AS x")), format!(r#"[{{"x":{n}}}]"#));
        }
        let before = WAITS.load(Ordering::Relaxed);
        // A long answer comes in parts.
        assert!(node.rows(&ns, "SELECT hex(zeroblob(2000000)) AS x").len() > 4_000_000);
        assert!(WAITS.load(Ordering::Relaxed) > before + 1);
    };
    std::thread::scope(|scope| scope.spawn(looped).join().unwrap());
}
