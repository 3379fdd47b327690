use super::*;
use crate::conformance::{database as suite, namespace, wait};
use crate::limits::DB_VALUE_MAX_BYTES;
use orama_runtime::child::dispatch_in_test;
use orama_runtime::services::{Consistency, SqlValue};
use rusqlite::Connection;
use std::os::unix::fs::PermissionsExt;
use std::task::{Context, Waker};
use tokio::runtime::Runtime;

mod hostile;
mod lanes;
mod processes;

/// Becomes a SQL process of the other tests; see [`Program::of_test`].
#[test]
fn process_entry() {
    dispatch_in_test(&[PROCESS]);
}

/// What SQL processes of tests are made from.
pub(in crate::database) fn program() -> Program {
    Program::of_test("database::sqlite::tests::process_entry")
}

struct Node {
    databases: SqliteDatabases,
    home: tempfile::TempDir,
    _backplane: Runtime,
}

impl Node {
    fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap())
    }

    fn over(home: tempfile::TempDir) -> Self {
        Self::with_idle(home, DB_PROCESS_IDLE)
    }

    fn with_idle(home: tempfile::TempDir, idle: Duration) -> Self {
        Self::with_program(home, idle, program())
    }

    fn with_program(home: tempfile::TempDir, idle: Duration, program: Program) -> Self {
        let backplane =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let dir = home.path().join("databases");
        let databases = SqliteDatabases::open_with(&dir, backplane.handle().clone(), program, idle).unwrap();
        Self { databases, home, _backplane: backplane }
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("databases")
    }

    fn folder(&self, namespace: &Namespace) -> PathBuf {
        self.dir().join(namespace.as_str())
    }

    fn does(&self, namespace: &Namespace, sql: &str) {
        suite::does(&self.databases, namespace, sql);
    }

    fn rows(&self, namespace: &Namespace, sql: &str) -> String {
        suite::rows(&self.databases, namespace, sql, vec![])
    }
}

#[test]
fn it_is_a_database() {
    let node = Node::new();
    for (name, case) in suite::CASES {
        eprintln!("case: {name}");
        case(&node.databases);
    }
}

/// Longer than any test takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const READ: BatchMode = BatchMode::Read(Consistency::Weak);
const ENDLESS: &str =
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn message(outcome: &BatchOutcome) -> &str {
    &outcome.failure.as_ref().unwrap().error.message
}

fn code(outcome: &BatchOutcome) -> ErrorCode {
    suite::failure(outcome).0
}

/// Polls an answer once, so that its work begins.
fn begin(answer: &mut Answer<BatchOutcome>) {
    assert!(answer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn files_are_the_owners_alone() {
    let node = Node::new();
    let ns = namespace();
    node.does(&ns, "CREATE TABLE t (x)");
    assert_eq!((mode(&node.dir()), mode(&node.folder(&ns))), (0o700, 0o700));
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(&node.folder(&ns).join(format!("data.db{suffix}"))), 0o600, "{suffix}");
    }
}

