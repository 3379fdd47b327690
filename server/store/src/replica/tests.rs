use super::*;
use crate::pubsub::memory::MemoryPubSub;
use crate::rqlite::{Options, Statement};
use crate::settings::RqliteAt;
use crate::sqlite::Database;
use orama_test_support::backends::Rqlite;
use orama_test_support::children::eventually;
use rusqlite::params;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

mod faults;
mod fidelity;
mod resync;

const FIRST: &str = "
CREATE TABLE parents (name TEXT PRIMARY KEY, note ANY) STRICT;
-- Found and deleted by its key alone.
CREATE TABLE children (
    parent TEXT NOT NULL REFERENCES parents (name) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    value ANY,
    PRIMARY KEY (parent, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, value ANY, word TEXT UNIQUE) STRICT;
";
const SECOND: &str =
    "ALTER TABLE parents ADD COLUMN weight REAL; CREATE TABLE added (\"a b\" BLOB PRIMARY KEY) STRICT;";

const OLD: Layout = Layout { stream: "test", steps: &[FIRST] };
const NEW: Layout = Layout { stream: "test", steps: &[FIRST, SECOND] };

/// A cluster, and what nodes have in common.
struct Bench {
    rqlite: Rqlite,
    runtime: Runtime,
    pubsub: Arc<MemoryPubSub>,
}

/// One node's copy.
struct Node {
    dir: TempDir,
    database: Arc<Database>,
}

impl Bench {
    fn new(nodes: usize) -> Option<Self> {
        let rqlite = Rqlite::cluster(nodes).ok()?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Some(Self { rqlite, runtime, pubsub: Arc::default() })
    }

    fn shared(&self, urls: &[String]) -> Shared {
        let urls = urls.iter().map(|url| url.parse().unwrap()).collect();
        Shared {
            client: RqliteClient::new("test", &RqliteAt { urls, user: None, password: None }).unwrap(),
            pubsub: self.pubsub.clone(),
            backplane: self.runtime.handle().clone(),
            node: "n".to_owned(),
        }
    }

    fn open(&self, dir: &Path, layout: Layout) -> Result<Arc<Database>, SqliteError> {
        Database::open_shared(dir, "copy.db", layout, self.shared(&self.rqlite.urls()))
    }

    fn node(&self) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let database = self.open(dir.path(), NEW).unwrap();
        Node { dir, database }
    }

    /// Changes rqlite behind everybody's back.
    fn meddle(&self, sql: &str) {
        let client = self.shared(&self.rqlite.urls()).client;
        let deadline = Instant::now() + Duration::from_secs(10);
        let statement = [Statement::new(sql, [])];
        self.runtime.block_on(client.execute(&statement, &Options::default(), deadline)).unwrap();
    }

    /// What rqlite has.
    fn backup(&self) -> Connection {
        let client = self.shared(&self.rqlite.urls()).client;
        let backup = tempfile::NamedTempFile::new().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        self.runtime.block_on(copy::fetch(client, backup.reopen().unwrap(), deadline)).unwrap();
        Connection::open(backup.path()).unwrap()
    }

    /// Waits until a copy has what rqlite has, and compares all of it.
    fn compare(&self, database: &Database) {
        let log = database.replica().unwrap().log.clone();
        let deadline = Instant::now() + Duration::from_secs(20);
        let last = self.runtime.block_on(log.last(Level::Strong, deadline)).unwrap().unwrap();
        eventually("the copy is up to date", || generation(database) >= last);
        assert_eq!(all(database), rows(&self.backup()));
    }
}

fn generation(database: &Database) -> i64 {
    database.replica().unwrap().state.lock().position.generation
}

