use super::import::UNFINISHED_FILE;
use super::platform::Tables;
use super::*;
use crate::registry::Registry;
use crate::secrets::MasterKeys;
use crate::settings::Places;
use orama_runtime::names::Namespace;
use orama_store::blob::local::LocalBlobs;
use orama_store::blob::{Blobs, cid};
use orama_store::settings::{Backends, IpfsAt, NamespaceDatabase, RqliteAt};
use orama_store::sqlite::{Database, Durability, SqliteError};
use orama_test_support::backends::{Kubo, Rqlite};
use rusqlite::Connection;
use rusqlite::types::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const KEY: &str = "1111111111111111111111111111111111111111111111111111111111111111";

/// SQL of a tenant with everything that a database can hold.
const TENANT: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v, up TEXT AS (upper(v)) STORED, UNIQUE (v));
    INSERT INTO t (id, v) VALUES (1, NULL), (2, 9223372036854775807), (3, 0.1), (4, 1.0), (5, 'it''s'), (6, x'00ff'),
        (7, CAST(x'610062' AS TEXT)), (8, 9e999), (90, 'gone');
    DELETE FROM t WHERE id = 90;
    CREATE TABLE plain (x, y DATETIME DEFAULT CURRENT_TIMESTAMP);
    INSERT INTO plain (rowid, x) VALUES (5, 'five'), (-3, 'minus three');
    CREATE TABLE keyed (k TEXT PRIMARY KEY, r INTEGER REFERENCES t (id) ON DELETE RESTRICT) WITHOUT ROWID, STRICT;
    INSERT INTO keyed VALUES ('k', 5);
    CREATE INDEX i ON t (lower(v)) WHERE v IS NOT NULL;
    CREATE VIEW seen AS SELECT v FROM t;
    CREATE TRIGGER g AFTER INSERT ON plain BEGIN INSERT INTO words VALUES (new.x); END;
    CREATE VIRTUAL TABLE words USING fts5 (text);
    INSERT INTO words VALUES ('the quick brown fox');
    CREATE VIRTUAL TABLE places USING rtree (id, x0, x1);
    INSERT INTO places VALUES (1, 0.0, 2.0);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
    INSERT INTO plain (x) SELECT hex(randomblob(40)) FROM n;
    ANALYZE;";

/// What is compared of it, also row ids and what the next id will be.
const LOOKS: [&str; 9] = [
    "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_autoindex%' ORDER BY type, name",
    "SELECT id, typeof(v), quote(v), hex(v), hex(up) FROM t",
    "SELECT rowid, * FROM plain",
    "SELECT * FROM keyed",
    "SELECT name, seq FROM sqlite_sequence",
    "SELECT rowid, text FROM words WHERE words MATCH 'quick'",
    "SELECT * FROM places",
    "SELECT * FROM seen",
    "SELECT * FROM sqlite_stat1",
];

fn places(home: &Path) -> Places {
    Places {
        home: home.to_owned(),
        backends: Backends::default(),
        secrets_keys: None,
        secrets_key_file: None,
    }
}

fn at(rqlite: &Rqlite) -> RqliteAt {
    let urls = rqlite.urls().iter().map(|url| url.parse().unwrap()).collect();
    RqliteAt { urls, user: None, password: None }
}

