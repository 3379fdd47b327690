//! The suite of [`Cache`].

use super::{namespace, wait};
use bytes::Bytes;
use orama_runtime::limits::{CACHE_KEY_MAX_BYTES, CACHE_VALUE_MAX_BYTES};
use orama_runtime::names::Namespace;
use orama_runtime::services::{Cache, ErrorCode};
use std::time::{Duration, Instant};

/// A case of the suite.
pub(crate) type Case = fn(&dyn Cache);

/// All cases.
pub(crate) const CASES: [(&str, Case); 9] = [
    ("values are kept, replaced and deleted", values),
    ("any bytes are a value, any text a key", binary),
    ("a value's time ends", time_ends),
    ("a replaced value has its own time", time_is_replaced),
    ("numbers are counted", numbers),
    ("a number keeps its time", number_keeps_its_time),
    ("counting at once loses nothing", concurrent_increments),
    ("namespaces do not see one another", namespaces_are_apart),
    ("keys and values up to the limit", limits),
];

const TTL: Duration = Duration::from_millis(1500);

pub(crate) fn get(cache: &dyn Cache, ns: &Namespace, key: &str) -> Option<Bytes> {
    wait(cache.get(ns, key)).unwrap()
}

pub(crate) fn set(cache: &dyn Cache, ns: &Namespace, key: &str, value: &[u8], ttl: Option<Duration>) {
    wait(cache.set(ns, key, Bytes::copy_from_slice(value), ttl)).unwrap();
}

fn delete(cache: &dyn Cache, ns: &Namespace, key: &str) {
    wait(cache.delete(ns, key)).unwrap();
    assert_eq!(get(cache, ns, key), None, "{key:?} is gone");
}

fn add(cache: &dyn Cache, ns: &Namespace, key: &str, delta: i64) -> i64 {
    wait(cache.increment(ns, key, delta)).unwrap()
}

fn values(cache: &dyn Cache) {
    let ns = namespace();
    assert_eq!(get(cache, &ns, "k"), None);
    delete(cache, &ns, "k");
    set(cache, &ns, "k", b"one", None);
    assert_eq!(get(cache, &ns, "k").unwrap(), "one");
    set(cache, &ns, "k", b"two", None);
    assert_eq!(get(cache, &ns, "k").unwrap(), "two");
    assert_eq!(get(cache, &ns, "K"), None);
    delete(cache, &ns, "k");
    delete(cache, &ns, "k");
}

fn binary(cache: &dyn Cache) {
    let ns = namespace();
    let all: Vec<u8> = (0..=255).collect();
    for key in ["plain", "with space", "a:b/c\r\n*$", "zero\0byte", "ключ 🎈", "{tag}"] {
        set(cache, &ns, key, &all, None);
        assert_eq!(get(cache, &ns, key).unwrap(), all, "{key:?}");
        set(cache, &ns, key, b"", None);
        assert_eq!(get(cache, &ns, key).unwrap(), "", "an empty value is one: {key:?}");
        delete(cache, &ns, key);
    }
    // Texts that look like numbers come back as they were.
    for text in ["007", "+5", "-0", " 5", "5 ", "1e3", "0x10", "9223372036854775808", "5", "-12"] {
        set(cache, &ns, "text", text.as_bytes(), None);
        assert_eq!(get(cache, &ns, "text").unwrap(), text);
    }
}

fn time_ends(cache: &dyn Cache) {
    let ns = namespace();
    let begun = Instant::now();
    set(cache, &ns, "short", b"v", Some(TTL));
    set(cache, &ns, "long", b"v", Some(Duration::from_secs(3600)));
    set(cache, &ns, "never", b"v", None);
    set(cache, &ns, "ages", b"v", Some(Duration::MAX));
    let seen = get(cache, &ns, "short");
    if begun.elapsed() < TTL {
        assert_eq!(seen.unwrap(), "v");
    }
    std::thread::sleep(TTL);
    assert_eq!(get(cache, &ns, "short"), None, "its time is over");
    delete(cache, &ns, "short");
    for key in ["long", "never", "ages"] {
        assert_eq!(get(cache, &ns, key).unwrap(), "v", "{key}");
    }
}

fn time_is_replaced(cache: &dyn Cache) {
    let ns = namespace();
    set(cache, &ns, "longer", b"v", Some(TTL));
    set(cache, &ns, "longer", b"w", None);
    set(cache, &ns, "shorter", b"v", None);
    set(cache, &ns, "shorter", b"w", Some(TTL));
    std::thread::sleep(TTL);
    assert_eq!(get(cache, &ns, "longer").unwrap(), "w");
    assert_eq!(get(cache, &ns, "shorter"), None);
}