/// All rows of the shared tables as literals, sorted.
fn rows(c: &Connection) -> Vec<String> {
    let mut rows = Vec::new();
    for (table, columns) in [
        ("parents", "name, note, weight"),
        ("children", "parent, number, value"),
        ("counted", "id, value, word"),
        ("added", "\"a b\""),
    ] {
        let literals =
            columns.split(", ").map(|column| format!("typeof({column}) || hex({column}) || quote({column})"));
        let literals = literals.collect::<Vec<_>>().join(" || ',' || ");
        let mut statement = c.prepare(&format!("SELECT {literals} FROM {table} ORDER BY 1")).unwrap();
        let found = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.extend(found.map(|row| format!("{table}: {}", row.unwrap())));
    }
    rows
}

/// The last row id that was given. One that was taken for a row which never came is not known elsewhere, and need not be.
fn sequence(c: &Connection) -> i64 {
    c.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'counted'", [], |row| row.get(0)).unwrap()
}

fn all(database: &Database) -> Vec<String> {
    database.read(|c| Ok::<_, rusqlite::Error>(rows(c))).unwrap()
}

fn insert(database: &Database, word: &str) -> Result<i64, SqliteError> {
    database.change(|t| {
        t.execute("INSERT INTO counted (word) VALUES (?1)", [word])?;
        Ok(t.last_insert_rowid())
    })
}

fn words(database: &Database) -> Vec<String> {
    let read = database.read(|c| {
        let mut statement = c.prepare("SELECT word FROM counted ORDER BY id")?;
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    });
    read.unwrap()
}

#[test]
fn what_one_node_writes_another_reads_soon_and_it_is_told() {
    let Some(bench) = Bench::new(1) else { return };
    let (a, b) = (bench.node(), bench.node());
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    b.database.on_applied(move |applied| {
        assert!(!applied.is_whole);
        telling.lock().extend(applied.tables.clone());
    });
    let id = insert(&a.database, "one").unwrap();
    assert_eq!((id, words(&a.database)), (1, vec!["one".to_owned()]), "its own at once");
    eventually("the other one has it", || words(&b.database) == ["one"]);
    a.database
        .change(|t| {
            t.execute("INSERT INTO parents (name) VALUES ('p')", [])?;
            t.execute("INSERT INTO children VALUES ('p', 1, x'00'), ('p', 2, NULL)", [])
        })
        .unwrap();
    a.database.change(|t| t.execute("DELETE FROM parents", [])).unwrap();
    bench.compare(&b.database);
    let told = told.lock();
    for table in ["counted", "parents", "children"] {
        assert!(told.iter().any(|told| told == table), "{told:?}");
    }
}