/// A killed node leaves its files as they are at that moment, with all changes in the log and maybe a torn write at its
/// end: here copied away from under the open database.
#[test]
fn everything_acknowledged_survives_a_kill() {
    let node = Node::new();
    let ns = namespace();
    node.does(&ns, "CREATE TABLE t (x)");
    for n in 0..20 {
        let insert = suite::exec("INSERT INTO t VALUES (?)", vec![SqlValue::Integer(n)]);
        assert!(suite::run(&node.databases, &ns, vec![insert]).committed);
    }
    let killed = tempfile::tempdir().unwrap();
    let to = killed.path().join("databases").join(ns.as_str());
    fs::create_dir_all(&to).unwrap();
    for file in ["data.db", "data.db-wal"] {
        fs::copy(node.folder(&ns).join(file), to.join(file)).unwrap();
    }
    let log = to.join("data.db-wal");
    assert!(log.metadata().unwrap().len() > 0, "the log holds the changes");
    std::io::Write::write_all(&mut fs::File::options().append(true).open(log).unwrap(), &[7; 3000]).unwrap();
    let again = Node::over(killed);
    assert_eq!(again.rows(&ns, "SELECT count(*) AS n, max(x) AS m FROM t"), r#"[{"n":20,"m":19}]"#);
    again.does(&ns, "INSERT INTO t VALUES (20)");
}

#[test]
fn a_closed_database_has_no_log_left_and_takes_nothing_more() {
    let node = Node::new();
    let (ns, busy) = (namespace(), namespace());
    node.does(&ns, "CREATE TABLE t (x)");
    node.rows(&ns, "SELECT * FROM t");
    node.does(&busy, "CREATE TABLE t (x)");
    let far = Instant::now() + PATIENCE;
    let mut running = node.databases.run(&busy, READ, vec![suite::query(ENDLESS, vec![])], far);
    begin(&mut running);
    node.databases.close();
    assert_eq!(code(&wait(running)), ErrorCode::Unavailable, "what ran was ended");
    let outcome = suite::run(&node.databases, &ns, vec![suite::query("SELECT * FROM t", vec![])]);
    assert_eq!(code(&outcome), ErrorCode::Unavailable);
    for ns in [&ns, &busy] {
        assert_eq!(names(&node.folder(ns)), ["data.db"]);
    }
    let again = Node::over(node.home);
    assert_eq!(again.rows(&ns, "SELECT * FROM t"), "[]");
}

#[test]
fn a_removed_namespace_is_empty_and_its_files_are_gone() {
    let node = Node::new();
    let (gone, stays) = (namespace(), namespace());
    for ns in [&gone, &stays] {
        node.does(ns, "CREATE TABLE t (x)");
        node.does(ns, "INSERT INTO t VALUES (1)");
        node.rows(ns, "SELECT * FROM t");
    }
    let far = Instant::now() + PATIENCE;
    let mut running = node.databases.run(&gone, READ, vec![suite::query(ENDLESS, vec![])], far);
    begin(&mut running);
    node.databases.remove(&gone).unwrap();
    assert_eq!(code(&wait(running)), ErrorCode::Unavailable, "what ran was ended");
    assert!(names(&node.dir()).iter().all(|name| name.starts_with(stays.as_str())));
    assert_eq!(node.rows(&gone, "SELECT name FROM sqlite_schema"), "[]");
    node.does(&gone, "CREATE TABLE t (y)");
    assert_eq!(node.rows(&gone, "SELECT * FROM t"), "[]");
    assert_eq!(node.rows(&stays, "SELECT * FROM t"), r#"[{"x":1}]"#);
    node.databases.remove(&namespace()).unwrap();
}

#[test]
fn a_call_that_nobody_waits_for_is_ended() {
    let node = Node::new();
    let ns = namespace();
    node.does(&ns, "CREATE TABLE t (x)");
    let far = Instant::now() + PATIENCE;
    let mut calls: Vec<_> = (0..DB_READERS_MAX)
        .map(|_| node.databases.run(&ns, READ, vec![suite::query(ENDLESS, vec![])], far))
        .collect();
    calls.iter_mut().for_each(begin);
    // All turns are taken: one that waits is told so at its deadline, and others are not kept waiting.
    let soon = Instant::now() + Duration::from_millis(50);
    let waited = wait(node.databases.run(&ns, READ, vec![suite::query("SELECT 1", vec![])], soon));
    assert_eq!(code(&waited), ErrorCode::Unavailable, "{waited:?}");
    assert!(message(&waited).contains("busy"), "{waited:?}");
    node.does(&ns, "INSERT INTO t VALUES (1)");
    node.does(&namespace(), "CREATE TABLE t (x)");
    drop(calls);
    assert_eq!(node.rows(&ns, "SELECT * FROM t"), r#"[{"x":1}]"#);
}

#[test]
fn one_namespace_cannot_take_all_places() {
    const { assert!(DB_READERS_MAX < DB_CALLS_MAX / 2) };
    let node = Node::new();
    let crowd: Vec<_> = (0..DB_CALLS_MAX / DB_READERS_MAX + 1).map(|_| namespace()).collect();
    let far = Instant::now() + PATIENCE;
    let mut calls: Vec<_> = crowd
        .iter()
        .flat_map(|ns| std::iter::repeat_n(ns, DB_READERS_MAX))
        .map(|ns| node.databases.run(ns, READ, vec![suite::query(ENDLESS, vec![])], far))
        .collect();
    calls.iter_mut().for_each(begin);
    let soon = Instant::now() + Duration::from_millis(50);
    let waited = wait(node.databases.run(&namespace(), READ, vec![suite::query("SELECT 1", vec![])], soon));
    assert_eq!(code(&waited), ErrorCode::Unavailable, "all places are taken: {waited:?}");
    drop(calls);
    node.does(&namespace(), "CREATE TABLE t (x)");
}

#[test]
fn the_deadline_also_bounds_the_wait_for_a_lock_from_outside() {
    let node = Node::new();
    let ns = namespace();
    node.does(&ns, "CREATE TABLE t (x)");
    let outside = Connection::open(node.folder(&ns).join("data.db")).unwrap();
    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
    let insert = || vec![suite::exec("INSERT INTO t VALUES (1)", vec![])];
    let soon = Instant::now() + Duration::from_millis(200);
    let outcome = wait(node.databases.run(&ns, BatchMode::Write, insert(), soon));
    assert_eq!(code(&outcome), ErrorCode::DeadlineExceeded, "{outcome:?}");
    assert_eq!(node.rows(&ns, "SELECT * FROM t"), "[]", "readers go on");
    outside.execute_batch("COMMIT").unwrap();
    assert!(suite::run(&node.databases, &ns, insert()).committed);
}

#[test]
fn large_values_are_told() {
    let node = Node::new();
    let ns = namespace();
    node.does(&ns, "CREATE TABLE t (x)");
    let blob =
        |bytes: usize| vec![suite::exec("INSERT INTO t VALUES (?)", vec![SqlValue::Blob(vec![0; bytes])])];
    // The row's own header counts.
    assert!(suite::run(&node.databases, &ns, blob(DB_VALUE_MAX_BYTES - 100)).committed);
    let outcome = suite::run(&node.databases, &ns, blob(DB_VALUE_MAX_BYTES + 1));
    assert_eq!(code(&outcome), ErrorCode::PayloadTooLarge);
    assert!(message(&outcome).contains("4 MiB"), "{outcome:?}");
}

#[test]
fn references_are_enforced() {
    let node = Node::new();
    let ns = namespace();
    node.does(&ns, "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    node.does(&ns, "CREATE TABLE u (t REFERENCES t (id))");
    let outcome = suite::run(&node.databases, &ns, vec![suite::exec("INSERT INTO u VALUES (99)", vec![])]);
    assert!(message(&outcome).contains("FOREIGN KEY"), "{outcome:?}");
}

#[test]
fn a_damaged_file_fails_its_namespace_alone_and_shows_no_path() {
    let node = Node::new();
    let ns = namespace();
    fs::write(node.dir().join(format!("{ns}.db")), [b'x'; 5000]).unwrap();
    for _ in 0..2 {
        let outcome = suite::run(&node.databases, &ns, vec![suite::query("SELECT 1", vec![])]);
        assert_eq!(code(&outcome), ErrorCode::Internal, "{outcome:?}");
        assert!(!message(&outcome).contains('/'), "{outcome:?}");
    }
    node.does(&namespace(), "CREATE TABLE t (x)");
}