fn rows(path: &Path, sql: &str) -> Vec<Vec<Value>> {
    let connection = snapshot::open(path).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

/// Fills a home with rows in every table, and blobs.
fn fill(home: &Path) {
    let data = home.join("data");
    let registry = Registry::open(&data).unwrap();
    drop(registry);
    let modules = LocalBlobs::open(&data.join(MODULES)).unwrap();
    let objects = LocalBlobs::open(&data.join(OBJECTS)).unwrap();
    let wasm = bytes::Bytes::from_static(b"\0asm\x01\0\0\0");
    let object = bytes::Bytes::from(vec![7; 600_000]);
    modules.put(&wasm).unwrap();
    objects.put(&object).unwrap();
    let connection = Connection::open(data.join(REGISTRY)).unwrap();
    connection
        .execute_batch(&format!(
            "INSERT INTO namespaces VALUES ('a', 1, NULL), ('b', 2, NULL), ('going', 3, 4);
             INSERT INTO api_keys VALUES ('k1', x'00ff01', 'a', 'operator', 5, NULL, NULL, NULL),
                ('k2', x'02', 'b', 'invoke', 6, 'ci', 99, '[\"f\"]');
             INSERT INTO key_uses VALUES ('k2', 7);
             INSERT INTO functions VALUES ('a', 'f', 9, 7, 1), ('a', 'gone', 3, 8, 0);
             INSERT INTO aliases VALUES ('a', 'f', 'live', 2, 15);
             INSERT INTO traffic VALUES ('a', 'f', 2, 90, 'header:x-user'), ('a', 'f', 9, 10, 'header:x-user');
             INSERT INTO function_versions (id, namespace, name, version, wasm_hash, wasm_cid, memory_limit_mb, timeout_seconds,
                is_public, retry_count, retry_delay_seconds, env, deployed_at_ms, start)
                VALUES ('v1', 'a', 'f', 2, x'aa', '{0}', 64, 30, 0, 0, 5, '{{}}', 10, 'auto'),
                    ('v2', 'a', 'f', 9, x'aa', '{0}', 64, 30, 1, 3, 5, '{{\"K\":\"it''s\"}}', 11, 'auto');
             INSERT INTO triggers VALUES ('t1', 'a', 'f', 'topic', 12, NULL, NULL, 0, 0, 1, 12),
                ('t2', 'a', 'f', '_orama/cron:UTC:@daily', 13, '@daily', 'UTC', 0, 1, 0, 14);
             INSERT INTO stored_objects VALUES ('b', '{1}', 600000, 13);",
            cid::of(&wasm),
            cid::of(&object)
        ))
        .unwrap();
    let secret = "INSERT INTO secrets VALUES ('a', ?1, 3, ?2, x'000000000000000000000001', x'00ff', 14)";
    let id = MasterKeys::parse([KEY]).unwrap().current().id().to_owned();
    for n in 0..1200 {
        connection.execute(secret, [format!("S{n}"), id.clone()]).unwrap();
    }
    fs::write(data.join(SECRETS_KEY), format!("{KEY}\n")).unwrap();
    drop(Database::open(&data, EVENTS, Durability::Power, &crate::events::schema::migrations()).unwrap());
    Connection::open(data.join(EVENTS))
        .unwrap()
        .execute_batch(
            "INSERT INTO messages VALUES (5, 'm5', 'a', 'topic', '{\"x\":1}', 1, 20, 0, NULL), (6, 'm6', 'a', 'topic', '[]', 2, 21, 2, NULL);
             INSERT INTO messages VALUES (70, 'm70', 'a', 'topic', '1', 1, 22, 0, NULL);
             DELETE FROM messages WHERE id = 70;
             INSERT INTO queues VALUES (3, 't1', 'a', 'f', 'a node', 99999999999999);
             INSERT INTO jobs VALUES (8, 3, 5, 2, 30), (90, 3, 5, 0, 0);
             DELETE FROM jobs WHERE id = 90;
             INSERT INTO later VALUES (9, 'm9', 'a', 'topic', '1', 1, 23, 99999999999999, NULL),
                (50, 'm50', 'a', 'topic', '1', 1, 23, 99999999999999, NULL);
             DELETE FROM later WHERE id = 50;
             INSERT INTO schedules VALUES ('t2', 'a', 'f', 14, 99999999999999, 15, 'success', 2);
             INSERT INTO outboxes VALUES ('a');
             INSERT INTO dead_letters VALUES (4, 'd4', 'a', 'f', 't1', 6, 2, 3, 'it''s broken', 'r1', 31);",
        )
        .unwrap();
    drop(crate::records::Records::open(&data).unwrap());
    Connection::open(data.join(RECORDS))
        .unwrap()
        .execute("INSERT INTO blocks VALUES (1, 'a', 'f', 40, 1, 2, x'5b5d')", [])
        .unwrap();
    fs::create_dir_all(data.join(DATABASES)).unwrap();
    for name in ["a", "b"] {
        let tenant = Connection::open(data.join(DATABASES).join(format!("{name}.db"))).unwrap();
        tenant.pragma_update(None, "journal_mode", "WAL").unwrap();
        tenant.execute_batch(TENANT).unwrap();
        // A node that runs has it open.
        std::mem::forget(tenant);
    }
}

/// Unpacks two archives and compares all they hold, but for who holds a lease.
#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, _) = archive::unpack(one, a.path()).unwrap();
    let (second, _) = archive::unpack(other, b.path()).unwrap();
    assert_eq!((&first.counts, &first.namespaces), (&second.counts, &second.namespaces));
    assert_eq!((&first.databases, &first.secret_key_ids), (&second.databases, &second.secret_key_ids));
    for (file, tables) in platform::files() {
        for table in tables {
            let sql = match *table {
                "queues" => "SELECT id, trigger_id, namespace, function FROM queues ORDER BY id".to_owned(),
                "outboxes" => "SELECT * FROM outboxes ORDER BY 1".to_owned(),
                table => format!("SELECT * FROM {table} ORDER BY 1, 2"),
            };
            assert_eq!(rows(&a.path().join(file), &sql), rows(&b.path().join(file), &sql), "{table}");
        }
    }
    let blocks = "SELECT * FROM blocks";
    assert_eq!(rows(&a.path().join(RECORDS), blocks), rows(&b.path().join(RECORDS), blocks));
    let sequences = "SELECT name, seq FROM sqlite_sequence WHERE seq > 0 ORDER BY name";
    assert_eq!(rows(&a.path().join(EVENTS), sequences), rows(&b.path().join(EVENTS), sequences));
    for name in &first.databases {
        let of = |dir: &tempfile::TempDir| dir.path().join(DATABASES).join(format!("{name}.db"));
        for sql in LOOKS {
            let found = rows(&of(&a), sql);
            assert!(!found.is_empty(), "{sql}");
            assert!(found == rows(&of(&b), sql), "{name}: {sql}");
        }
    }
    for folder in [MODULES, OBJECTS] {
        let of = |manifest: &Manifest| -> Vec<_> {
            let parts = manifest.parts.iter().filter(|(name, _)| name.starts_with(folder));
            parts.map(|(name, part)| (name.clone(), part.clone())).collect()
        };
        assert_eq!(of(&first), of(&second));
        assert!(!of(&first).is_empty());
    }
}