#[test]
fn copies_that_race_for_the_same_numbers_lose_none_and_give_none_twice() {
    let Some(bench) = Bench::new(1) else { return };
    let nodes = [bench.node(), bench.node(), bench.node()];
    let next = |t: &Transaction<'_>| {
        t.query_row(
            "INSERT INTO parents (name, note) VALUES ('f', 1) ON CONFLICT DO UPDATE SET note = note + 1 RETURNING note",
            [],
            |row| row.get::<_, i64>(0),
        )
    };
    let each = 40;
    let mut numbers: Vec<i64> = std::thread::scope(|scope| {
        let threads: Vec<_> = nodes
            .iter()
            .map(|node| {
                scope
                    .spawn(move || (0..each).map(|_| node.database.change(next).unwrap()).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=3 * each).collect::<Vec<i64>>());
    nodes.iter().for_each(|node| bench.compare(&node.database));
}

#[test]
fn what_fails_or_changes_nothing_is_decided_on_what_is_true_now() {
    let Some(bench) = Bench::new(1) else { return };
    let (a, b) = (bench.node(), bench.node());
    insert(&b.database, "other").unwrap();
    // It may not have come here yet, and is found all the same.
    let deleted = a.database.change(|t| t.execute("DELETE FROM counted WHERE word = 'other'", [])).unwrap();
    assert_eq!(deleted, 1);
    insert(&b.database, "taken").unwrap();
    let taken = insert(&a.database, "taken").unwrap_err();
    assert!(taken.to_string().contains("UNIQUE"), "{taken}");
    assert!(taken.unavailable().is_none());
    let found = a.database.change(|t| t.query_row("SELECT id FROM counted", [], |row| row.get::<_, i64>(0)));
    assert_eq!(found.unwrap(), 2, "a number is never given twice");
    // A closure that fails leaves nothing.
    let failed = a.database.change(|t| {
        t.execute("INSERT INTO counted (word) VALUES ('x')", [])?;
        Err::<(), _>(rusqlite::Error::InvalidQuery)
    });
    assert!(failed.is_err());
    insert(&a.database, "y").unwrap();
    assert_eq!(words(&a.database), ["taken", "y"]);
    bench.compare(&b.database);
}

#[test]
fn nodes_that_start_at_once_make_the_tables_once() {
    let Some(bench) = Bench::new(1) else { return };
    let nodes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| bench.node())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (index, node) in nodes.iter().enumerate() {
        insert(&node.database, &index.to_string()).unwrap();
    }
    nodes.iter().for_each(|node| bench.compare(&node.database));
}

#[test]
fn a_newer_layout_is_taken_by_all_who_know_it_and_stops_the_others() {
    let Some(bench) = Bench::new(1) else { return };
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let old = bench.open(dirs[0].path(), OLD).unwrap();
    insert(&old, "old").unwrap();
    // Two of the new version start at once.
    let new: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| bench.node())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for node in &new {
        insert(&node.database, &format!("new {}", node.dir.path().display())).unwrap();
        bench.compare(&node.database);
    }
    let refused = insert(&old, "late").unwrap_err();
    assert!(
        refused.to_string().contains("database.platform") && refused.to_string().contains("update"),
        "{refused}"
    );
    assert!(refused.unavailable().is_some());
    assert_eq!(words(&old), ["old"], "it goes on reading what it has");
    let none = bench.open(dirs[1].path(), OLD).err().unwrap();
    assert!(none.to_string().contains("newer version"), "{none}");
    // The same home with the new version goes on.
    drop(old);
    let updated = bench.open(dirs[0].path(), NEW).unwrap();
    bench.compare(&updated);
    assert_eq!(words(&updated).len(), 3);
}

#[test]
fn the_log_stays_short() {
    let Some(bench) = Bench::new(1) else { return };
    let a = bench.node();
    let kept = crate::limits::PLATFORM_LOG_ENTRIES;
    // As if there had been many.
    bench.meddle(&format!(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {}) INSERT INTO orama_log \
         SELECT 'test', 1 + x, 'made ' || x, 'n', 0, 'orama1 2' || char(10) FROM n",
        kept + 50
    ));
    eventually("it has applied them", || generation(&a.database) == kept + 51);
    for n in 0..64 {
        insert(&a.database, &n.to_string()).unwrap();
    }
    let client = bench.shared(&bench.rqlite.urls()).client;
    let count = [Statement::new("SELECT count(*) FROM orama_log", [])];
    let deadline = Instant::now() + Duration::from_secs(10);
    let rows = bench.runtime.block_on(client.query(&count, &Options::default(), deadline)).unwrap();
    let crate::rqlite::Value::Integer(count) = rows[0].values[0][0] else { panic!("{rows:?}") };
    assert!(count >= kept && count < kept + 64, "{count}");
    bench.compare(&a.database);
}

#[test]
fn what_is_too_large_is_refused_and_what_is_large_is_not() {
    let Some(bench) = Bench::new(1) else { return };
    let (a, b) = (bench.node(), bench.node());
    let put = |bytes: usize| {
        a.database
            .change(|t| t.execute("INSERT INTO counted (value) VALUES (?1)", params!["x".repeat(bytes)]))
    };
    put(8 << 20).unwrap();
    let refused = put(PLATFORM_COMMIT_MAX_BYTES).unwrap_err();
    assert!(refused.to_string().contains("bytes"), "{refused}");
    put(1).unwrap();
    bench.compare(&b.database);
}
