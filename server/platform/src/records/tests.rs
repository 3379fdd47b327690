//! What tenants read back, what a full queue does, and what retention keeps.

use super::*;
use jiff::Timestamp;
use orama_runtime::invocation::Level;
use orama_runtime::phases::{HostCalls, Kind};
use std::time::{Duration, Instant};

mod statistics;

pub(super) fn record(name: &str, n: i64) -> Record {
    let function = Arc::new(Function {
        namespace: Namespace::new("a").unwrap(),
        name: FunctionName::new(name).unwrap(),
    });
    Record {
        request_id: format!("r-{n}").as_str().into(),
        function: Arc::clone(&function),
        version: 1,
        trigger_type: "http",
        attempt: 1,
        status: Status::Success,
        duration_us: 1_500,
        input_size: 2,
        output_size: 3,
        error: None,
        started_at_ms: Timestamp::now().as_millisecond() - 100_000 + n,
        messages: Vec::new(),
        ..Extras::default().into_record(function)
    }
}

fn phases() -> Phases {
    let mut phases = Phases { wait_us: 7, start_us: 100, ..Phases::default() };
    phases.calls[Kind::Cache as usize] = HostCalls { count: 2, waited_us: 300 };
    phases.calls[Kind::Sending as usize] = HostCalls { count: 1, waited_us: 0 };
    phases
}

fn all() -> Filter {
    Filter { limit: 100_000, ..Filter::default() }
}

fn ids(records: &Records, name: &str, filter: &Filter) -> Vec<String> {
    let found =
        records.query(&Namespace::new("a").unwrap(), &FunctionName::new(name).unwrap(), filter).unwrap();
    found.into_iter().map(|r| r.request_id.as_str().to_owned()).collect()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "{what} did not happen within 20 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_record_is_read_back_as_it_was_submitted() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path()).unwrap();
    let message = |level, text: &str| LogMessage { level, message: text.into(), timestamp_ms: 42 };
    let record = Record {
        status: Status::Timeout,
        error: Some("too \"slow\"\n".into()),
        messages: vec![message(Level::Info, "ä\u{0}b"), message(Level::Error, "")],
        error_code: "TIMEOUT",
        http_status: 503,
        phases: phases(),
        memory_bytes: 65536,
        caller: Some("key-1".into()),
        client: Some("2001:db8::1".parse().unwrap()),
        trace_id: u128::MAX - 7,
        client_request_id: Some("mine".into()),
        ..record("f", 1)
    };
    records.submit(vec![record.clone()]);
    records.flush();
    let query =
        |filter: &Filter| records.query(&record.function.namespace, &record.function.name, filter).unwrap();
    assert_eq!(
        query(&Filter { is_brief: true, ..all() }),
        [Record { messages: Vec::new(), ..record.clone() }]
    );
    assert_eq!(query(&all()), std::slice::from_ref(&record));
    assert_eq!((records.written(), records.dropped()), (1, 0));
}

#[test]
fn a_flush_waits_for_everything_submitted_before() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let records = &records;
            scope.spawn(move || {
                let name = format!("f{thread}");
                for n in 0..20 {
                    records.submit((0..5).map(|i| record(&name, n * 5 + i)).collect());
                    records.flush();
                    assert_eq!(ids(records, &name, &all()).len() as i64, (n + 1) * 5);
                }
            });
        }
    });
}

#[test]
fn the_newest_come_first_whatever_order_they_were_written_in() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path()).unwrap();
    records.submit([3, 1, 2].map(|n| record("f", n)).into());
    records.submit(vec![record("g", 9)]);
    records.flush();
    assert_eq!(ids(&records, "f", &all()), ["r-3", "r-2", "r-1"]);
    assert_eq!(ids(&records, "f", &Filter { limit: 2, ..Filter::default() }), ["r-3", "r-2"]);
    let other = Namespace::new("b").unwrap();
    assert!(records.query(&other, &FunctionName::new("f").unwrap(), &all()).unwrap().is_empty());
}

