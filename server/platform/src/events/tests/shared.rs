//! Events that several nodes share, on a real rqlite.

use super::*;
use crate::test_database::Change as _;
use orama_store::replica::Shared;
use orama_store::rqlite::RqliteClient;
use orama_store::settings::RqliteAt;
use orama_test_support::backends::Rqlite;
use orama_test_support::proxy::{Fault, Proxy};
use std::collections::BTreeSet;
use std::future::pending;
use tokio::runtime::Runtime;

/// A node with threads of its own, which can go away as a killed one does.
struct Member {
    bench: Bench,
    runtime: Runtime,
}

impl Member {
    fn new(rqlite: &Rqlite, pubsub: &Arc<MemoryPubSub>) -> Self {
        Self::with_registry_at(&rqlite.urls(), rqlite, pubsub)
    }

    /// A node that reaches rqlite at other addresses for its registry than for its events.
    fn with_registry_at(registry_urls: &[String], rqlite: &Rqlite, pubsub: &Arc<MemoryPubSub>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let shared = |urls: &[String]| {
            let urls = urls.iter().map(|url| url.parse().unwrap()).collect();
            Shared {
                client: RqliteClient::new("test", &RqliteAt { urls, user: None, password: None }).unwrap(),
                pubsub: pubsub.clone(),
                backplane: runtime.handle().clone(),
                node: "n".to_owned(),
            }
        };
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open_shared(dir.path(), shared(registry_urls)).unwrap();
        registry.create_namespace(&namespace("a")).unwrap();
        let events = NodeEvents::open_shared(dir.path(), &registry, shared(&rqlite.urls())).unwrap();
        let records = Records::open(dir.path()).unwrap();
        let bench = Bench { dir, registry, records, pubsub: pubsub.clone(), events, ran: Arc::default() };
        Self { bench, runtime }
    }

    fn publish(&self, event: Event) -> Result<Published, orama_runtime::services::ServiceError> {
        let published = self.runtime.block_on(self.bench.events.publish(&namespace("a"), vec![event]));
        published.map(|mut published| published.remove(0))
    }
}

