//! What is due by the clock: each slot once, each message at its time, through restarts.

use super::*;
use crate::test_database::Change as _;

fn each(expression: &str) -> Source {
    Source::Schedule { expression: expression.to_owned(), timezone: "UTC".to_owned() }
}

/// The times of the slots for which functions ran, in order.
fn slots(bench: &Bench) -> Vec<String> {
    let slot = |ran: Triggered| {
        assert_eq!(ran.trigger_type, "cron");
        let given: Value = serde_json::from_slice(&ran.event).unwrap();
        assert_eq!(given["trigger"], "cron");
        given["scheduled_at"].as_str().unwrap().to_owned()
    };
    bench.ran().into_iter().map(slot).collect()
}

fn state(bench: &Bench) -> ScheduleState {
    let states = bench.events.schedules(&namespace("a"), &function("f")).unwrap();
    states.into_values().next().unwrap()
}

async fn watched(bench: &Bench) {
    bench.eventually("the clock has seen it", |bench| bench.rows("schedules") == 1).await;
}

/// Sets when the schedule is next due.
fn due_at(bench: &Bench, next_ms: i64) {
    let database = &bench.events.inner.database;
    database.change(|t| t.execute("UPDATE schedules SET next_ms = ?1", [next_ms])).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_runs_once_for_each_slot() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    let trigger = bench.add_trigger("a", "f", each("* * * * * *"));
    bench.start(succeed());
    bench.eventually("it ran three times", |bench| bench.ran().len() >= 3).await;
    let ran = slots(&bench);
    let mut once = ran.clone();
    once.dedup();
    assert_eq!(ran, once);
    let given: Value = serde_json::from_slice(&bench.ran()[0].event).unwrap();
    assert_eq!(given["schedule"], "* * * * * *");
    assert_eq!(given["trigger_id"], trigger.id);
    bench.settled().await;
    let state = state(&bench);
    assert_eq!(state.last_status.as_deref(), Some("success"));
    assert!(state.last_run_ms.is_some() && state.next_ms > trigger.since_ms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_no_node_saw_are_made_up_by_one_run() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.add_trigger("a", "f", each("0 * * * *"));
    bench.start(succeed());
    watched(&bench).await;
    // As if the node had been off for some hours.
    due_at(&bench, now_ms() - 5 * 3_600_000);
    let bench = bench.reopen();
    bench.start(succeed());
    bench.eventually("it ran", |bench| !bench.ran().is_empty()).await;
    bench.settled().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let ran = slots(&bench);
    assert_eq!(ran.len(), 1, "{ran:?}");
    let slot: jiff::Timestamp = ran[0].parse().unwrap();
    let age_ms = now_ms() - slot.as_millisecond();
    assert!((0..=3_600_000).contains(&age_ms), "the last of the missed slots: {}", ran[0]);
    assert!(state(&bench).next_ms > now_ms());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_lasts_longer_than_its_slot_is_not_doubled() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.add_trigger("a", "f", each("* * * * * *"));
    let inside = Arc::new(AtomicU64::new(0));
    bench.start(Arc::new(move |_| {
        let inside = Arc::clone(&inside);
        Box::pin(async move {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
            tokio::time::sleep(Duration::from_millis(2500)).await;
            inside.fetch_sub(1, Ordering::SeqCst);
            Ran::Succeeded
        })
    }));
    bench.eventually("it ran twice", |bench| bench.events.counts().delivered >= 2).await;
    assert!(bench.events.counts().skipped >= 2);
    assert!(state(&bench).skipped >= 2, "{:?}", state(&bench));
    assert_eq!(bench.events.counts().dead, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_that_was_paused_makes_nothing_up_when_it_is_resumed() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    let trigger = bench.add_trigger("a", "f", each("0 * * * *"));
    bench.start(succeed());
    watched(&bench).await;
    let set = |enabled| {
        bench.registry.enable_trigger(&namespace("a"), &function("f"), &trigger.id, enabled).unwrap();
    };
    set(false);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    due_at(&bench, now_ms() - 5 * 3_600_000);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    set(true);
    bench.eventually("its next slot is ahead", |bench| state(bench).next_ms > now_ms()).await;
    assert_eq!(slots(&bench), Vec::<String>::new());
    // It can be fired whenever somebody wants.
    bench.events.fire(namespace("a"), trigger, String::new(), String::new()).await.unwrap();
    bench.eventually("it ran", |bench| bench.ran().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_waits_for_its_time_through_a_restart() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.start(succeed());
    let later = |n: u64, ms| {
        let (events, event) = (&bench.events, event("t", n));
        async move { events.publish_later(&namespace("a"), event, Duration::from_millis(ms)).await.unwrap() }
    };
    later(2, 1500).await;
    later(1, 200).await;
    later(0, 0).await;
    bench.eventually("two of them ran", |bench| bench.ran().len() == 2).await;
    assert_eq!(bench.given("f"), [0, 1]);
    assert_eq!(bench.events.counts().later, 1);
    let bench = bench.reopen();
    assert_eq!(bench.events.counts().later, 1);
    bench.start(succeed());
    bench.eventually("the last one ran", |bench| bench.ran().len() == 1).await;
    bench.settled().await;
    assert_eq!(bench.given("f"), [2]);
    assert_eq!((bench.events.counts().later, bench.rows("later"), bench.rows("messages")), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_forward_makes_messages_due_at_once() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.start(succeed());
    bench.events.publish_later(&namespace("a"), event("t", 1), Duration::from_hours(24)).await.unwrap();
    // A clock that goes forward by two days and a time that goes back by as much are the same.
    let database = &bench.events.inner.database;
    database.change(|t| t.execute("UPDATE later SET due_ms = due_ms - ?1", [2 * 86_400_000_i64])).unwrap();
    bench.eventually("it ran", |bench| bench.ran().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_that_are_due_at_once_run_once_each_and_in_order() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    let database = &bench.events.inner.database;
    let now_ms = now_ms();
    database
        .change(|t| {
            for n in 0..3_000_i64 {
                t.execute(
                    "INSERT INTO later (message_id, namespace, topic, data, depth, published_at_ms, due_ms)
                     VALUES ('m', 'a', 't', ?1, 1, 0, ?2)",
                    rusqlite::params![n.to_string(), now_ms - 5_000 + n],
                )?;
            }
            Ok::<_, rusqlite::Error>(())
        })
        .unwrap();
    let bench = bench.reopen();
    assert_eq!(bench.events.counts().later, 3_000);
    bench.start(succeed());
    bench.eventually("all ran", |bench| bench.ran().len() == 3_000).await;
    bench.settled().await;
    assert_eq!(bench.given("f"), (0..3_000).collect::<Vec<_>>());
    assert_eq!(bench.events.counts().later, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_wait_have_a_bound_for_each_namespace() {
    let bench = Bench::new();
    let full = tally::Waiting { jobs: crate::limits::LATER_MAX, bytes: 0 };
    let none = tally::Waiting::default();
    bench.events.inner.tallies.admit(&namespace("a"), none, full, 0).unwrap();
    let later = |ns| bench.events.publish_later(&namespace(ns), event("t", 1), Duration::from_secs(9));
    let error = later("a").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("wait for their time"), "{}", error.message);
    later("b").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_goes_with_its_namespace_and_schedules_with_their_function() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.add_trigger("a", "f", each("0 0 1 1 *"));
    bench.start(succeed());
    watched(&bench).await;
    for ns in ["a", "b"] {
        bench.events.publish_later(&namespace(ns), event("t", 1), Duration::from_hours(1)).await.unwrap();
    }
    bench.registry.delete(&namespace("a"), &function("f"), None).unwrap();
    bench.events.remove_function(&namespace("a"), &function("f")).unwrap();
    assert_eq!((bench.rows("schedules"), bench.rows("later")), (0, 2));
    bench.events.remove(&namespace("a")).unwrap();
    assert_eq!(bench.rows("later"), 1);
    assert_eq!(bench.events.counts().later, 1);
}
