//! A registry that several nodes share, on a real rqlite.

use super::*;
use crate::registry::secrets::Sealed;
use orama_runtime::names::SecretName;
use orama_store::pubsub::memory::MemoryPubSub;
use orama_store::replica::Layout;
use orama_store::rqlite::RqliteClient;
use orama_store::settings::RqliteAt;
use orama_test_support::backends::Rqlite;
use orama_test_support::children::eventually;
use std::collections::HashMap;
use tempfile::TempDir;
use tokio::runtime::Runtime;

struct Cluster {
    rqlite: Rqlite,
    runtime: Runtime,
    pubsub: Arc<MemoryPubSub>,
}

impl Cluster {
    fn new() -> Option<Self> {
        let rqlite = Rqlite::single().ok()?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Some(Self { rqlite, runtime, pubsub: Arc::default() })
    }

    fn shared(&self) -> Shared {
        let urls = self.rqlite.urls().iter().map(|url| url.parse().unwrap()).collect();
        Shared {
            client: RqliteClient::new("test", &RqliteAt { urls, user: None, password: None }).unwrap(),
            pubsub: self.pubsub.clone(),
            backplane: self.runtime.handle().clone(),
            node: "n".to_owned(),
        }
    }

    fn node(&self) -> (TempDir, Registry) {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open_shared(dir.path(), self.shared()).unwrap();
        (dir, registry)
    }
}

fn sealed(text: &str) -> Sealed {
    Sealed { key_id: "k".to_owned(), nonce: [7; 12], ciphertext: text.as_bytes().to_vec() }
}

/// Makes a change, waits until the other node has seen it, and checks which of that node's counts moved: the first is of all
/// but secrets, the second of secrets.
fn check_moves(
    other: &Registry,
    what: &str,
    change: &dyn Fn(),
    is_seen: &dyn Fn() -> bool,
    expected: (bool, bool),
) {
    let counts =
        || (other.generation().load(Ordering::Acquire), other.secrets_generation().load(Ordering::Acquire));
    // What came before has come by now.
    std::thread::sleep(std::time::Duration::from_millis(700));
    let before = counts();
    change();
    eventually(what, is_seen);
    eventually("the counts move", || {
        let now = counts();
        (!expected.0 || now.0 > before.0) && (!expected.1 || now.1 > before.1)
    });
    let now = counts();
    assert_eq!((now.0 > before.0, now.1 > before.1), expected, "{what}");
}

#[test]
fn every_change_is_seen_by_the_other_node_and_moves_its_counts() {
    let Some(cluster) = Cluster::new() else { return };
    let ((_da, a), (_db, b)) = (cluster.node(), cluster.node());
    let (ns, f) = (namespace("a"), function("f"));
    let moves = |what: &str, change: &dyn Fn(), is_seen: &dyn Fn() -> bool, expected| {
        check_moves(&b, what, change, is_seen, expected);
    };
    moves(
        "a namespace",
        &|| drop(a.create_namespace(&ns).unwrap()),
        &|| b.namespace_exists(&ns).unwrap(),
        (true, false),
    );
    let key = std::cell::OnceCell::new();
    moves(
        "a key",
        &|| drop(key.set(a.create_key(&ns, Role::Admin).unwrap())),
        &|| b.key_of_hash(&key_hash(key.get().unwrap().1.reveal())).unwrap().is_some(),
        (true, false),
    );
    moves(
        "a version",
        &|| drop(a.deploy(new_version("a", "f", "w")).unwrap()),
        &|| b.function(&ns, &f, None).unwrap().is_some_and(|found| found.env["KEY"] == "välue\n\""),
        (true, false),
    );
    moves(
        "a trigger",
        &|| drop(a.add_trigger(&ns, &f, &on("t")).unwrap()),
        &|| b.triggers_on(&ns, "t").unwrap().len() == 1,
        (true, false),
    );
    let name = SecretName::new("s").unwrap();
    for value in ["one", "two"] {
        moves(
            "a secret",
            &|| a.set_secret(&ns, &name, |_| Ok(sealed(value))).unwrap(),
            &|| b.secret(&ns, &name).unwrap().is_some_and(|found| found.sealed == sealed(value)),
            (false, true),
        );
    }
    moves(
        "an object",
        &|| a.store_object(&ns, "cid", 3).unwrap(),
        &|| b.has_object(&ns, "cid").unwrap(),
        (false, false),
    );
    moves(
        "a key that is deleted",
        &|| assert!(a.delete_key(&key.get().unwrap().0).unwrap()),
        &|| b.key(&key.get().unwrap().0).unwrap().is_none(),
        (true, false),
    );
    moves(
        "a function that is deleted",
        &|| assert!(a.delete(&ns, &f, None).unwrap().whole),
        &|| b.function(&ns, &f, None).unwrap().is_none() && b.triggers_on(&ns, "t").unwrap().is_empty(),
        (true, false),
    );
    assert_eq!(
        b.deploy(new_version("a", "f", "x")).unwrap().function.version,
        2,
        "numbers are never given twice"
    );
    moves(
        "a namespace that is deleted",
        &|| assert!(a.begin_namespace_deletion(&ns).unwrap().is_some()),
        &|| !b.namespace_exists(&ns).unwrap() && b.secret(&ns, &name).unwrap().is_none(),
        (true, true),
    );
}

