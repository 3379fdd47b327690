//! What survives, and what is forgotten with its owner.

use super::*;
use crate::test_database::Change as _;
use tokio::sync::Semaphore;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_runs_after_a_restart() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    for n in 0..100 {
        bench.publish(event("t", n)).await;
    }
    let bench = bench.reopen();
    assert_eq!(bench.events.counts().waiting, 100);
    bench.start(succeed());
    bench.settled().await;
    assert_eq!(bench.given("f"), (0..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_and_their_times_survive_a_restart() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.start(at_once(|_| failed("x", 1, Duration::from_millis(500))));
    bench.publish(event("t", 1)).await;
    bench.eventually("it failed once", |bench| bench.events.counts().retried == 1).await;
    let bench = bench.reopen();
    bench.start(at_once(|_| failed("y", 1, Duration::ZERO)));
    bench.settled().await;
    assert_eq!(bench.ran().iter().map(|ran| ran.attempt).collect::<Vec<_>>(), [2]);
    let letters = bench.events.dead_letters(&namespace("a"), &function("f"), 9).unwrap();
    assert_eq!((letters[0].attempts, letters[0].error.as_str()), (2, "y"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_of_a_former_life_are_taken_over_at_once() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    bench.publish(event("t", 1)).await;
    let take = |database: &Database| {
        let until_ms = now_ms() + 1_000_000;
        database
            .change(|t| {
                t.execute("UPDATE queues SET lease_owner = 'another', lease_until_ms = ?1", [until_ms])
            })
            .unwrap();
    };
    // As a process that was killed leaves it.
    take(&bench.events.inner.database);
    let bench = bench.reopen();
    bench.start(succeed());
    bench.settled().await;
    // As another node that is alive has it: its jobs are not touched.
    bench.publish(event("t", 2)).await;
    bench.settled().await;
    take(&bench.events.inner.database);
    let (answer, wait) = oneshot::channel();
    let queue = bench
        .events
        .inner
        .database
        .read::<_, rusqlite::Error>(|c| c.query_row("SELECT id FROM queues", [], |r| r.get(0)));
    bench.events.inner.try_change(Change::Lease(queue.unwrap(), answer)).unwrap();
    assert_eq!(wait.await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_finishes_what_runs_and_gives_its_leases_back() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    let gate = Arc::new(Semaphore::new(0));
    let closed = Arc::clone(&gate);
    bench.start(Arc::new(move |_| {
        let closed = Arc::clone(&closed);
        Box::pin(async move {
            closed.acquire().await.unwrap().forget();
            Ran::Succeeded
        })
    }));
    for n in 0..3 {
        bench.publish(event("t", n)).await;
    }
    bench.eventually("one runs", |bench| bench.events.counts().running == 1).await;
    let leases = "queues WHERE lease_owner IS NOT NULL";
    assert_eq!(bench.rows(leases), 1);
    bench.events.stop();
    gate.add_permits(1);
    bench.events.wait_stopped(PATIENCE);
    assert_eq!((bench.rows(leases), bench.rows("jobs")), (0, 2));
    assert_eq!(bench.ran().len(), 1, "no other was begun");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publishers_share_commits_and_each_is_told_when_it_is_durable() {
    let bench = Arc::new(Bench::new());
    bench.trigger("f", "t");
    let mut commits = bench.pubsub.subscribe(WAKE_TOPIC).await.unwrap();
    // While somebody else writes, publishers wait, and then go together.
    let (release, held) = mpsc::channel::<()>();
    let database = Arc::clone(&bench.events.inner.database);
    let other = std::thread::spawn(move || {
        database.change(|_| held.recv().map_err(|_| rusqlite::Error::InvalidQuery)).unwrap();
    });
    let mut publishers = tokio::task::JoinSet::new();
    for n in 0..500 {
        let bench = Arc::clone(&bench);
        publishers.spawn(async move {
            bench.publish(event("t", n)).await;
            // What was acknowledged is committed: a reader sees it.
            let sql = "SELECT count(*) FROM messages WHERE data = ?1";
            let found = bench
                .events
                .inner
                .database
                .read::<i64, rusqlite::Error>(|c| c.query_row(sql, [n.to_string()], |row| row.get(0)));
            assert_eq!(found.unwrap(), 1);
        });
    }
    bench.eventually("all have asked", |bench| bench.events.counts().waiting == 500).await;
    release.send(()).unwrap();
    publishers.join_all().await;
    other.join().unwrap();
    assert_eq!(bench.rows("jobs"), 500);
    bench.pubsub.publish(WAKE_TOPIC, Bytes::from_static(b"end")).await.unwrap();
    let mut shared = 0;
    while commits.next().await != orama_store::pubsub::Received::Message(Bytes::from_static(b"end")) {
        shared += 1;
    }
    assert!((1..=10).contains(&shared), "{shared} commits for 500 events");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_is_told_to_publishers_and_leaves_nothing_counted() {
    let bench = Bench::new();
    bench.trigger("f", "t");
    let database = Arc::clone(&bench.events.inner.database);
    database.change(|t| t.execute_batch("ALTER TABLE messages RENAME TO hidden")).unwrap();
    let error = bench.events.publish(&namespace("a"), vec![event("t", 1)]).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert_eq!(bench.events.counts().waiting, 0);
    database.change(|t| t.execute_batch("ALTER TABLE hidden RENAME TO messages")).unwrap();
    bench.publish(event("t", 2)).await;
    bench.start(succeed());
    bench.settled().await;
    assert_eq!(bench.given("f"), [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_takes_its_jobs_along() {
    let bench = Bench::new();
    for (ns, name) in [("a", "f"), ("a", "g"), ("b", "f")] {
        bench.trigger_in(ns, name, "t");
    }
    let u = bench.trigger_u();
    bench.start(at_once(|t| if data(t) == "dead" { failed("x", 0, Duration::ZERO) } else { Ran::NoRoom }));
    for ns in ["a", "b"] {
        bench.events.publish(&namespace(ns), vec![event("t", "\"dead\"")]).await.unwrap();
    }
    bench.settled().await;
    // These wait, as the node has no room for them.
    for n in 0..600 {
        bench.publish(event("t", n)).await;
    }
    bench.publish(event("u", 1)).await;
    bench.events.publish(&namespace("b"), vec![event("t", 2)]).await.unwrap();
    let left = || {
        (
            bench.rows("jobs"),
            bench.rows("dead_letters"),
            bench.events.counts().waiting + bench.events.counts().running,
        )
    };
    assert_eq!(left(), (1202, 3, 1202));
    bench.events.remove_trigger(&namespace("b"), &u).unwrap();
    assert_eq!(left(), (1202, 3, 1202), "not another namespace's");
    bench.events.remove_trigger(&namespace("a"), &u).unwrap();
    assert_eq!(left(), (1201, 3, 1201));
    bench.events.remove_function(&namespace("a"), &function("f")).unwrap();
    assert_eq!(left(), (601, 2, 601));
    assert_eq!(bench.rows("messages"), 602 + 1, "g's 600 and its dead one, and b's two");
    bench.events.remove(&namespace("a")).unwrap();
    assert_eq!(left(), (1, 1, 1));
    assert_eq!(bench.rows("messages"), 2);
    assert_eq!(bench.rows("queues"), 1);
    bench.events.remove(&namespace("b")).unwrap();
    assert_eq!((left(), bench.rows("messages"), bench.rows("queues")), ((0, 0, 0), 0, 0));
}

impl Bench {
    /// A second trigger of `f`.
    fn trigger_u(&self) -> String {
        match self
            .registry
            .add_trigger(&namespace("a"), &function("f"), &crate::registry::Source::Topic("u".to_owned()))
            .unwrap()
        {
            crate::registry::AddedTrigger::New(trigger) => trigger.id,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_migrations_are_sound() {
    schema::migrations().validate().unwrap();
}
