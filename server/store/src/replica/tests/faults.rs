use super::*;
use orama_test_support::proxy::{Fault, Proxy};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A node whose way to rqlite can be bad.
fn behind_proxy(bench: &Bench) -> (Proxy, Node) {
    let proxy = Proxy::to(bench.rqlite.addresses()[0]);
    let dir = tempfile::tempdir().unwrap();
    let shared = bench.shared(&[format!("http://{}", proxy.address())]);
    let database = Database::open_shared(dir.path(), "copy.db", NEW, shared).unwrap();
    (proxy, Node { dir, database })
}

/// As long as a write may take, and a little more for the machine.
const LONGEST: Duration = PLATFORM_WRITE_TIMEOUT.saturating_add(Duration::from_secs(3));

fn count(database: &Database, word: &str) -> usize {
    words(database).iter().filter(|found| *found == word).count()
}

#[test]
fn what_rqlite_stored_without_an_answer_is_found_and_nothing_is_stored_twice() {
    let Some(bench) = Bench::new(1) else { return };
    let other = bench.node();
    let (proxy, node) = behind_proxy(&bench);
    let mut outcomes = [0; 3];
    let faults = [Fault::Deaf, Fault::Silent, Fault::Garbage, Fault::Closed];
    // The last time it is not back before the write has to be answered.
    let heals_in_ms = [0, 250, 500, 1000, 7000];
    for (round, heals_in_ms) in heals_in_ms.into_iter().enumerate() {
        for fault in faults.into_iter().take(if heals_in_ms > 1000 { 2 } else { faults.len() }) {
            let word = format!("{fault:?} {round}");
            proxy.set(fault);
            let begun = Instant::now();
            let result = std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(heals_in_ms));
                    // What is open is of no use any more, as it is where a network breaks.
                    proxy.set(Fault::Closed);
                    proxy.set(Fault::None);
                });
                insert(&node.database, &word)
            });
            assert!(begun.elapsed() < LONGEST, "{word}: {:?}", begun.elapsed());
            proxy.set(Fault::None);
            // Whatever it says of itself must be true, and all must agree.
            eventually("it can be written", || insert(&node.database, &format!("after {word}")).is_ok());
            bench.compare(&node.database);
            bench.compare(&other.database);
            let stored = count(&other.database, &word);
            match result {
                Ok(_) => {
                    assert_eq!(stored, 1, "{word} was acknowledged");
                    outcomes[0] += 1;
                }
                Err(SqliteError::Shared(ReplicaError::Unknown(_))) => {
                    assert!(stored <= 1, "{word}");
                    outcomes[1] += 1;
                }
                Err(error) => {
                    assert_eq!(stored, 0, "{word}: {error}");
                    assert!(error.unavailable().is_some(), "{error}");
                    outcomes[2] += 1;
                }
            }
        }
    }
    println!("{} stored, {} unknown, {} certainly not", outcomes[0], outcomes[1], outcomes[2]);
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
}

#[test]
fn without_rqlite_reads_go_on_and_writes_fail_in_time_until_it_is_back() {
    let Some(bench) = Bench::new(1) else { return };
    let other = bench.node();
    let (proxy, node) = behind_proxy(&bench);
    insert(&node.database, "before").unwrap();
    for fault in [Fault::Closed, Fault::Silent] {
        proxy.set(fault);
        let stop = AtomicBool::new(false);
        let reads = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    assert!(words(&node.database).contains(&"before".to_owned()));
                    assert!(begun.elapsed() < Duration::from_secs(1), "a read waited for rqlite");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
            for _ in 0..4 {
                let begun = Instant::now();
                let refused = insert(&node.database, "never").unwrap_err();
                assert!(refused.unavailable().is_some(), "{refused}");
                assert!(refused.to_string().contains("database.platform"), "{refused}");
                assert!(begun.elapsed() < LONGEST, "{fault:?}: {:?}", begun.elapsed());
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(reads.load(Ordering::Relaxed) > 10);
        insert(&other.database, &format!("meanwhile {fault:?}")).unwrap();
        proxy.set(Fault::Closed);
        proxy.set(Fault::None);
        eventually("it has what came meanwhile", || {
            count(&node.database, &format!("meanwhile {fault:?}")) == 1
        });
        eventually("it can be written", || insert(&node.database, &format!("after {fault:?}")).is_ok());
    }
    bench.compare(&node.database);
    assert_eq!(count(&other.database, "never"), count(&node.database, "never"));
}

#[test]
fn a_node_with_a_copy_starts_without_rqlite_and_takes_part_when_it_is_there() {
    let Some(bench) = Bench::new(1) else { return };
    let Node { dir, database } = bench.node();
    insert(&database, "kept").unwrap();
    drop(database);
    bench.rqlite.node(0).kill();
    let begun = Instant::now();
    let database = bench.open(dir.path(), NEW).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(words(&database), ["kept"]);
    assert!(insert(&database, "not now").unwrap_err().unavailable().is_some());
    bench.rqlite.node(0).start();
    eventually("it can be written", || insert(&database, "again").is_ok());
    bench.compare(&database);
}

/// Inserts words of a node's own; what became of each.
fn insert_until(stop: &AtomicBool, node: &Node, index: usize) -> Vec<(String, Result<i64, SqliteError>)> {
    let mut outcomes = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let word = format!("{index}-{n}");
        let begun = Instant::now();
        let outcome = insert(&node.database, &word);
        assert!(begun.elapsed() < LONGEST, "{:?}", begun.elapsed());
        if outcome.is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        outcomes.push((word, outcome));
    }
    outcomes
}

#[test]
fn nothing_acknowledged_is_lost_when_leaders_are_killed() {
    let Some(bench) = Bench::new(3) else { return };
    let nodes = [bench.node(), bench.node()];
    let stop = AtomicBool::new(false);
    let kills = 3;
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| {
                let stop = &stop;
                scope.spawn(move || insert_until(stop, node, index))
            })
            .collect();
        for _ in 0..kills {
            std::thread::sleep(Duration::from_millis(1500));
            let leader = bench.rqlite.leader();
            bench.rqlite.node(leader).kill();
            std::thread::sleep(Duration::from_millis(4000));
            bench.rqlite.node(leader).start();
        }
        std::thread::sleep(Duration::from_millis(1000));
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    for (index, node) in nodes.iter().enumerate() {
        eventually("it heals", || insert(&node.database, &format!("healed-{index}")).is_ok());
    }
    nodes.iter().for_each(|node| bench.compare(&node.database));
    let (mut stored, mut unknown, mut not) = (0, 0, 0);
    let found = words(&nodes[0].database);
    for (word, outcome) in &outcomes {
        let is_there = found.contains(word);
        match outcome {
            Ok(_) => {
                assert!(is_there, "{word} was acknowledged, and is lost");
                stored += 1;
            }
            Err(SqliteError::Shared(ReplicaError::Unknown(_))) => unknown += 1,
            Err(error) => {
                assert!(!is_there, "{word} is there, and was refused: {error}");
                not += 1;
            }
        }
    }
    println!("{kills} leaders killed: {stored} stored, {unknown} unknown, {not} certainly not");
}