#[test]
fn deploys_of_two_nodes_race_for_numbers_and_each_gets_its_own() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = [cluster.node(), cluster.node()];
    nodes[0].1.create_namespace(&namespace("a")).unwrap();
    let mut numbers: Vec<u32> = thread::scope(|scope| {
        let threads: Vec<_> = nodes
            .iter()
            .map(|(_, registry)| {
                scope.spawn(move || {
                    (0..25)
                        .map(|_| registry.deploy(new_version("a", "f", "w")).unwrap().function.version)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=50).collect::<Vec<_>>());
    for (_, registry) in &nodes {
        eventually("both have all", || {
            registry.versions(&namespace("a"), &function("f"), None, 100).unwrap().len() == 50
        });
    }
}

#[test]
fn without_rqlite_a_change_is_unavailable_and_reads_go_on() {
    let Some(cluster) = Cluster::new() else { return };
    let (_dir, registry) = cluster.node();
    registry.create_namespace(&namespace("a")).unwrap();
    registry.deploy(new_version("a", "f", "w")).unwrap();
    cluster.rqlite.node(0).kill();
    let error = registry.deploy(new_version("a", "f", "x")).unwrap_err();
    let words = error.unavailable().map(|why| why.words()).unwrap();
    assert!(!words.contains("127.0.0.1"), "{words}");
    assert_eq!(registry.function(&namespace("a"), &function("f"), None).unwrap().unwrap().version, 1);
    cluster.rqlite.node(0).start();
    eventually("it heals", || registry.deploy(new_version("a", "f", "x")).is_ok());
}

#[test]
fn what_operators_set_on_one_node_is_told_on_the_other_and_empties_no_cache() {
    let Some(cluster) = Cluster::new() else { return };
    let ((_da, a), (_db, b)) = (cluster.node(), cluster.node());
    let ns = namespace("a");
    a.create_namespace(&ns).unwrap();
    eventually("the other node has the namespace", || b.namespace_exists(&ns).unwrap());
    let mut limits = b.limits_changes();
    let rates = BTreeMap::from([("r".to_owned(), "1/s".to_owned())]);
    check_moves(
        &b,
        "a rate",
        &|| a.set_rates(&ns, &rates).unwrap(),
        &|| b.all_rates().unwrap().get(&ns) == Some(&rates),
        (false, false),
    );
    assert!(limits.has_changed().unwrap());
    limits.mark_unchanged();
    check_moves(
        &b,
        "a quota",
        &|| a.set_quotas(&ns, &BTreeMap::from([(Quota::DatabaseBytes, 7)])).unwrap(),
        &|| b.quota_of_all(Quota::DatabaseBytes).unwrap().get(&ns) == Some(&7),
        (false, false),
    );
    assert!(limits.has_changed().unwrap());
}

#[test]
fn what_an_older_version_wrote_is_read_and_bounds_nothing() {
    let Some(cluster) = Cluster::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let older = Layout { steps: &schema::SHARED.steps[..4], ..schema::SHARED };
    let old = Database::open_shared(dir.path(), COPY, older, cluster.shared()).unwrap();
    old.change(|t| t.execute_batch(OLD_ROWS)).unwrap();
    drop(old);
    // A node that has read the older entries, and one that has read none of them.
    let known = Registry::open_shared(dir.path(), cluster.shared()).unwrap();
    let (_dir, new) = cluster.node();
    for registry in [&known, &new] {
        let read = registry.function(&namespace("a"), &function("f"), None).unwrap().unwrap();
        assert_eq!((read.concurrency, read.keep_versions, read.is_public), (0, 0, true));
        assert_eq!(registry.all_rates().unwrap(), HashMap::new());
    }
    let mut bounded = new_version("a", "f", "y");
    (bounded.settings.concurrency, bounded.settings.keep_versions) = (3, 1);
    known.deploy(bounded).unwrap();
    eventually("the other node has both", || {
        let read = new.function(&namespace("a"), &function("f"), None).unwrap().unwrap();
        (read.version, read.concurrency, read.keep_versions) == (2, 3, 1)
    });
    assert_eq!(new.function(&namespace("a"), &function("f"), Some(1)).unwrap().map(|f| f.version), None);
}
