use super::*;
use crate::settings::Password;
use orama_test_support::backends::Rqlite;
use orama_test_support::proxy::{Fault, Proxy};
use std::sync::atomic::AtomicU32;

fn client_of(urls: &[String]) -> RqliteClient {
    let urls = urls.iter().map(|url| url.parse().unwrap()).collect();
    RqliteClient::new("test", &RqliteAt { urls, user: None, password: None }).unwrap()
}

fn soon(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

fn one(sql: &str) -> [Statement; 1] {
    [Statement::new(sql, [])]
}

async fn execute(client: &RqliteClient, sql: &str) -> Result<Vec<Reply>, RqliteError> {
    client.execute(&one(sql), &Options::default(), soon(10)).await
}

async fn numbers(client: &RqliteClient, sql: &str, level: Level) -> Result<Vec<i64>, RqliteError> {
    let rows = client.query(&one(sql), &Options { level, ..Options::default() }, soon(20)).await?;
    let number = |row: &Vec<Value>| match row.first() {
        Some(Value::Integer(number)) => *number,
        other => panic!("{other:?}"),
    };
    Ok(rows.iter().flat_map(|rows| &rows.values).map(number).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_come_back_as_they_were() {
    let Ok(rqlite) = Rqlite::single() else { return };
    let client = client_of(&rqlite.urls());
    execute(&client, "CREATE TABLE t (id INTEGER PRIMARY KEY, a ANY, b TEXT, c BLOB, d REAL) STRICT")
        .await
        .unwrap();
    let rows = [
        [
            Value::Integer(i64::MAX),
            Value::Text("a\0b'\"\u{2028}é".into()),
            Value::Blob(vec![0, 39, 255]),
            Value::Real(0.1),
        ],
        [Value::Integer(i64::MIN), Value::Text(String::new()), Value::Blob(vec![]), Value::Real(1e-300)],
        [Value::Integer(9_007_199_254_740_993), Value::Null, Value::Null, Value::Real(-1.5)],
        [const { Value::Null }; 4],
    ];
    for row in &rows {
        let insert = Statement::new("INSERT INTO t (a, b, c, d) VALUES (?, ?, ?, ?)", row.clone());
        client.execute(&[insert], &Options::default(), soon(10)).await.unwrap();
    }
    for level in [Level::None, Level::Weak, Level::Linearizable, Level::Strong] {
        let options = Options { level, ..Options::default() };
        let read =
            client.query(&one("SELECT a, b, c, d FROM t ORDER BY id"), &options, soon(10)).await.unwrap();
        assert_eq!(read[0].columns, ["a", "b", "c", "d"]);
        assert_eq!(read[0].values, rows, "{level:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_say_what_is_certain() {
    let Ok(rqlite) = Rqlite::single() else { return };
    let client = client_of(&rqlite.urls());
    execute(&client, "CREATE TABLE t (x INTEGER PRIMARY KEY)").await.unwrap();
    let statements =
        [Statement::new("INSERT INTO t VALUES (1)", []), Statement::new("INSERT INTO t VALUES (1)", [])];
    let whole = Options { transaction: true, ..Options::default() };
    let failed = client.execute(&statements, &whole, soon(10)).await.unwrap_err();
    assert!(
        matches!(&failed, RqliteError::Sql { index: 1, message } if message.contains("UNIQUE")),
        "{failed:?}"
    );
    assert!(failed.is_certainly_not_applied());
    assert_eq!(numbers(&client, "SELECT x FROM t", Level::Strong).await.unwrap(), [0_i64; 0]);
    // Without a transaction each stands for itself.
    client.execute(&statements, &Options::default(), soon(10)).await.unwrap_err();
    assert_eq!(numbers(&client, "SELECT x FROM t", Level::Weak).await.unwrap(), [1]);
    let mixed = [
        Statement::new("SELECT x FROM t", []),
        Statement::new("DELETE FROM t", []),
        Statement::new("nonsense", []),
    ];
    let replies = client.request(&mixed, &Options::default(), soon(10)).await.unwrap();
    assert!(
        matches!(&replies[0], Ok(Reply::Rows(rows)) if rows.values == [[Value::Integer(1)]]),
        "{replies:?}"
    );
    assert!(matches!(&replies[1], Ok(Reply::Changed(Changed { rows_affected: 1, .. }))), "{replies:?}");
    assert!(replies[2].is_err());
    // What is larger than its bound.
    let small = Options { reply_max_bytes: 100, ..Options::default() };
    let large = client.query(&one("SELECT hex(zeroblob(1000))"), &small, soon(10)).await;
    assert_eq!(large, Err(RqliteError::TooLarge(100)));
    assert_eq!(client.breaker().calls().failed, 0, "rqlite answered each time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_needed_and_never_told() {
    let Ok(rqlite) = Rqlite::with_password("orama", "open sesame") else { return };
    let urls: Vec<url::Url> = rqlite.urls().iter().map(|url| url.parse().unwrap()).collect();
    let with = |password: &str| {
        let password = Some(Password::new(password.to_owned()));
        RqliteClient::new("test", &RqliteAt { urls: urls.clone(), user: Some("orama".into()), password })
            .unwrap()
    };
    assert_eq!(numbers(&with("open sesame"), "SELECT 1", Level::Weak).await.unwrap(), [1]);
    for client in [with("closed sesame"), client_of(&rqlite.urls())] {
        let refused = execute(&client, "CREATE TABLE t (x)").await.unwrap_err();
        assert_eq!(refused, RqliteError::Unauthorized);
        assert!(refused.is_certainly_not_applied() && !refused.to_string().contains("sesame"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_a_file_of_sqlite() {
    let Ok(rqlite) = Rqlite::single() else { return };
    let client = client_of(&rqlite.urls());
    execute(&client, "CREATE TABLE t (x)").await.unwrap();
    execute(&client, "INSERT INTO t VALUES (7)").await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut bytes = Vec::new();
    let sink = |piece: Option<&[u8]>| {
        match piece {
            Some(piece) => bytes.extend_from_slice(piece),
            None => bytes.clear(),
        }
        Ok(())
    };
    client.backup(sink, soon(10)).await.unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let copy = rusqlite::Connection::open(file.path()).unwrap();
    assert_eq!(copy.query_row("SELECT x FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_on_the_way_are_told_apart() {
    let Ok(rqlite) = Rqlite::single() else { return };
    let direct = client_of(&rqlite.urls());
    execute(&direct, "CREATE TABLE t (x INTEGER)").await.unwrap();
    let proxy = Proxy::to(rqlite.addresses()[0]);
    let short = || Instant::now() + Duration::from_millis(700);
    let mut expected = 0;
    for (fault, is_applied) in
        [(Fault::Silent, false), (Fault::Deaf, true), (Fault::Garbage, true), (Fault::Closed, false)]
    {
        // A client of its own, whose circuit is closed and which has an open connection.
        let client = client_of(&[format!("http://{}", proxy.address())]);
        proxy.set(Fault::None);
        assert_eq!(numbers(&client, "SELECT 1", Level::Weak).await.unwrap(), [1]);
        proxy.set(fault);
        let begun = Instant::now();
        let error =
            client.execute(&one("INSERT INTO t VALUES (1)"), &Options::default(), short()).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(5), "{fault:?}");
        assert!(is_applied <= !error.is_certainly_not_applied(), "{fault:?}: {error:?}");
        expected += i64::from(is_applied);
        let read = client.query(&one("SELECT 1"), &Options::default(), short()).await.unwrap_err();
        assert!(read.is_about_rqlite(), "{fault:?}: {read:?}");
        proxy.set(Fault::Slow(Duration::from_millis(20)));
        assert_eq!(numbers(&client, "SELECT 1", Level::Weak).await.unwrap(), [1], "{fault:?}");
    }
    assert_eq!(numbers(&direct, "SELECT count(*) FROM t", Level::Strong).await.unwrap(), [expected]);
    // Nobody listens.
    let nobody = client_of(&["http://127.0.0.1:1".to_owned()]);
    let mut refused = false;
    for _ in 0..100 {
        match execute(&nobody, "x").await.unwrap_err() {
            RqliteError::Unreachable(words) => assert!(words.to_string().contains("127.0.0.1:1"), "{words}"),
            RqliteError::Refused(_) => refused = true,
            other => panic!("{other:?}"),
        }
    }
    assert!(refused, "the circuit never opened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_address_answers_where_one_is_dead_or_says_nothing() {
    let Ok(rqlite) = Rqlite::single() else { return };
    let silent = Proxy::to(rqlite.addresses()[0]);
    silent.set(Fault::Silent);
    for bad in ["http://127.0.0.1:1".to_owned(), format!("http://{}", silent.address())] {
        let client = client_of(&[bad.clone(), rqlite.urls()[0].clone()]);
        let read = client.query(&one("SELECT 1"), &Options::default(), soon(2)).await;
        assert!(read.is_ok(), "{bad}: {read:?}");
        // From now on it is asked first.
        let begun = silent.connections();
        for _ in 0..10 {
            execute(&client, "CREATE TABLE IF NOT EXISTS t (x)").await.unwrap();
        }
        assert_eq!(silent.connections(), begun, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_after_the_leader_was_killed_and_none_that_succeeded_is_lost() {
    let Ok(rqlite) = Rqlite::cluster(3) else { return };
    let client = client_of(&rqlite.urls());
    execute(&client, "CREATE TABLE t (x INTEGER PRIMARY KEY)").await.unwrap();
    let written = AtomicU32::new(0);
    let (mut stored, mut not_stored) = (Vec::new(), Vec::new());
    for round in 0..2 {
        let leader = rqlite.leader();
        let until = soon(4);
        let mut killed = false;
        while Instant::now() < until {
            let x = i64::from(written.fetch_add(1, Ordering::Relaxed));
            let insert = Statement::new("INSERT INTO t VALUES (?)", [Value::Integer(x)]);
            match client.execute(&[insert], &Options::default(), soon(2)).await {
                Ok(_) => stored.push(x),
                Err(error) if error.is_certainly_not_applied() => {
                    not_stored.push(x);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(_) => {}
            }
            if !killed && until.saturating_duration_since(Instant::now()) < Duration::from_millis(3500) {
                rqlite.node(leader).kill();
                killed = true;
            }
        }
        rqlite.node(leader).start();
        let last = stored.last().copied().unwrap();
        assert!(
            killed && last + 20 > i64::from(written.load(Ordering::Relaxed)),
            "round {round}: it did not heal"
        );
    }
    let found = numbers(&client, "SELECT x FROM t ORDER BY x", Level::Strong).await.unwrap();
    let lost: Vec<_> = stored.iter().filter(|x| found.binary_search(x).is_err()).collect();
    let wrong: Vec<_> = not_stored.iter().filter(|x| found.binary_search(x).is_ok()).collect();
    println!(
        "{} stored, {} refused, {} unknown",
        stored.len(),
        not_stored.len(),
        written.load(Ordering::Relaxed) as usize - stored.len() - not_stored.len()
    );
    assert_eq!((lost.len(), wrong.len()), (0, 0), "lost {lost:?}, applied although refused {wrong:?}");
}
