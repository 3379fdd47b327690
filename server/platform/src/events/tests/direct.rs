//! Runs that nobody waits for, batches, and triggers on patterns.

use super::*;
use orama_runtime::services::LaterRun;

fn run(function: &str, payload: &'static [u8]) -> LaterRun {
    LaterRun { function: function.to_owned(), payload: Bytes::from_static(payload), depth: 1, trace: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_asked_for_gets_its_input_as_it_is_and_its_version() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    let a = namespace("a");
    bench.events.run_later(&a, run("f", b"plain text")).await.unwrap();
    bench.events.run_later(&a, run("f@1", b"\xff\x00binary")).await.unwrap();
    bench.events.run_later(&a, run("f", b"")).await.unwrap();
    let bench = bench.reopen();
    bench.start(succeed());
    bench.settled().await;
    let mut ran: Vec<_> =
        bench.ran().into_iter().map(|ran| (ran.event, ran.version, ran.trigger_type)).collect();
    ran.sort_unstable();
    let expected: [(&[u8], _, _); 3] = [
        (b"", None, "function"),
        (b"plain text", None, "function"),
        (b"\xff\x00binary", Some(1), "function"),
    ];
    assert_eq!(ran, expected.map(|(event, version, word)| (Bytes::from_static(event), version, word)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_run_is_not_accepted() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    for (function, why) in [
        ("g", "no function \"g\""),
        ("f@2", "version 2 of"),
        ("f@x", "alias \"x\" of"),
        ("f@x.y", "version number"),
        ("no name", "name"),
        ("", "name"),
    ] {
        let error = bench.events.run_later(&namespace("a"), run(function, b"")).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{function}");
        assert!(error.message.contains(why), "{function}: {}", error.message);
    }
    let other = bench.events.run_later(&namespace("b"), run("f", b"")).await.unwrap_err();
    assert!(other.message.contains("no function"), "another namespace's: {}", other.message);
    let deep = LaterRun { depth: TRIGGER_DEPTH_MAX + 1, ..run("f", b"") };
    assert!(bench.events.run_later(&namespace("a"), deep).await.unwrap_err().message.contains("depth"));
    assert_eq!(bench.rows("jobs"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_failed_is_retried_and_its_dead_letter_replayed_with_its_version() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.events.run_later(&namespace("a"), run("f@1", b"x")).await.unwrap();
    bench.start(at_once(|ran| match ran.attempt {
        1 | 2 => failed("boom", 1, Duration::ZERO),
        _ => Ran::Succeeded,
    }));
    bench.eventually("it is dead", |bench| bench.events.counts().dead == 1).await;
    bench.settled().await;
    let (a, f) = (namespace("a"), function("f"));
    assert_eq!(bench.events.dead_letters(&a, &f, 9).unwrap()[0].data, "\"x\"", "it is no JSON");
    assert_eq!(bench.events.replay(&a, &f, None).unwrap(), 1);
    bench.eventually("it is dead again", |bench| bench.events.counts().dead == 2).await;
    let ran: Vec<_> = bench.ran().iter().map(|ran| (ran.attempt, ran.version)).collect();
    assert_eq!(ran, [1, 2, 1, 2].map(|attempt| (attempt, Some(1))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_one_function_go_side_by_side() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    for _ in 0..64 {
        bench.events.run_later(&namespace("a"), run("f", b"")).await.unwrap();
    }
    let (inside, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let seen = Arc::clone(&most);
    bench.start(Arc::new(move |_| {
        let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
        Box::pin(async move {
            most.fetch_max(inside.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
            inside.fetch_sub(1, Ordering::Relaxed);
            Ran::Succeeded
        })
    }));
    bench.settled().await;
    assert_eq!(bench.ran().len(), 64);
    let most = seen.load(Ordering::Relaxed);
    assert!((2..=4).contains(&most), "as many as a namespace may: {most}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_published_whole_or_not_at_all() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.trigger("f", "u");
    let good = vec![event("t", 1), event("nobody", 2), event("u", 3), event("t", 4)];
    let published = bench.events.publish(&namespace("a"), good).await.unwrap();
    let ids: std::collections::HashSet<_> = published.iter().map(|published| &published.message_id).collect();
    assert_eq!(ids.len(), 4);
    let bad = vec![event("t", 5), event("_orama/x", 6)];
    let error = bench.events.publish(&namespace("a"), bad).await.unwrap_err();
    assert!(error.message.contains("reserved"), "{}", error.message);
    bench.start(succeed());
    bench.settled().await;
    let mut given = bench.given("f");
    given.sort_by_key(|data| data.as_u64());
    assert_eq!(given, [1, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_fires_for_each_topic_that_it_matches() {
    let bench = Bench::new();
    bench.trigger("f", "calls:*");
    bench.trigger("g", "calls:**");
    bench.trigger("h", "calls:a");
    bench.start(succeed());
    for (n, topic) in ["calls:a", "calls:a:b", "other", "calls:a"].into_iter().enumerate() {
        bench.publish(event(topic, n)).await;
    }
    bench.settled().await;
    assert_eq!(bench.given("f"), [0, 3]);
    assert_eq!(bench.given("g"), [0, 1, 3]);
    assert_eq!(bench.given("h"), [0, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_trigger_does_not_fire_until_it_is_resumed() {
    let bench = Bench::new();
    let id = bench.trigger("f", "t");
    let set = |enabled| {
        let (a, f) = (namespace("a"), function("f"));
        let changed = bench.registry.enable_trigger(&a, &f, &id, enabled).unwrap().unwrap();
        assert_eq!(changed.is_enabled, enabled);
    };
    bench.start(succeed());
    bench.publish(event("t", 1)).await;
    set(false);
    bench.publish(event("t", 2)).await;
    set(true);
    bench.publish(event("t", 3)).await;
    bench.settled().await;
    assert_eq!(bench.given("f"), [1, 3]);
}
