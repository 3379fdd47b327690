use super::*;
use crate::conformance::cache as suite;
use crate::conformance::{namespace, wait};
use suite::{get, set};

/// One in [`CACHE_NAMESPACE_PART`] of it has room for 100 entries of [`weight`] 1024.
const MAX: usize = 400 * 1024;
const VALUE: [u8; 1024 - ENTRY_BYTES - 4] = [7; 1024 - ENTRY_BYTES - 4];

fn key(n: usize) -> String {
    format!("{n:04}")
}

fn fill(cache: &MemoryCache, ns: &Namespace, count: usize) {
    for n in 0..count {
        set(cache, ns, &key(n), &VALUE, None);
    }
}

fn kept(cache: &MemoryCache, ns: &Namespace, count: usize) -> usize {
    (0..count).filter(|n| get(cache, ns, &key(*n)).is_some()).count()
}

#[test]
fn it_is_a_cache() {
    let cache = MemoryCache::new(16 << 20);
    for (name, case) in suite::CASES {
        eprintln!("case: {name}");
        case(&cache);
    }
}

#[test]
fn a_namespace_has_its_part_and_loses_what_it_did_not_use_for_longest() {
    let (cache, ns) = (MemoryCache::new(MAX), namespace());
    for n in 0..1000 {
        set(&cache, &ns, &key(n), &VALUE, None);
        // In use all the time.
        assert!(n == 0 || get(&cache, &ns, "0000").is_some(), "lost after {n}");
        assert!(cache.used_bytes() <= MAX / CACHE_NAMESPACE_PART);
    }
    assert_eq!(kept(&cache, &ns, 1000), 100);
    assert!(get(&cache, &ns, "0999").is_some(), "the newest is kept");
}

#[test]
fn when_all_together_have_too_much_the_largest_gives_way() {
    let cache = MemoryCache::new(MAX);
    let small = namespace();
    fill(&cache, &small, 20);
    let large: Vec<_> = (0..8).map(|_| namespace()).collect();
    for ns in &large {
        fill(&cache, ns, 500);
        assert!(cache.used_bytes() <= MAX);
    }
    assert_eq!(kept(&cache, &small, 20), 20, "less than its even part");
    let parts: Vec<_> = large.iter().map(|ns| kept(&cache, ns, 500)).collect();
    assert!(parts.iter().all(|part| *part >= 40), "even parts: {parts:?}");
}

#[test]
fn a_removed_namespace_gives_its_memory_back() {
    let cache = MemoryCache::new(MAX);
    let (gone, stays) = (namespace(), namespace());
    fill(&cache, &gone, 50);
    fill(&cache, &stays, 10);
    cache.remove(&gone);
    cache.remove(&namespace());
    assert_eq!(cache.used_bytes(), 10 * 1024);
    assert_eq!((kept(&cache, &gone, 50), kept(&cache, &stays, 10)), (0, 10));
}

#[test]
fn the_count_of_bytes_stays_right() {
    let cache = MemoryCache::new(MAX);
    let all: Vec<_> = (0..3).map(|_| namespace()).collect();
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (cache, all) = (&cache, &all);
            scope.spawn(move || {
                for n in 0..3000_usize {
                    let (ns, key) = (&all[n % 3], key((n * 7 + thread) % 300));
                    match n % 5 {
                        0 | 1 => set(cache, ns, &key, &VALUE[..n % VALUE.len()], None),
                        2 => set(cache, ns, &key, b"5", Some(Duration::from_micros(10))),
                        3 => drop(wait(cache.increment(ns, &key, 1))),
                        _ => drop(wait(cache.delete(ns, &key))),
                    }
                    get(cache, ns, &key);
                }
            });
        }
    });
    let tenants = cache.0.read();
    let mut sum = 0;
    for tenant in tenants.values() {
        let bytes: usize = tenant
            .shards
            .iter()
            .map(|shard| shard.lock().iter().map(|(key, entry)| weight(key, &entry.value)).sum::<usize>())
            .sum();
        assert_eq!(tenant.used.load(Ordering::Relaxed), bytes);
        sum += bytes;
    }
    assert_eq!(cache.used_bytes(), sum);
}
