//! Retries, and what is left when they are used up.

use super::*;
use crate::test_database::Change as _;

fn letters(bench: &Bench, name: &str) -> Vec<DeadLetter> {
    bench.events.dead_letters(&namespace("a"), &function(name), 1000).unwrap()
}

/// Fails for what `fails` says.
fn failing(fails: fn(&Triggered) -> bool, retry_count: u32, retry_delay: Duration) -> Behaviour {
    at_once(move |triggered| {
        let error = format!("attempt {} failed", triggered.attempt);
        if fails(triggered) { failed(&error, retry_count, retry_delay) } else { Ran::Succeeded }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_event_is_tried_again_and_holds_back_none_behind_it() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    for n in 0..5 {
        bench.publish(event("t", n)).await;
    }
    bench.start(failing(|t| data(t) == 1 && t.attempt <= 2, 3, Duration::from_millis(300)));
    bench.settled().await;
    let ran: Vec<_> = bench.ran().iter().map(|ran| (data(ran).as_i64().unwrap(), ran.attempt)).collect();
    assert_eq!(ran, [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (1, 2), (1, 3)]);
    assert_eq!(bench.events.counts(), JobCounts { delivered: 5, retried: 2, ..JobCounts::default() });
    assert!(letters(&bench, "f").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_without_a_pause_come_soon() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.start(failing(|t| t.attempt <= 5, 5, Duration::ZERO));
    bench.publish(event("t", 7)).await;
    bench.settled().await;
    assert_eq!(bench.ran().iter().map(|ran| ran.attempt).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(bench.events.counts(), JobCounts { delivered: 1, retried: 5, ..JobCounts::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_for_the_last_time_is_kept_with_its_error() {
    let bench = Bench::new();
    let trigger = bench.trigger("f", "t");
    bench.trigger("g", "t");
    bench.start(failing(|t| t.function.as_str() == "f", 1, Duration::ZERO));
    let first = bench.publish(Event { depth: 3, ..event("t", "{\"n\":  1}") }).await;
    bench.settled().await;
    let second = bench.publish(event("t", 2)).await;
    bench.settled().await;
    let found = letters(&bench, "f");
    assert_eq!(
        found.iter().map(|l| &l.message_id).collect::<Vec<_>>(),
        [&second.message_id, &first.message_id]
    );
    let DeadLetter { trigger_id, topic, data, trigger_depth, attempts, error, request_id, .. } = &found[1];
    assert_eq!((trigger_id, topic.as_str(), data.as_str()), (&trigger, "t", "{\"n\":  1}"));
    assert_eq!(
        (*trigger_depth, *attempts, error.as_str(), request_id.as_str()),
        (3, 2, "attempt 2 failed", "r-1")
    );
    assert!(found[1].published_at_ms <= found[1].failed_at_ms && found[1].failed_at_ms <= now_ms());
    assert!(letters(&bench, "g").is_empty());
    assert_eq!(bench.events.dead_letters(&namespace("a"), &function("f"), 1).unwrap().len(), 1);
    assert!(bench.events.dead_letters(&namespace("b"), &function("f"), 9).unwrap().is_empty());
    assert_eq!(bench.rows("messages"), 2, "a message stays as long as its dead letter");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_a_new_job_with_all_its_attempts() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.start(failing(|t| t.attempt == 1, 0, Duration::ZERO));
    for n in 0..3 {
        bench.publish(event("t", n)).await;
    }
    bench.settled().await;
    let dead = letters(&bench, "f");
    assert_eq!(dead.len(), 3);
    let bench = bench.reopen();
    assert_eq!(letters(&bench, "f"), dead, "they survive a restart");
    bench.start(succeed());
    let (a, f) = (namespace("a"), function("f"));
    assert_eq!(bench.events.replay(&a, &f, Some(&dead[1].id)).unwrap(), 1);
    bench.settled().await;
    assert_eq!(bench.ran().iter().map(|ran| (data(ran), ran.attempt)).collect::<Vec<_>>(), [(1.into(), 1)]);
    assert_eq!(letters(&bench, "f"), [dead[0].clone(), dead[2].clone()]);
    for (ns, name) in [("b", "f"), ("a", "g")] {
        let replayed = bench.events.replay(&namespace(ns), &function(name), Some(&dead[0].id)).unwrap();
        assert_eq!(replayed, 0, "{ns} {name}");
    }
    assert_eq!(bench.events.replay(&a, &f, None).unwrap(), 2);
    bench.settled().await;
    assert_eq!(bench.given("f"), [1, 0, 2]);
    assert_eq!(bench.events.replay(&a, &f, None).unwrap(), 0);
    assert_eq!((bench.rows("messages"), bench.rows("dead_letters")), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_can_be_deleted() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.trigger("g", "t");
    bench.start(failing(|_| true, 0, Duration::ZERO));
    bench.publish(event("t", 1)).await;
    bench.settled().await;
    let (a, f) = (namespace("a"), function("f"));
    let id = letters(&bench, "f")[0].id.clone();
    assert!(!bench.events.delete_dead_letter(&a, &function("g"), &id).unwrap());
    assert!(!bench.events.delete_dead_letter(&namespace("b"), &f, &id).unwrap());
    assert!(bench.events.delete_dead_letter(&a, &f, &id).unwrap());
    assert!(!bench.events.delete_dead_letter(&a, &f, &id).unwrap());
    assert_eq!((bench.rows("dead_letters"), bench.rows("messages")), (1, 1), "the other function's stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_dead_letters_are_dropped_for_number_and_age() {
    let bench = Bench::new();
    let max = i64::try_from(crate::limits::DEAD_LETTERS_MAX).unwrap();
    let database = Arc::clone(&bench.events.inner.database);
    let base_ms = now_ms();
    let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)";
    database
        .change(|t| {
            let messages = format!("{fill} INSERT INTO messages SELECT i, 'm' || i, 'a', 't', '1', 1, 1, 0, NULL FROM n");
            t.execute(&messages, [max + 5])?;
            let letters = format!(
                "{fill} INSERT INTO dead_letters SELECT i, 'd' || i, 'a', 'f', 'x', i, 1, 1, 'e', 'r', ?2 + i FROM n"
            );
            t.execute(&letters, [max + 5, base_ms])?;
            super::super::dead_letters::trim(t, &namespace("a"))
        })
        .unwrap();
    assert_eq!((bench.rows("dead_letters"), bench.rows("messages")), (max, max));
    let oldest = |column: &str| -> i64 {
        let sql = format!("SELECT min({column}) FROM dead_letters");
        database.read::<_, rusqlite::Error>(|c| c.query_row(&sql, [], |row| row.get(0))).unwrap()
    };
    assert_eq!(oldest("id"), 6);
    // Those of 600 different milliseconds are too old.
    let age_ms = i64::try_from(crate::limits::RECORD_RETENTION.as_millis()).unwrap();
    super::super::dead_letters::drop_old(&database, base_ms + age_ms + 606).unwrap();
    assert_eq!((oldest("failed_at_ms"), bench.rows("messages")), (base_ms + 606, max - 600));
    // By size, when a few are large.
    let half = i64::try_from(crate::limits::DEAD_LETTERS_MAX_BYTES / 2).unwrap();
    database
        .change(|t| {
            t.execute("UPDATE dead_letters SET size_bytes = ?1 WHERE id > ?2", [half, max + 2])?;
            super::super::dead_letters::trim(t, &namespace("a"))
        })
        .unwrap();
    assert_eq!((bench.rows("dead_letters"), oldest("id")), (2, max + 4));
}
