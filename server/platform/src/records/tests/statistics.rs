//! What is counted of functions, and how it is kept.

use super::*;
use crate::limits::{
    STATS_ACTIVE_PER_NAMESPACE, STATS_FUNCTIONS_MAX, STATS_ROWS_PER_NAMESPACE, STATS_TOLD_MAX,
};
use std::collections::HashMap;

fn note(function: &Arc<Function>, what: What, times: u64) -> Note {
    Note { function: Arc::clone(function), version: 1, what, times }
}

#[test]
fn statistics_add_up_what_ran_and_what_did_not() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path()).unwrap();
    let ran = Record { phases: phases(), memory_bytes: 4096, http_status: 502, ..record("f", 1) };
    let retried = Record { attempt: 2, status: Status::Timeout, error_code: "TIMEOUT", ..record("f", 2) };
    let later = Record { version: 2, duration_us: 9_000, ..record("f", 3) };
    records.submit(vec![ran.clone(), retried, later, record("g", 4)]);
    records.note(vec![
        note(&ran.function, What::Refused("RATE_LIMITED"), 3),
        note(&ran.function, What::ColdLoad, 1),
    ]);
    let check = |records: &Records| {
        let (namespace, f) = (Namespace::new("a").unwrap(), FunctionName::new("f").unwrap());
        let stats = records.stats(&namespace, Some(&f), 0).unwrap();
        let versions: Vec<_> = stats.keys().map(|(name, version)| (name.as_str(), *version)).collect();
        assert_eq!(versions, [("f", 1), ("f", 2)]);
        let first = &stats[&(f.clone(), 1)];
        assert_eq!((first.runs(), first.failures(), first.server_errors, first.retries), (2, 1, 1, 1));
        assert_eq!((first.failed["TIMEOUT"], first.refused["RATE_LIMITED"], first.cold_loads), (1, 3, 1));
        assert_eq!((first.memory_max_bytes, first.host_calls[Kind::Cache as usize]), (4096, 2));
        assert_eq!((first.start.sum_us(), first.own.sum_us()), (100, 1_500 + 1_500 - 7 - 100 - 300));
        assert_eq!(first.host[Kind::Cache as usize].count(), 1);
        assert!(stats[&(f, 2)].duration.quantile_us(0.5) >= 9_000);
        assert_eq!(records.stats(&namespace, None, 0).unwrap().len(), 3);
        assert!(records.stats(&Namespace::new("b").unwrap(), None, 0).unwrap().is_empty());
        let in_an_hour = Timestamp::now().as_second() + 3600;
        assert_eq!(records.stats(&namespace, None, in_an_hour).unwrap().len(), 0);
    };
    records.flush();
    records.flush();
    drop(records);
    // A node that stops writes the minute that goes on.
    let records = Records::open(dir.path()).unwrap();
    check(&records);
    records.remove(&Namespace::new("a").unwrap()).unwrap();
    assert!(records.stats(&Namespace::new("a").unwrap(), None, 0).unwrap().is_empty());
}

#[test]
fn minutes_are_packed_into_hours_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path(), FILE, Durability::Process, &layout::migrations()).unwrap();
    let now_s = 1_800_000_000;
    let part = |version| {
        let mut stats = Stats::default();
        stats.add(&record("f", 1));
        tally::Part { function: record("f", 1).function, version, stats }
    };
    for minute in 0..300 {
        let at_s = now_s - minute * 60;
        database.write(|t| minutes::keep(t, at_s, &[part(1), part(2)])).unwrap();
        // What is written twice is added up.
        database.write(|t| minutes::keep(t, at_s, &[part(1)])).unwrap();
    }
    while database.write(|t| minutes::tidy(t, now_s)).unwrap() {}
    let rows: i64 = database
        .read(|c| c.query_row("SELECT count(*) FROM stats", [], |row| row.get(0)).map_err(RecordsError::from))
        .unwrap();
    assert!(rows < 2 * 190, "{rows}");
    let count = |database: &Database| {
        let mut runs = HashMap::<u32, u64>::new();
        let mut add = |_, version, stats: Stats| *runs.entry(version).or_default() += stats.runs();
        let namespace = Namespace::new("a").unwrap();
        database.read(|c| minutes::query(c, &namespace, None, 0, &mut add)).unwrap();
        runs
    };
    assert_eq!(count(&database), HashMap::from([(1, 600), (2, 300)]));
    database.write(|t| minutes::tidy(t, now_s + 40 * 86_400)).unwrap();
    assert!(count(&database).is_empty());
}

