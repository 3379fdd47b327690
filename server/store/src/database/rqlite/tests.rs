use super::*;
use crate::conformance::{database as suite, namespace, wait};
use crate::database::Databases;
use crate::settings::{Backends, NamespaceDatabase};
use orama_runtime::services::{Database, StatementResult};
use orama_test_support::backends::Rqlite;
use orama_test_support::proxy::{Fault, Proxy};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

fn at(addresses: &[SocketAddr]) -> RqliteAt {
    let urls = addresses.iter().map(|address| format!("http://{address}").parse().unwrap()).collect();
    RqliteAt { urls, user: None, password: None }
}

fn backplane() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// One database for every namespace that a test asks for, emptied in between: a case of the suite has at most two.
struct Suite {
    servers: Vec<Rqlite>,
    databases: Mutex<Vec<(Namespace, RqliteDatabase)>>,
    backplane: Runtime,
}

impl Suite {
    fn of(&self, namespace: &Namespace) -> RqliteDatabase {
        let mut databases = self.databases.lock().unwrap();
        if let Some((_, database)) = databases.iter().find(|(known, _)| known == namespace) {
            return database.clone();
        }
        let servers = &self.servers[databases.len()];
        let handle = self.backplane.handle().clone();
        let database = RqliteDatabase::new(namespace, &at(&servers.addresses()), handle).unwrap();
        databases.push((namespace.clone(), database.clone()));
        database
    }

    fn empty(&self) {
        for (_, database) in self.databases.lock().unwrap().drain(..) {
            database.remove().unwrap();
        }
    }
}

impl Database for Suite {
    fn run(
        &self,
        namespace: &Namespace,
        mode: BatchMode,
        statements: Vec<Statement>,
        deadline: Instant,
    ) -> Answer<BatchOutcome> {
        self.of(namespace).run(mode, statements, deadline)
    }
}

#[test]
fn it_is_a_database() {
    let (Ok(one), Ok(two)) = (Rqlite::single(), Rqlite::single()) else { return };
    let suite = Suite { servers: vec![one, two], databases: Mutex::default(), backplane: backplane() };
    for (name, case) in suite::CASES {
        eprintln!("case: {name}");
        case(&suite);
        suite.empty();
    }
}

/// Databases of which one namespace has servers.
struct Node {
    databases: Databases,
    namespace: Namespace,
    _home: tempfile::TempDir,
    _backplane: Runtime,
}

impl Node {
    fn over(addresses: &[SocketAddr]) -> Self {
        let (home, backplane, namespace) = (tempfile::tempdir().unwrap(), backplane(), namespace());
        let named = [(namespace.clone(), NamespaceDatabase::Rqlite(at(addresses)))];
        let backends = Backends { namespaces: named.into(), ..Backends::default() };
        let databases = Databases::open(
            home.path(),
            &backends,
            backplane.handle(),
            crate::database::sqlite::tests::program(),
        )
        .unwrap();
        Self { databases, namespace, _home: home, _backplane: backplane }
    }

    fn does(&self, sql: &str) {
        suite::does(&self.databases, &self.namespace, sql);
    }

    fn rows(&self, sql: &str) -> String {
        suite::rows(&self.databases, &self.namespace, sql, vec![])
    }

    fn exec_within(&self, sql: &str, time: Duration) -> BatchOutcome {
        let statements = vec![suite::exec(sql, vec![])];
        wait(self.databases.run(&self.namespace, BatchMode::Write, statements, Instant::now() + time))
    }

    /// What a statement fails with.
    fn told(&self, sql: &str) -> String {
        let outcome = self.exec_within(sql, Duration::from_secs(30));
        assert!(!outcome.committed, "{sql}: {outcome:?}");
        outcome.failure.unwrap().error.message
    }
}

#[test]
fn a_namespace_without_a_database_has_none() {
    let node = Node::over(&["127.0.0.1:1".parse().unwrap()]);
    let other = namespace();
    let outcome = suite::run(&node.databases, &other, vec![suite::query("SELECT 1", vec![])]);
    let (code, _) = suite::failure(&outcome);
    assert_eq!(code, ErrorCode::Unavailable);
    let message = outcome.failure.unwrap().error.message;
    assert!(message.contains(&format!("database.namespaces.{other}")), "{message}");
}