#[test]
fn a_home_goes_to_a_cluster_and_back_with_nothing_lost() {
    let (Ok(main), Ok(a), Ok(b)) = (Rqlite::cluster(3), Rqlite::single(), Rqlite::single()) else { return };
    let Ok(kubo) = Kubo::single() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fill(&path("first"));
    let first = places(&path("first"));
    let manifest = export(&first, &path("first.tar"), true).unwrap();
    assert_eq!(path("first.tar").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!((manifest.namespaces.len(), manifest.counts["secrets"]), (3, 1200));
    let again = export(&first, &path("first.tar"), true).unwrap_err().to_string();
    assert!(again.contains("already exists"), "{again}");

    let name = |name| Namespace::new(name).unwrap();
    let mut cluster = places(&path("node"));
    cluster.backends = Backends {
        platform: Some(at(&main)),
        namespaces: [(name("a"), NamespaceDatabase::Rqlite(at(&a)))].into(),
        blobs: Some(IpfsAt { api_url: kubo.urls()[0].parse().unwrap() }),
        ..Backends::default()
    };
    let lost = import(&cluster, &path("first.tar")).unwrap_err().to_string();
    assert!(lost.contains("database.namespaces.b"), "{lost}");
    assert!(!path("node").join("data").exists(), "nothing was written");
    cluster.backends.namespaces.insert(name("b"), NamespaceDatabase::Rqlite(at(&b)));
    import(&cluster, &path("first.tar")).unwrap();
    export(&cluster, &path("cluster.tar"), true).unwrap();
    assert_same(&path("first.tar"), &path("cluster.tar"));

    // Neither the cluster nor the home takes another one.
    let mut other = places(&path("other"));
    other.backends = cluster.backends.clone();
    let full = import(&other, &path("first.tar")).unwrap_err().to_string();
    assert!(full.contains("database.platform is not empty") && full.contains("going"), "{full}");
    other.backends.platform = None;
    let full = import(&other, &path("first.tar")).unwrap_err().to_string();
    assert!(full.contains("database.namespaces.a is not empty"), "{full}");
    let full = import(&cluster, &path("first.tar")).unwrap_err().to_string();
    assert!(full.contains("is not empty"), "{full}");

    let second = places(&path("second"));
    import(&second, &path("cluster.tar")).unwrap();
    assert_eq!(
        fs::read(path("second").join("data").join(SECRETS_KEY)).unwrap(),
        format!("{KEY}\n").as_bytes()
    );
    export(&second, &path("second.tar"), false).unwrap();
    assert_same(&path("first.tar"), &path("second.tar"));
    let without = import(&places(&path("third")), &path("second.tar")).unwrap_err().to_string();
    assert!(without.contains("secrets"), "{without}");
}

#[test]
fn an_interrupted_import_goes_on_and_another_does_not_begin() {
    let (Ok(main), Ok(a), Ok(b)) = (Rqlite::single(), Rqlite::single(), Rqlite::single()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fill(&path("first"));
    let first = places(&path("first"));
    export(&first, &path("first.tar"), true).unwrap();
    let name = |name| Namespace::new(name).unwrap();
    let mut cluster = places(&path("node"));
    cluster.backends = Backends {
        platform: Some(at(&main)),
        namespaces: [
            (name("a"), NamespaceDatabase::Rqlite(at(&a))),
            (name("b"), NamespaceDatabase::Rqlite(at(&b))),
        ]
        .into(),
        ..Backends::default()
    };
    import(&cluster, &path("first.tar")).unwrap();
    // As a crash leaves it: the note is there, and so is a part of the rows.
    let (parts, id) = (path("parts"), || {
        fs::create_dir(path("parts")).unwrap();
        archive::unpack(&path("first.tar"), &path("parts")).unwrap().1
    });
    let note = path("node").join(UNFINISHED_FILE);
    fs::write(&note, format!("{{\"archive\":\"{}\"}}", id())).unwrap();
    let runtime = platform::runtime().unwrap();
    let registry = platform::open_target(&cluster, REGISTRY, runtime.handle()).unwrap();
    registry
        .write(|t| t.execute("DELETE FROM secrets WHERE name > 'S5'", []).map_err(SqliteError::from))
        .unwrap();
    drop((registry, parts));
    export(&first, &path("other.tar"), false).unwrap();
    let other = import(&cluster, &path("other.tar")).unwrap_err().to_string();
    assert!(other.contains("another archive") || other.contains("secrets"), "{other}");
    assert!(is_unfinished(&cluster.home));
    import(&cluster, &path("first.tar")).unwrap();
    assert!(!is_unfinished(&cluster.home));
    export(&cluster, &path("cluster.tar"), true).unwrap();
    assert_same(&path("first.tar"), &path("cluster.tar"));
}

#[test]
fn an_archive_that_is_not_whole_is_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fill(&path("first"));
    export(&places(&path("first")), &path("good.tar"), true).unwrap();
    let good = fs::read(path("good.tar")).unwrap();
    let target = places(&path("target"));
    let told = |bytes: &[u8]| {
        fs::write(path("bad.tar"), bytes).unwrap();
        let told = import(&target, &path("bad.tar")).unwrap_err().to_string();
        assert!(told.contains("bad.tar"), "{told}");
        assert!(!path("target").join("data").exists() && !path("target").join(UNFINISHED_FILE).exists());
        told
    };
    for cut in [0, 100, 512, 5000, good.len() / 2, good.len() - 4096] {
        let told = told(&good[..cut]);
        assert!(told.contains("truncated") || told.contains("cannot be read"), "{cut}: {told}");
    }
    assert!(
        told(b"no tar file at all, but long enough for a header".repeat(50).as_slice()).contains("archive")
    );
    for place in [600, 60_000, good.len() / 2] {
        let mut damaged = good.clone();
        damaged[place] ^= 1;
        let told = told(&damaged);
        assert!(
            told.contains("damaged") || told.contains("not a part") || told.contains("read"),
            "{place}: {told}"
        );
    }
    let foreign = |name: &str, content: &[u8]| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, name, content).unwrap();
        told(&tar.into_inner().unwrap())
    };
    assert!(foreign("etc/passwd", b"x").contains("not a part"));
    assert!(foreign("databases/no name.db", b"x").contains("not a part"));
    assert!(foreign("manifest.json", b"{\"format\":2}").contains("update"));
    assert!(foreign("manifest.json", b"{}").contains("manifest"));
    import(&target, &path("good.tar")).unwrap();
    export(&target, &path("again.tar"), true).unwrap();
    assert_same(&path("good.tar"), &path("again.tar"));
}

/// A table that is added to the platform must be moved too.
#[test]
fn every_table_of_the_platform_is_moved() {
    let dir = tempfile::tempdir().unwrap();
    for (file, tables) in platform::files() {
        drop(Tables::open_any(dir.path(), file, tables).unwrap());
        let found = rows(
            &dir.path().join(file),
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name",
        );
        let mut known: Vec<_> = tables.iter().map(|name| vec![Value::Text((*name).to_owned())]).collect();
        known.sort_by_key(|row| format!("{row:?}"));
        assert_eq!(found, known, "{file}");
    }
}
