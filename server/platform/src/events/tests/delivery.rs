//! Who gets what, in which order, and beside whom.

use super::*;
use crate::test_database::Change as _;
use std::sync::atomic::AtomicUsize;
use tokio::sync::Semaphore;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_is_given_the_event_as_documented() {
    let bench = Bench::new();
    bench.trigger("f", "calls:invite");
    bench.start(succeed());
    let before_s = now_ms() / 1000;
    let published = bench.publish(event("calls:invite", "{\"b\": 1.50,  \"a\":\"ä\\n\"}")).await;
    assert_eq!(uuid::Uuid::parse_str(&published.message_id).unwrap().get_version_num(), 7);
    bench.settled().await;
    let ran = bench.ran();
    let [one] = ran.as_slice() else { panic!("{ran:?}") };
    let text = std::str::from_utf8(&one.event).unwrap();
    let timestamp = serde_json::from_str::<Value>(text).unwrap()["timestamp"].as_i64().unwrap();
    assert!((before_s..=now_ms() / 1000).contains(&timestamp));
    let expected = format!(
        "{{\"topic\":\"calls:invite\",\"data\":{{\"b\": 1.50,  \"a\":\"ä\\n\"}},\"namespace\":\"a\",\"trigger_depth\":1,\"timestamp\":{timestamp}}}"
    );
    assert_eq!(text, expected);
    assert_eq!((one.depth, one.attempt), (1, 1));
    assert_eq!((bench.rows("messages"), bench.rows("jobs")), (0, 0), "nothing is left of it");
    assert_eq!(bench.events.counts(), JobCounts { delivered: 1, ..JobCounts::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_trigger_of_the_topic_in_the_namespace_fires_and_no_other() {
    let bench = Bench::new();
    for (ns, name, topic) in [("a", "f", "t"), ("a", "g", "t"), ("a", "h", "u"), ("b", "f", "t")] {
        bench.trigger_in(ns, name, topic);
    }
    bench.start(succeed());
    bench.publish(event("t", 1)).await;
    bench.publish(event("nobody", 2)).await;
    bench.settled().await;
    let mut ran: Vec<_> =
        bench.ran().iter().map(|ran| (ran.namespace.to_string(), ran.function.to_string())).collect();
    ran.sort();
    assert_eq!(ran, [("a".into(), "f".into()), ("a".into(), "g".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_without_triggers_costs_no_disk() {
    let bench = Bench::new();
    bench.publish(event("nobody", 1)).await;
    // Known by now, so the answer is there at once.
    let mut again = bench.events.publish(&namespace("a"), vec![event("nobody", 2)]);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(again.as_mut().poll(&mut context).is_ready());
    assert_eq!(bench.rows("messages"), 0);
    // And a trigger that is added counts from then on.
    bench.trigger("f", "nobody");
    bench.publish(event("nobody", 3)).await;
    assert_eq!((bench.rows("messages"), bench.rows("jobs")), (1, 1));
    let trigger = bench.registry.triggers(&namespace("a"), &function("f")).unwrap().unwrap()[0].id.clone();
    bench.registry.delete_trigger(&namespace("a"), &function("f"), &trigger).unwrap();
    bench.publish(event("nobody", 4)).await;
    assert_eq!(bench.rows("jobs"), 1, "nor one that was deleted any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn depth_ends_a_loop() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.trigger("g", "t");
    for known in [false, true] {
        let held = bench.publish(Event { depth: TRIGGER_DEPTH_MAX + 1, ..event("t", 1) }).await;
        assert_eq!(held.suppressed_triggers, 2, "{known}");
        assert_eq!(bench.rows("jobs"), 0);
    }
    let last = bench.publish(Event { depth: TRIGGER_DEPTH_MAX, ..event("t", 1) }).await;
    assert_eq!((last.suppressed_triggers, bench.rows("jobs")), (0, 2));
    bench.start(succeed());
    bench.settled().await;
    assert!(bench.ran().iter().all(|ran| ran.depth == TRIGGER_DEPTH_MAX));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_an_event_is_refused() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    let refused =
        async |event: Event| bench.events.publish(&namespace("a"), vec![event]).await.unwrap_err().code;
    assert_eq!(refused(event("", 1)).await, ErrorCode::InvalidArgument);
    assert_eq!(refused(event("t\n", 1)).await, ErrorCode::InvalidArgument);
    let largest = format!("\"{}\"", "x".repeat(EVENT_MAX_BYTES - 2));
    assert_eq!(refused(event("t", format!("{largest} "))).await, ErrorCode::PayloadTooLarge);
    bench.start(succeed());
    bench.publish(event("t", &largest)).await;
    bench.settled().await;
    assert!(bench.ran()[0].event.len() <= orama_runtime::limits::INPUT_MAX_BYTES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_one_trigger_run_one_at_a_time_in_their_order() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.trigger("g", "t");
    let (under_way, most) =
        (Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]), Arc::new(AtomicUsize::new(0)));
    let (counting, peak) = (Arc::clone(&under_way), Arc::clone(&most));
    bench.start(Arc::new(move |triggered| {
        let (counting, peak) = (Arc::clone(&counting), Arc::clone(&peak));
        Box::pin(async move {
            let own = &counting[usize::from(triggered.function.as_str() == "g")];
            peak.fetch_max(own.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            own.fetch_sub(1, Ordering::SeqCst);
            Ran::Succeeded
        })
    }));
    // More than one look at the file takes.
    for n in 0..200 {
        bench.publish(event("t", n)).await;
    }
    bench.settled().await;
    let expected: Vec<Value> = (0..200).map(Value::from).collect();
    assert_eq!((bench.given("f"), bench.given("g")), (expected.clone(), expected));
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_function_holds_up_no_other() {
    let bench = Bench::new();
    bench.trigger("slow", "t");
    bench.trigger("fast", "t");
    let gate = Arc::new(Semaphore::new(0));
    let closed = Arc::clone(&gate);
    bench.start(Arc::new(move |triggered| {
        let closed = Arc::clone(&closed);
        Box::pin(async move {
            if triggered.function.as_str() == "slow" {
                closed.acquire().await.unwrap().forget();
            }
            Ran::Succeeded
        })
    }));
    for n in 0..100 {
        bench.publish(event("t", n)).await;
    }
    bench.eventually("the fast one has had all", |bench| bench.given("fast").len() == 100).await;
    assert_eq!(bench.given("slow").len(), 1);
    gate.add_permits(100);
    bench.settled().await;
    assert_eq!(bench.given("slow").len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_with_many_slow_functions_leaves_places_for_others() {
    let bench = Bench::new();
    for n in 0..40 {
        bench.trigger(&format!("slow{n}"), "t");
    }
    bench.trigger_in("b", "f", "t");
    let gate = Arc::new(Semaphore::new(0));
    let closed = Arc::clone(&gate);
    bench.start_with(
        Arc::new(move |triggered| {
            let closed = Arc::clone(&closed);
            Box::pin(async move {
                if triggered.namespace.as_str() == "a" {
                    closed.acquire().await.unwrap().forget();
                }
                Ran::Succeeded
            })
        }),
        32,
    );
    bench.publish(event("t", 1)).await;
    bench.eventually("its places are taken", |bench| bench.events.counts().running == 2).await;
    for n in 0..10 {
        bench.events.publish(&namespace("b"), vec![event("t", n)]).await.unwrap();
    }
    bench.eventually("the other one has had all", |bench| bench.given("f").len() == 10).await;
    assert_eq!(bench.events.counts().running, 2, "32 places, a sixteenth for each namespace");
    gate.add_permits(100);
    bench.settled().await;
    assert_eq!(bench.ran().len(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_room_is_no_attempt_and_keeps_the_order() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    let crowded = Arc::new(AtomicUsize::new(3));
    let left = Arc::clone(&crowded);
    for n in 0..3 {
        bench.publish(event("t", n)).await;
    }
    bench.start(at_once(move |_| {
        let none = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if none.is_ok() { Ran::NoRoom } else { Ran::Succeeded }
    }));
    bench.settled().await;
    let ran = bench.ran();
    assert_eq!(ran.iter().map(data).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 2]);
    assert!(ran.iter().all(|ran| ran.attempt == 1));
    assert_eq!(bench.events.counts().retried, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_function_was_deleted_is_dropped() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.publish(event("t", 1)).await;
    bench.registry.delete(&namespace("a"), &function("f"), None).unwrap();
    bench.start(at_once(|_| Ran::UnknownFunction));
    bench.settled().await;
    assert_eq!((bench.rows("jobs"), bench.rows("dead_letters"), bench.rows("messages")), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_one_turn_stops_neither_the_trigger_nor_the_others() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.trigger("g", "t");
    let once = AtomicUsize::new(0);
    bench.start(at_once(move |triggered| {
        let first = triggered.function.as_str() == "f" && once.fetch_add(1, Ordering::SeqCst) == 0;
        assert!(!first, "a panic on purpose");
        Ran::Succeeded
    }));
    for n in 0..3 {
        bench.publish(event("t", n)).await;
    }
    bench.settled().await;
    assert_eq!(bench.given("g"), [0, 1, 2]);
    assert_eq!(bench.given("f"), [0, 0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_with_too_much_waiting_is_told_to_come_back() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.trigger_in("b", "f", "t");
    let full = tally::Waiting { jobs: crate::limits::JOBS_WAITING_MAX, bytes: 0 };
    bench.events.inner.tallies.add(&namespace("a"), full);
    let error = bench.events.publish(&namespace("a"), vec![event("t", 1)]).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("100000"), "{error}");
    bench.events.publish(&namespace("b"), vec![event("t", 1)]).await.unwrap();
    assert_eq!(bench.rows("messages"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_whose_wake_up_was_lost_are_found() {
    let bench = Bench::new();
    let id = bench.trigger("f", "t");
    bench.start(succeed());
    bench.publish(event("t", 0)).await;
    bench.settled().await;
    let waiting = tally::Waiting { jobs: 1, bytes: 1 };
    for n in 1..=300 {
        bench.events.inner.tallies.add(&namespace("a"), waiting);
        let message = message_to(&id, event("t", n));
        let database = &bench.events.inner.database;
        database.change(|t| store::publish(t, &namespace("a"), &message)).unwrap();
    }
    // A wake-up that names nobody, as a listener that lagged hears it.
    bench.pubsub.publish(WAKE_TOPIC, Bytes::from_static(b"[]")).await.unwrap();
    bench.settled().await;
    assert_eq!(bench.given("f"), (0..=300).collect::<Vec<_>>());
}