#[test]
fn what_servers_would_store_differently_is_refused() {
    let Ok(servers) = Rqlite::single() else { return };
    let node = Node::over(&servers.addresses());
    node.does("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    node.does("INSERT INTO t (v) VALUES (1), (2)");
    for sql in [
        "UPDATE t SET v = random()",
        "INSERT INTO t (v) SELECT random() FROM t",
        "DELETE FROM t WHERE random() > 0",
        "DELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY random() LIMIT 1)",
        "INSERT INTO t (id, v) VALUES (1, 2) ON CONFLICT DO UPDATE SET v = random()",
        "INSERT INTO t (v) VALUES (randomblob(length('abc')))",
        "CREATE TABLE u (id TEXT DEFAULT (hex(randomblob(16))))",
        "CREATE TABLE u AS SELECT random() AS r",
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET v = random(); END",
    ] {
        let message = node.told(sql);
        assert!(message.contains("random"), "{sql}: {message}");
    }
    for sql in [
        "INSERT INTO t (v) VALUES (last_insert_rowid())",
        "INSERT INTO t (v) VALUES (changes())",
        "UPDATE t SET v = total_changes()",
    ] {
        let message = node.told(sql);
        assert!(message.contains("last_insert_rowid"), "{sql}: {message}");
    }
    assert_eq!(node.rows("SELECT v FROM t"), r#"[{"v":1},{"v":2}]"#);
    node.does("CREATE VIEW w AS SELECT random() AS r, datetime('now') AS n");
    assert_ne!(node.rows("SELECT r FROM w"), node.rows("SELECT r FROM w"));
}

#[test]
fn a_removed_database_is_empty_whatever_was_in_it() {
    let Ok(servers) = Rqlite::single() else { return };
    let node = Node::over(&servers.addresses());
    node.databases.remove(&node.namespace).unwrap();
    for sql in [
        "CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT, b REFERENCES b (id) ON DELETE RESTRICT)",
        "CREATE TABLE b (id INTEGER PRIMARY KEY, a REFERENCES a (id) ON DELETE RESTRICT)",
        "CREATE TABLE \"odd \"\" name; --\" (x UNIQUE)",
        "CREATE INDEX i ON a (b)",
        "CREATE VIEW v AS SELECT * FROM a",
        "CREATE VIEW w AS SELECT * FROM v JOIN \"odd \"\" name; --\"",
        "CREATE TRIGGER g INSTEAD OF INSERT ON v BEGIN SELECT 1; END",
        "CREATE TRIGGER h AFTER DELETE ON a BEGIN SELECT RAISE(ABORT, 'never'); END",
        "CREATE VIRTUAL TABLE words USING fts5 (text)",
        "CREATE VIRTUAL TABLE places USING rtree (id, x0, x1)",
        "CREATE TABLE users_data (x)",
        "INSERT INTO words VALUES ('a word')",
        "INSERT INTO a (id) VALUES (1)",
        "INSERT INTO b VALUES (1, 1)",
        "UPDATE a SET b = 1",
        "ANALYZE",
    ] {
        node.does(sql);
    }
    for _ in 0..2 {
        node.databases.remove(&node.namespace).unwrap();
        assert_eq!(node.rows("SELECT name FROM sqlite_schema WHERE name <> 'sqlite_sequence'"), "[]");
    }
    node.does("CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT)");
    node.does("INSERT INTO a DEFAULT VALUES");
    assert_eq!(node.rows("SELECT id FROM a"), r#"[{"id":1}]"#);
    servers.node(0).kill();
    let error = node.databases.remove(&node.namespace).unwrap_err().to_string();
    assert!(error.contains(node.namespace.as_str()), "{error}");
}

#[test]
fn a_database_that_does_not_answer_fails_calls_in_time_and_heals() {
    const SOON: Duration = Duration::from_millis(700);
    let Ok(servers) = Rqlite::single() else { return };
    let proxy = Proxy::to(servers.addresses()[0]);
    let node = Node::over(&[proxy.address()]);
    node.does("CREATE TABLE t (x)");
    for fault in
        [Fault::Silent, Fault::Deaf, Fault::Garbage, Fault::Closed, Fault::Slow(Duration::from_secs(3))]
    {
        proxy.set(fault);
        for n in 0..4 {
            let outcome = node.exec_within(&format!("INSERT INTO t VALUES ('{fault:?} {n}')"), SOON);
            assert!(!outcome.committed && outcome.results.is_empty(), "{fault:?}: {outcome:?}");
            let error = outcome.failure.unwrap().error;
            assert!(
                matches!(error.code, ErrorCode::Unavailable | ErrorCode::DeadlineExceeded),
                "{fault:?}: {error:?}"
            );
            let is_told = error.message.contains("not known");
            assert!(is_told || fault != Fault::Deaf || n > 0, "it arrived: {error:?}");
            assert!(!error.message.contains("127.0.0.1"), "{error:?}");
            let statements = vec![suite::query("SELECT 1 AS one", vec![])];
            let read = BatchMode::Read(Default::default());
            let outcome = wait(node.databases.run(&node.namespace, read, statements, Instant::now() + SOON));
            assert!(!outcome.committed, "{fault:?}: {outcome:?}");
        }
        proxy.set(Fault::None);
        let until = Instant::now() + Duration::from_secs(120);
        while !node.exec_within("INSERT INTO t VALUES ('healed')", Duration::from_secs(10)).committed {
            assert!(Instant::now() < until, "{fault:?} is over, and nothing is as before");
        }
    }
    assert_eq!(node.rows("SELECT count(*) AS n FROM t WHERE x = 'healed'"), r#"[{"n":5}]"#);
}

/// Writers go on while the leader is killed, twice; what was acknowledged is there, once.
#[test]
fn a_killed_leader_loses_nothing_that_was_acknowledged() {
    const WRITERS: i64 = 4;
    let Ok(servers) = Rqlite::cluster(3) else { return };
    let node = Node::over(&servers.addresses());
    node.does("CREATE TABLE t (writer, n, UNIQUE (writer, n))");
    let (done, acknowledged) = (AtomicBool::new(false), AtomicI64::new(0));
    let (undone, unknown) = (AtomicI64::new(0), AtomicI64::new(0));
    let told: Vec<_> = std::thread::scope(|scope| {
        let write = |writer: i64| {
            let (mut stored, mut refused) = (Vec::new(), Vec::new());
            for n in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let sql = format!("INSERT INTO t VALUES ({writer}, {n})");
                let outcome = node.exec_within(&sql, Duration::from_secs(3));
                match outcome.failure {
                    None => {
                        assert!(outcome.committed);
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                        stored.push(n);
                    }
                    Some(failure) if failure.error.message.contains("not known") => {
                        unknown.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(failure) => {
                        assert_eq!(failure.error.code, ErrorCode::Unavailable, "{failure:?}");
                        undone.fetch_add(1, Ordering::Relaxed);
                        refused.push(n);
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            }
            (writer, stored, refused)
        };
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
        for _ in 0..2 {
            let enough = acknowledged.load(Ordering::Relaxed) + 100;
            wait_until(|| acknowledged.load(Ordering::Relaxed) >= enough);
            let leader = servers.leader();
            servers.node(leader).kill();
            let enough = acknowledged.load(Ordering::Relaxed) + 100;
            wait_until(|| acknowledged.load(Ordering::Relaxed) >= enough);
            servers.node(leader).start();
        }
        done.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    eprintln!(
        "acknowledged {acknowledged:?}, certainly not stored {undone:?}, not known {unknown:?}, lost 0, wrong 0"
    );
    for (writer, stored, refused) in told {
        for (of, expected) in [(stored, true), (refused, false)] {
            for part in of.chunks(500) {
                let list = part.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
                let sql = format!("SELECT count(*) AS n FROM t WHERE writer = {writer} AND n IN ({list})");
                let strong = vec![suite::query(&sql, vec![])];
                let mode = BatchMode::Read(orama_runtime::services::Consistency::Strong);
                let until = Instant::now() + Duration::from_secs(60);
                let outcome = wait(node.databases.run(&node.namespace, mode, strong, until));
                let count = if expected { part.len() } else { 0 };
                let [StatementResult::Query { rows, .. }] = &outcome.results[..] else {
                    panic!("{outcome:?}")
                };
                assert_eq!(*rows, format!("[{{\"n\":{count}}}]"), "writer {writer}, stored: {expected}");
            }
        }
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < until, "it does not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}