/// Runs what its registry knows, as a node's cores do.
fn as_its_registry_knows(member: &Member) -> Behaviour {
    let registry = member.bench.registry.clone();
    at_once(move |triggered| {
        match registry.function(&triggered.namespace, &triggered.function, None).unwrap() {
            Some(_) => Ran::Succeeded,
            None => Ran::UnknownFunction,
        }
    })
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn each_job_runs_once_whichever_node_it_came_from() {
    let Ok(rqlite) = Rqlite::single() else { return };
    let pubsub = Arc::<MemoryPubSub>::default();
    let members = [Member::new(&rqlite, &pubsub), Member::new(&rqlite, &pubsub)];
    let topics = ["t", "u"];
    for topic in topics {
        members[0].bench.trigger(&format!("f-{topic}"), topic);
    }
    wait_until("the other node knows the triggers", || {
        members[1].bench.registry.triggers_on(&namespace("a"), "u").unwrap().len() == 1
    });
    members.iter().for_each(|member| member.bench.start(succeed()));
    let count = 30;
    std::thread::scope(|scope| {
        for (index, member) in members.iter().enumerate() {
            scope.spawn(move || {
                for n in 0..count {
                    member.publish(event(topics[n % 2], index * count + n)).unwrap();
                }
            });
        }
    });
    let ran = || -> Vec<u64> {
        members.iter().flat_map(|member| member.bench.ran()).map(|ran| data(&ran).as_u64().unwrap()).collect()
    };
    wait_until("all have run", || ran().len() >= 2 * count);
    for member in &members {
        wait_until("nothing waits", || {
            member.bench.rows("jobs") == 0 && member.bench.events.counts().waiting == 0
        });
    }
    let ran = ran();
    let different: BTreeSet<_> = ran.iter().collect();
    assert_eq!((ran.len(), different.len()), (2 * count, 2 * count), "each once");
    assert_eq!(members[0].bench.rows("messages"), 0);
    let delivered: u64 = members.iter().map(|member| member.bench.events.counts().delivered).sum();
    assert_eq!(delivered, 2 * count as u64);
}

#[test]
fn what_a_killed_node_held_runs_on_another_when_its_lease_is_over() {
    let Ok(rqlite) = Rqlite::single() else { return };
    let pubsub = Arc::<MemoryPubSub>::default();
    let [killed, other] = [Member::new(&rqlite, &pubsub), Member::new(&rqlite, &pubsub)];
    killed.bench.trigger("f", "t");
    killed.bench.start(Arc::new(|_| Box::pin(pending())));
    killed.publish(event("t", 1)).unwrap();
    wait_until("it runs", || killed.bench.ran().len() == 1);
    other.bench.start(succeed());
    // As long as the node lives, its lease is renewed, and nobody else runs the job.
    let lease = crate::limits::JOB_LEASE;
    std::thread::sleep(lease + Duration::from_secs(3));
    assert_eq!(other.bench.ran().len(), 0, "it was not this node's");
    assert_eq!(other.bench.events.counts().waiting, 1, "it counts here too");
    killed.runtime.shutdown_background();
    wait_until("the other one runs it", || other.bench.ran().len() == 1);
    wait_until("it is done", || other.bench.rows("jobs") == 0 && other.bench.events.counts().waiting == 0);
    assert_eq!(other.bench.ran().len(), 1);
}

#[test]
fn a_node_whose_registry_is_behind_drops_no_event_of_a_function_it_does_not_know_yet() {
    let Ok(rqlite) = Rqlite::single() else { return };
    let pubsub = Arc::<MemoryPubSub>::default();
    let url = &rqlite.urls()[0];
    let proxy = Proxy::to(url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap());
    let behind = Member::with_registry_at(&[format!("http://{}", proxy.address())], &rqlite, &pubsub);
    let current = Member::new(&rqlite, &pubsub);
    proxy.set(Fault::Closed);
    current.bench.trigger("f", "t");
    for n in 0..3 {
        current.publish(event("t", n)).unwrap();
    }
    behind.bench.start(as_its_registry_knows(&behind));
    // It tries, and tries again later, without a hot loop and without an attempt that counts.
    wait_until("the node that is behind has tried twice", || behind.bench.ran().len() >= 2);
    assert!(behind.bench.registry.function(&namespace("a"), &function("f"), None).unwrap().is_none());
    assert_eq!(
        (current.bench.rows("jobs"), current.bench.rows("dead_letters")),
        (3, 0),
        "nothing is dropped"
    );
    assert!(behind.bench.ran().len() < 10, "a pause lies between two attempts");
    // Its registry heals, and everything runs as if nothing had been.
    proxy.set(Fault::None);
    wait_until("all is done", || behind.bench.rows("jobs") == 0);
    let handled: BTreeSet<_> = behind.bench.ran().iter().map(|ran| data(ran).as_u64().unwrap()).collect();
    assert_eq!(handled, BTreeSet::from([0, 1, 2]));
    assert!(behind.bench.ran().iter().all(|ran| ran.attempt == 1));
    let counts = behind.bench.events.counts();
    assert_eq!((counts.delivered, counts.retried, counts.dead), (3, 0, 0));
}

#[test]
fn a_node_whose_registry_is_behind_leaves_events_to_one_that_knows_the_function() {
    let Ok(rqlite) = Rqlite::single() else { return };
    let pubsub = Arc::<MemoryPubSub>::default();
    let url = &rqlite.urls()[0];
    let proxy = Proxy::to(url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap());
    let behind = Member::with_registry_at(&[format!("http://{}", proxy.address())], &rqlite, &pubsub);
    let current = Member::new(&rqlite, &pubsub);
    proxy.set(Fault::Closed);
    current.bench.trigger("f", "t");
    current.publish(event("t", 1)).unwrap();
    behind.bench.start(as_its_registry_knows(&behind));
    wait_until("the node that is behind has tried", || !behind.bench.ran().is_empty());
    current.bench.start(as_its_registry_knows(&current));
    wait_until("the other one runs it", || current.bench.events.counts().delivered == 1);
    assert_eq!(behind.bench.events.counts().delivered, 0);
    // A function that was deleted is told from one that is not known yet: its events go, on a node that has caught up.
    current.bench.registry.delete(&namespace("a"), &function("f"), None).unwrap();
    let message = message_to("t-1", event("t", 2));
    let publish = |t: &rusqlite::Transaction<'_>| store::publish(t, &namespace("a"), &message);
    current.bench.events.inner.database.change(publish).unwrap();
    wait_until("it is dropped", || behind.bench.rows("jobs") == 0 && current.bench.rows("jobs") == 0);
    assert_eq!(current.bench.events.counts().delivered, 1);
}

#[test]
fn without_rqlite_a_publish_is_refused_in_time_and_nothing_accepted_is_lost() {
    let Ok(rqlite) = Rqlite::single() else { return };
    let member = Member::new(&rqlite, &Arc::default());
    member.bench.trigger("f", "t");
    member.bench.start(succeed());
    let mut accepted = BTreeSet::new();
    for n in 0..40_u64 {
        match n {
            10 => rqlite.node(0).kill(),
            20 => rqlite.node(0).start(),
            _ => {}
        }
        let begun = Instant::now();
        match member.publish(event("t", n)) {
            Ok(_) => assert!(accepted.insert(n)),
            Err(error) => {
                assert_eq!(error.code, ErrorCode::Unavailable);
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    }
    assert!(accepted.len() >= 20 && accepted.contains(&39), "{accepted:?}");
    let ran = || member.bench.ran().iter().map(|ran| data(ran).as_u64().unwrap()).collect::<BTreeSet<_>>();
    wait_until("all that was accepted has run", || ran().is_superset(&accepted));
    wait_until("nothing waits", || member.bench.rows("jobs") == 0);
}
