//! What becomes of the cache when Olric, or the way to it, fails. Each run prints its counts.

use super::*;

/// What became of additions.
#[derive(Default)]
struct Counts {
    acknowledged: AtomicI64,
    /// It is not known whether they were done.
    unknown: AtomicI64,
    /// They were not done.
    refused: AtomicI64,
    slowest_ms: AtomicI64,
}

impl Counts {
    fn add(&self, cache: &OlricCache, ns: &Namespace, key: &str) {
        let begun = Instant::now();
        let answer = wait(cache.increment(ns, key, 1));
        self.slowest_ms.fetch_max(begun.elapsed().as_millis() as i64, Ordering::Relaxed);
        let count = match answer {
            Ok(_) => &self.acknowledged,
            Err(error) => {
                assert_eq!(error.code, ErrorCode::Unavailable, "{error}");
                if error.message.contains("not known") { &self.unknown } else { &self.refused }
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn acknowledged(&self) -> i64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// What is there, beside what was said.
    #[track_caller]
    fn check(&self, what: &str, there: i64) {
        let load = |count: &AtomicI64| count.load(Ordering::Relaxed);
        let (acknowledged, unknown) = (self.acknowledged(), load(&self.unknown));
        eprintln!(
            "{what}: {there} there, {acknowledged} acknowledged, {unknown} unknown, {} refused, the slowest answer after {} ms",
            load(&self.refused),
            load(&self.slowest_ms)
        );
        assert!(there >= acknowledged, "acknowledged additions were lost");
        assert!(there <= acknowledged + unknown, "more was added than anyone asked for");
    }
}

/// Adds to every key in turn.
fn add_until(is_over: &AtomicBool, cache: &OlricCache, ns: &Namespace, keys: &[String], counts: &[Counts]) {
    while !is_over.load(Ordering::Acquire) {
        keys.iter().zip(counts).for_each(|(key, counts)| counts.add(cache, ns, key));
    }
}

#[track_caller]
fn heals(cache: &OlricCache, ns: &Namespace) {
    let begun = Instant::now();
    eventually("the cache heals", || {
        wait(cache.set(ns, "heals", Bytes::from("v"), None)).is_ok()
            && wait(cache.increment(ns, "heals too", 1)).is_ok()
            && wait(cache.get(ns, "heals")).is_ok()
    });
    eprintln!("healed after {:?}", begun.elapsed());
}

#[test]
fn additions_while_a_member_is_killed_are_there_or_were_not_acknowledged() {
    for round in 0..3 {
        let Ok(server) = backends::Olric::cluster(2) else { return };
        let runtime = runtime();
        let addresses = server.addresses();
        let turned: Vec<_> = addresses.iter().rev().copied().collect();
        let nodes = [node(&runtime, &addresses, NEAR), node(&runtime, &turned, NEAR)];
        let ns = namespace();
        let keys: Vec<String> = (0..6).map(|n| format!("n{n}")).collect();
        let counts: Vec<Counts> = keys.iter().map(|_| Counts::default()).collect();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for node in &nodes {
                scope.spawn(|| add_until(&is_over, node, &ns, &keys, &counts));
            }
            let all = || counts.iter().map(Counts::acknowledged).sum::<i64>();
            eventually("additions", || all() > 300);
            // Either member: the one that coordinates, and the other one.
            server.node(round % 2).kill();
            let at_kill: Vec<_> = counts.iter().map(Counts::acknowledged).collect();
            eventually("additions to each number after the kill", || {
                counts.iter().zip(&at_kill).all(|(counts, before)| counts.acknowledged() > before + 20)
            });
            is_over.store(true, Ordering::Release);
        });
        for (key, counts) in keys.iter().zip(&counts) {
            counts.check(key, wait(nodes[0].increment(&ns, key, 0)).unwrap());
        }
    }
}

#[test]
fn additions_while_a_server_is_paused_are_there_or_were_not_acknowledged() {
    let Ok(server) = backends::Olric::single() else { return };
    let runtime = runtime();
    let cache = node(&runtime, &server.addresses(), NEAR);
    let ns = namespace();
    let counts = Counts::default();
    for _ in 0..3 {
        (0..50).for_each(|_| counts.add(&cache, &ns, "n"));
        server.node(0).pause();
        (0..5).for_each(|_| counts.add(&cache, &ns, "n"));
        server.node(0).resume();
        heals(&cache, &ns);
    }
    // What the server had received while it was paused, it does now.
    std::thread::sleep(Duration::from_millis(500));
    counts.check("paused", wait(cache.increment(&ns, "n", 0)).unwrap());
}

#[test]
fn a_bad_way_to_olric_gives_no_wrong_answer_and_no_answer_too_late() {
    let Ok(server) = backends::Olric::single() else { return };
    let runtime = runtime();
    let proxy = Proxy::to(server.addresses()[0]);
    let cache = node_of(&runtime, &[proxy.address()], &server.addresses(), NEAR);
    let ns = namespace();
    let counts = Counts::default();
    let faults = [Fault::Closed, Fault::Silent, Fault::Deaf, Fault::Garbage, Fault::Slow(2 * OLRIC_TIMEOUT)];
    for (round, fault) in faults.into_iter().enumerate() {
        let remembered = format!("remembered {round}");
        set(&cache, &ns, "remembered", remembered.as_bytes(), None);
        set(&cache, &ns, "not remembered", b"v", None);
        assert_eq!(get(&cache, &ns, "remembered").unwrap(), remembered);
        (0..50).for_each(|_| counts.add(&cache, &ns, "n"));
        proxy.set(fault);
        for _ in 0..4 {
            counts.add(&cache, &ns, "n");
            let begun = Instant::now();
            let error = wait(cache.get(&ns, "not remembered")).unwrap_err();
            assert_eq!(error.code, ErrorCode::Unavailable, "{fault:?}: {error}");
            eprintln!("{fault:?}: {error} after {:?}", begun.elapsed());
            let error = wait(cache.set(&ns, "other", Bytes::from("v"), None)).unwrap_err();
            assert_eq!(error.code, ErrorCode::Unavailable, "{fault:?}: {error}");
            assert!(!error.message.contains("127.0.0.1"), "{error}");
            if let Some(seen) = at_once(&cache, &ns, "remembered") {
                assert_eq!(seen.unwrap(), remembered, "{fault:?}");
            }
        }
        proxy.set(Fault::None);
        heals(&cache, &ns);
        assert_eq!(get(&cache, &ns, "remembered").unwrap(), remembered, "{fault:?}");
    }
    std::thread::sleep(Duration::from_millis(500));
    counts.check("bad ways", wait(cache.increment(&ns, "n", 0)).unwrap());
}

#[test]
fn when_the_others_could_not_be_told_they_forget_everything_afterwards() {
    let Ok(server) = backends::Olric::single() else { return };
    let runtime = runtime();
    let near = Duration::from_secs(3600);
    let tells = Proxy::to(server.addresses()[0]);
    let mute = node_of(&runtime, &server.addresses(), &[tells.address()], near);
    let other = node(&runtime, &server.addresses(), near);
    let ns = namespace();
    for round in 0..3 {
        let (old, new) = (format!("old {round}"), format!("new {round}"));
        set(&mute, &ns, "k", old.as_bytes(), None);
        eventually("the old value", || get(&other, &ns, "k").is_some_and(|seen| seen == old));
        tells.set(Fault::Closed);
        set(&mute, &ns, "k", new.as_bytes(), None);
        std::thread::sleep(Duration::from_millis(200));
        tells.set(Fault::None);
        eventually("the new value", || get(&other, &ns, "k").unwrap() == new);
    }
}