#[test]
fn filters_narrow_and_combine() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path()).unwrap();
    let failed = Record { status: Status::Error, version: 2, ..record("f", 2) };
    let since_ms = Some(failed.started_at_ms);
    records.submit(vec![record("f", 1), failed, Record { version: 2, ..record("f", 50_000) }]);
    records.flush();
    assert_eq!(ids(&records, "f", &Filter { since_ms, ..all() }), ["r-50000", "r-2"]);
    assert_eq!(ids(&records, "f", &Filter { status: Some(Status::Error), ..all() }), ["r-2"]);
    assert_eq!(ids(&records, "f", &Filter { request_id: Some("r-1".into()), ..all() }), ["r-1"]);
    assert_eq!(ids(&records, "f", &Filter { version: Some(2), ..all() }), ["r-50000", "r-2"]);
    let none = Filter { status: Some(Status::Error), version: Some(1), ..all() };
    assert!(ids(&records, "f", &none).is_empty());
}

#[test]
fn what_the_queue_cannot_hold_is_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path()).unwrap();
    let text = "x".repeat(RECORDS_QUEUE_MAX_BYTES);
    let message = LogMessage { level: Level::Info, message: text, timestamp_ms: 0 };
    records.submit(vec![Record { messages: vec![message], ..record("f", 1) }, record("f", 2)]);
    assert_eq!(records.dropped(), 2);
    records.submit(vec![record("f", 3)]);
    records.flush();
    assert_eq!(ids(&records, "f", &all()), ["r-3"], "the queue takes more once there is room");
}

#[test]
fn the_last_one_to_go_writes_what_is_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path()).unwrap();
    for n in 0..50 {
        records.clone().submit(vec![record("f", n)]);
    }
    drop(records);
    let again = Records::open(dir.path()).unwrap();
    assert_eq!(ids(&again, "f", &all()).len(), 50);
}

#[test]
fn a_function_keeps_its_newest_records_and_others_keep_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let retention = Retention { per_function: 100, ..Retention::default() };
    let records = Records::open_with(dir.path(), retention).unwrap();
    records.submit(vec![record("quiet", 1)]);
    for batch in 0..40 {
        records.submit((0..50).map(|i| record("busy", batch * 50 + i)).collect());
    }
    records.flush();
    eventually("trimming", || ids(&records, "busy", &all()).len() <= 110);
    let left = ids(&records, "busy", &all());
    assert!(left.len() >= 100, "{}", left.len());
    assert_eq!(left[0], "r-1999");
    assert_eq!(left[99], "r-1900", "what is left is the newest, without gaps");
    assert_eq!(ids(&records, "quiet", &all()), ["r-1"]);
}

#[test]
fn records_over_the_age_are_deleted_also_those_from_before_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let old = |n| Record { started_at_ms: 1_000 + n, ..record("f", n) };
    let forever = Retention { age: Duration::MAX, ..Retention::default() };
    let records = Records::open_with(dir.path(), forever).unwrap();
    records.submit((0..3_000).map(old).collect());
    records.submit(vec![record("f", 9_999)]);
    records.flush();
    assert_eq!(ids(&records, "f", &all()).len(), 3_001);
    drop(records);
    let records = Records::open(dir.path()).unwrap();
    eventually("cleaning by age", || ids(&records, "f", &all()) == ["r-9999"]);
}

#[test]
fn a_function_over_its_count_from_before_the_start_is_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path()).unwrap();
    for name in ["f", "g"] {
        records.submit((0..2_000).map(|n| record(name, n)).collect());
    }
    drop(records);
    let retention = Retention { per_function: 10, ..Retention::default() };
    let records = Records::open_with(dir.path(), retention).unwrap();
    for name in ["f", "g"] {
        eventually("trimming", || ids(&records, name, &all()).len() == 10);
        assert_eq!(ids(&records, name, &all())[9], "r-1990");
    }
}

/// A record that logged `bytes` bytes.
fn talkative(name: &str, n: i64, bytes: usize) -> Record {
    let message = LogMessage { level: Level::Info, message: "x".repeat(bytes), timestamp_ms: n };
    Record { messages: vec![message], ..record(name, n) }
}

#[test]
fn a_function_that_logs_much_keeps_fewer_records() {
    let dir = tempfile::tempdir().unwrap();
    let retention = Retention { per_function_bytes: 100_000, ..Retention::default() };
    let records = Records::open_with(dir.path(), retention).unwrap();
    records.submit((0..50).map(|n| record("quiet", n)).collect());
    records.submit((0..200).map(|n| talkative("loud", n, 10_000)).collect());
    records.flush();
    eventually("trimming", || ids(&records, "loud", &all()).len() <= 11);
    let left = ids(&records, "loud", &all());
    assert_eq!(left[..8], (192..200).rev().map(|n| format!("r-{n}")).collect::<Vec<_>>());
    assert_eq!(ids(&records, "quiet", &all()).len(), 50);
}