#[test]
fn the_most_used_functions_have_totals_of_their_own_and_none_ever_falls() {
    let mut tally = tally::Tally::default();
    let one = |name: &str| vec![record(name, 1)];
    let names: Vec<_> = (0..STATS_FUNCTIONS_MAX).map(|n| format!("f{n}")).collect();
    tally.end_minute(60);
    names.iter().for_each(|name| tally.add(&one(name)));
    (0..5).for_each(|_| tally.add(&one("late")));
    let runs = |tally: &tally::Tally, name: Option<&str>| {
        let totals = tally.totals();
        let of = |total: &&Total| total.function.as_ref().map(|f| f.name.as_str()) == name;
        totals.iter().find(of).map(|total| total.stats.runs())
    };
    assert_eq!((runs(&tally, Some("late")), runs(&tally, None)), (None, Some(5)));
    assert_eq!(tally.end_minute(120).unwrap().1.len(), STATS_FUNCTIONS_MAX + 1);
    assert_eq!(
        (runs(&tally, Some("late")), runs(&tally, None)),
        (Some(0), Some(6)),
        "it took the place of one"
    );
    tally.add(&one("late"));
    assert_eq!(runs(&tally, Some("late")), Some(1));
    assert_eq!(tally.totals().len(), STATS_FUNCTIONS_MAX + 1);
    tally.forget(&Namespace::new("a").unwrap());
    assert_eq!(tally.totals().len(), 1);
    assert_eq!(runs(&tally, None), Some(STATS_FUNCTIONS_MAX as u64 + 6));
}

#[test]
fn no_namespace_takes_the_statistics_of_others() {
    let mut tally = tally::Tally::default();
    tally.end_minute(60);
    for version in 0..STATS_ACTIVE_PER_NAMESPACE as u32 + 5 {
        tally.add(&[Record { version, ..record("f", 1) }]);
    }
    let other = Arc::new(Function {
        namespace: Namespace::new("b").unwrap(),
        ..Function::clone(&record("f", 1).function)
    });
    tally.add(&[Record { function: other, ..record("f", 1) }]);
    let parts = tally.end_minute(120).unwrap().1;
    assert_eq!(parts.len(), STATS_ACTIVE_PER_NAMESPACE + 1);
    // The next minute has room again.
    tally.add(&[record("f", 1)]);
    assert_eq!(tally.end_minute(180).unwrap().1.len(), 1);

    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path(), FILE, Durability::Process, &layout::migrations()).unwrap();
    let now_s = 1_800_000_000;
    let fill = |namespace: &str, rows: i64| {
        database.write(|t| {
            let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
                INSERT INTO stats SELECT ?1, 'f', ?3 - i, 1, 3600, x'7b7d' FROM n";
            t.execute(sql, rusqlite::params![namespace, rows, now_s]).map(drop).map_err(RecordsError::from)
        })
    };
    fill("a", STATS_ROWS_PER_NAMESPACE + 7).unwrap();
    fill("b", 3).unwrap();
    database.write(|t| minutes::tidy(t, now_s)).unwrap();
    let count = |namespace: &str| -> i64 {
        let sql = "SELECT count(*) FROM stats WHERE namespace = ?1";
        database
            .read(|c| c.query_row(sql, [namespace], |row| row.get(0)).map_err(RecordsError::from))
            .unwrap()
    };
    assert_eq!((count("a"), count("b")), (STATS_ROWS_PER_NAMESPACE, 3));
}

#[test]
fn a_look_at_too_many_versions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path()).unwrap();
    let insert = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
        INSERT INTO stats SELECT 'a', iif(i = 1, 'g', 'f'), ?2, i, 3600, x'7b7d' FROM n";
    let at_s = Timestamp::now().as_second();
    let fill = |t: &rusqlite::Transaction<'_>| {
        t.execute(insert, rusqlite::params![STATS_TOLD_MAX as i64 + 1, at_s])
            .map(drop)
            .map_err(RecordsError::from)
    };
    records.inner.database.write(fill).unwrap();
    let look = |name: Option<&str>| {
        let name = name.map(|name| FunctionName::new(name).unwrap());
        records.stats(&Namespace::new("a").unwrap(), name.as_ref(), 0).map(|stats| stats.len())
    };
    assert!(matches!(look(None), Err(RecordsError::TooManyVersions)));
    assert_eq!((look(Some("f")).unwrap(), look(Some("g")).unwrap()), (STATS_TOLD_MAX, 1));
}