fn numbers(cache: &dyn Cache) {
    let ns = namespace();
    assert_eq!(add(cache, &ns, "n", 1), 1, "a missing one is 0");
    assert_eq!(add(cache, &ns, "n", 41), 42);
    assert_eq!(add(cache, &ns, "n", -50), -8);
    assert_eq!(get(cache, &ns, "n").unwrap(), "-8");
    set(cache, &ns, "n", b"9007199254740993", None);
    assert_eq!(add(cache, &ns, "n", 0), 9_007_199_254_740_993);
    set(cache, &ns, "n", i64::MAX.to_string().as_bytes(), None);
    let code = |delta| wait(cache.increment(&ns, "n", delta)).unwrap_err().code;
    assert_eq!(code(1), ErrorCode::InvalidArgument);
    assert_eq!(get(cache, &ns, "n").unwrap(), i64::MAX.to_string(), "as it was");
    assert_eq!(add(cache, &ns, "n", i64::MIN), -1);
    assert_eq!(code(i64::MIN), ErrorCode::InvalidArgument);
    for text in ["text", "", "1.5", "9223372036854775808"] {
        set(cache, &ns, "n", text.as_bytes(), None);
        assert_eq!(code(1), ErrorCode::InvalidArgument, "{text:?}");
        assert_eq!(get(cache, &ns, "n").unwrap(), text, "as it was");
    }
    delete(cache, &ns, "n");
    assert_eq!(add(cache, &ns, "n", i64::MIN), i64::MIN);
}

fn number_keeps_its_time(cache: &dyn Cache) {
    let ns = namespace();
    set(cache, &ns, "n", b"5", Some(TTL));
    let begun = Instant::now();
    let sum = add(cache, &ns, "n", 1);
    if begun.elapsed() < TTL {
        assert_eq!(sum, 6);
    }
    std::thread::sleep(TTL);
    assert_eq!(get(cache, &ns, "n"), None);
    assert_eq!(add(cache, &ns, "n", 2), 2, "what is over counts as missing");
    std::thread::sleep(TTL);
    assert_eq!(get(cache, &ns, "n").unwrap(), "2", "and begins without an end");
}

fn concurrent_increments(cache: &dyn Cache) {
    const THREADS: usize = 8;
    const TIMES: usize = 250;
    let ns = namespace();
    let mut seen: Vec<i64> = std::thread::scope(|scope| {
        let count = || (0..TIMES).map(|_| add(cache, &ns, "n", 1)).collect::<Vec<_>>();
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(count)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    seen.sort_unstable();
    assert_eq!(seen, (1..=(THREADS * TIMES) as i64).collect::<Vec<_>>(), "each number was given once");
}

fn namespaces_are_apart(cache: &dyn Cache) {
    let (a, b) = (namespace(), namespace());
    set(cache, &a, "k", b"of a", None);
    assert_eq!(get(cache, &b, "k"), None);
    delete(cache, &b, "k");
    assert_eq!(get(cache, &a, "k").unwrap(), "of a");
    assert_eq!(add(cache, &b, "k", 1), 1);
    assert_eq!(get(cache, &a, "k").unwrap(), "of a");
    // No key of one is a key of the other, however it is spelled.
    for key in [format!("{a}:k"), format!("{a}/k"), format!("../{a}/k")] {
        assert_eq!(get(cache, &b, &key), None, "{key}");
    }
}

fn limits(cache: &dyn Cache) {
    let ns = namespace();
    let (key, longer) = ("k".repeat(CACHE_KEY_MAX_BYTES), "k".repeat(CACHE_KEY_MAX_BYTES + 1));
    let value = vec![7; CACHE_VALUE_MAX_BYTES];
    set(cache, &ns, &key, &value, None);
    assert_eq!(get(cache, &ns, &key).unwrap(), value);
    let too_large = Bytes::from(vec![7; CACHE_VALUE_MAX_BYTES + 1]);
    let refused = wait(cache.set(&ns, &key, too_large, None)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::PayloadTooLarge);
    assert!(refused.message.contains(&CACHE_VALUE_MAX_BYTES.to_string()), "{refused}");
    assert_eq!(get(cache, &ns, &key).unwrap(), value, "as it was");
    let codes = [
        wait(cache.get(&ns, &longer)).unwrap_err().code,
        wait(cache.set(&ns, &longer, Bytes::new(), None)).unwrap_err().code,
        wait(cache.delete(&ns, &longer)).unwrap_err().code,
        wait(cache.increment(&ns, &longer, 1)).unwrap_err().code,
    ];
    assert_eq!(codes, [ErrorCode::PayloadTooLarge; 4]);
}