#[test]
fn over_the_whole_size_the_oldest_of_all_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path()).unwrap();
    records.submit((0..1_000).map(|n| talkative("old", n, 3_000)).collect());
    records.submit((1_000..1_500).map(|n| talkative("new", n, 3_000)).collect());
    drop(records);
    let retention = Retention { total_bytes: 3_000_000, ..Retention::default() };
    let records = Records::open_with(dir.path(), retention).unwrap();
    eventually("cleaning by size", || ids(&records, "old", &all()).len() <= 500);
    assert_eq!(ids(&records, "new", &all()).len(), 500);
    assert_eq!(ids(&records, "old", &all())[0], "r-999", "the newest of the old ones are left");
}

#[test]
fn cleaning_keeps_up_while_records_keep_coming() {
    let dir = tempfile::tempdir().unwrap();
    let retention = Retention { per_function: 10, ..Retention::default() };
    let records = Records::open_with(dir.path(), retention).unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    let mut n = 0;
    while Instant::now() < end {
        records.submit((n..n + 50).map(|n| record("f", n)).collect());
        n += 50;
        std::thread::sleep(Duration::from_millis(1));
    }
    records.flush();
    let left = ids(&records, "f", &all()).len() as i64;
    assert!(left < n / 2, "{left} of {n} are left");
}

#[test]
fn committed_records_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path()).unwrap();
    records.submit((0..100).map(|n| record("f", n)).collect());
    records.flush();
    let killed = tempfile::tempdir().unwrap();
    for file in ["records.db", "records.db-wal"] {
        std::fs::copy(dir.path().join(file), killed.path().join(file)).unwrap();
    }
    let again = Records::open(killed.path()).unwrap();
    assert_eq!(ids(&again, "f", &all()).len(), 100);
}

#[test]
fn the_migrations_are_sound() {
    layout::migrations().validate().unwrap();
}

#[test]
fn records_of_the_former_layout_are_read_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = rusqlite::Connection::open(dir.path().join("records.db")).unwrap();
    layout::migrations().to_version(&mut file, 2).unwrap();
    let message = |text: &str| LogMessage { level: Level::Info, message: text.into(), timestamp_ms: 42 };
    let old: Vec<Record> = (0..300)
        .map(|n| Record { messages: vec![message("hi")], attempt: 2, ..record("f", n) })
        .chain([Record { error: Some("it failed".into()), status: Status::Error, ..record("g", 7) }])
        .collect();
    for r in &old {
        file.execute(
            "INSERT INTO records (request_id, namespace, name, version, trigger_type, status, duration_us, input_size,
                output_size, error, started_at_ms, messages, attempt)
            VALUES (?1, 'a', ?2, 1, 'http', ?3, 1500, 2, 3, ?4, ?5, ?6, ?7)",
            rusqlite::params![
                r.request_id.as_str(),
                r.function.name.as_str(),
                r.status.as_str(),
                r.error,
                r.started_at_ms,
                (!r.messages.is_empty()).then_some(r#"[["info","hi",42]]"#),
                r.attempt,
            ],
        )
        .unwrap();
    }
    drop(file);
    let records = Records::open(dir.path()).unwrap();
    let read = |name: &str| {
        let mut found =
            records.query(&Namespace::new("a").unwrap(), &FunctionName::new(name).unwrap(), &all()).unwrap();
        found.reverse();
        found
    };
    assert_eq!([read("f"), read("g")].concat(), old);
}

#[test]
fn the_newest_are_found_among_commits_that_overlap() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path()).unwrap();
    // Long runs end among short ones that began later.
    let now_ms = Timestamp::now().as_millisecond() - 100_000;
    let at = |n| Record { started_at_ms: now_ms + n, ..record("f", n) };
    for commit in 0..20 {
        records.submit(vec![at(1_000 + commit), at(500 - commit)]);
        records.flush();
    }
    let mut expected: Vec<_> = (0..20).flat_map(|n| [1_000 + n, 500 - n]).collect();
    expected.sort_unstable_by_key(|n| std::cmp::Reverse(*n));
    let newest = |n: usize| expected.iter().take(n).map(|n| format!("r-{n}")).collect::<Vec<_>>();
    for limit in [1, 19, 20, 21, 30, 40] {
        let found = ids(&records, "f", &Filter { limit, ..Filter::default() });
        assert_eq!(found, newest(limit as usize), "{limit}");
    }
}
