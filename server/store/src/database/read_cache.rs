//! The read cache: rows in memory in front of any database, for functions that allow them to be stale for a while.
//!
//! A write of this node advances its namespace's generation before it is answered. Rows are stored under the generation from
//! before they were read. So a function never reads rows from before a write that this node acknowledged. It sees what other
//! nodes write when the time that it allowed is over.

use crate::cache::memory::MemoryCache;
use crate::limits::DB_READS_KEPT_MAX_BYTES;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};
use orama_runtime::limits::CACHE_VALUE_MAX_BYTES;
use orama_runtime::names::Namespace;
use orama_runtime::services::{
    Answer, BatchMode, BatchOutcome, Cache, Consistency, Database, SqlValue, Statement, StatementResult,
};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

type Flight = Shared<Answer<BatchOutcome>>;
type Flights = HashMap<(Namespace, String), WeakShared<Answer<BatchOutcome>>>;

/// A database with a read cache. Clones share it.
#[derive(Clone)]
pub struct ReadCache(Arc<Inner>);

struct Inner {
    database: Arc<dyn Database>,
    rows: MemoryCache,
    /// For namespaces that have asked for cached rows.
    generations: RwLock<HashMap<Namespace, Arc<AtomicU64>>>,
    /// Never reused, so that a new namespace does not find rows of an old one with its name.
    next_generation: AtomicU64,
    /// Reads in progress (single-flight). Weak, so that a read that nobody waits for frees its place in the database.
    flights: Mutex<Flights>,
}

impl ReadCache {
    /// Wraps a database.
    #[must_use]
    pub fn new(database: Arc<dyn Database>) -> Self {
        Self(Arc::new(Inner {
            database,
            rows: MemoryCache::new(DB_READS_KEPT_MAX_BYTES),
            generations: RwLock::default(),
            next_generation: AtomicU64::new(0),
            flights: Mutex::default(),
        }))
    }

    /// Drops the cached rows of a namespace.
    pub fn remove(&self, namespace: &Namespace) {
        self.0.generations.write().remove(namespace);
        self.0.rows.remove(namespace);
    }
}

impl Inner {
    fn find_generation(&self, namespace: &Namespace) -> Option<Arc<AtomicU64>> {
        self.generations.read().get(namespace).cloned()
    }

    fn generation(&self, namespace: &Namespace) -> u64 {
        let known = self.find_generation(namespace).unwrap_or_else(|| {
            let mut all = self.generations.write();
            let new = || Arc::new(AtomicU64::new(self.new_generation()));
            Arc::clone(all.entry(namespace.clone()).or_insert_with(new))
        });
        known.load(Ordering::Acquire)
    }

    fn new_generation(&self) -> u64 {
        self.next_generation.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes all rows that were read earlier stale.
    fn wrote(&self, namespace: &Namespace) {
        if let Some(generation) = self.find_generation(namespace) {
            generation.store(self.new_generation(), Ordering::Release);
        }
    }

    /// Reads, caches the rows, and answers all callers that wait for the same read.
    fn fly(
        self: &Arc<Self>,
        namespace: &Namespace,
        key: String,
        statements: Vec<Statement>,
        within: Duration,
        deadline: Instant,
    ) -> Flight {
        let mut flights = self.flights.lock();
        let place = (namespace.clone(), key.clone());
        if let Some(flight) = flights.get(&place).and_then(WeakShared::upgrade) {
            return flight;
        }
        let read = self.database.run(namespace, BatchMode::Read(Consistency::Weak), statements, deadline);
        let this = Arc::clone(self);
        let landing = place.clone();
        let flight: Answer<BatchOutcome> = Box::pin(async move {
            let outcome = read.await;
            if outcome.failure.is_none()
                && let Some(rows) = encode(&outcome.results)
            {
                // The cache is in memory and answers at once. A value that it does not store is read again.
                let _ = this.rows.set(&landing.0, &key, rows, Some(within)).await;
            }
            this.flights.lock().remove(&landing);
            outcome
        });
        let flight = flight.shared();
        flights.retain(|_, flight| flight.upgrade().is_some());
        flights.extend(flight.downgrade().map(|weak| (place, weak)));
        flight
    }
}

impl Database for ReadCache {
    fn run(
        &self,
        namespace: &Namespace,
        mode: BatchMode,
        statements: Vec<Statement>,
        deadline: Instant,
    ) -> Answer<BatchOutcome> {
        let inner = Arc::clone(&self.0);
        let namespace = namespace.clone();
        let within = match mode {
            BatchMode::Read(Consistency::Within(within)) => within,
            BatchMode::Read(_) => return inner.database.run(&namespace, mode, statements, deadline),
            BatchMode::Write => {
                let outcome = inner.database.run(&namespace, mode, statements, deadline);
                return Box::pin(async move {
                    let outcome = outcome.await;
                    // Also after a failure, because the commit may have happened.
                    inner.wrote(&namespace);
                    outcome
                });
            }
        };
        let key = key(inner.generation(&namespace), within, &statements);
        if let Some(Ok(Some(rows))) = inner.rows.get(&namespace, &key).now_or_never()
            && let Some(results) = decode(&rows)
        {
            return Box::pin(ready(BatchOutcome { committed: true, results, failure: None }));
        }
        let flight = inner.fly(&namespace, key, statements.clone(), within, deadline);
        Box::pin(async move {
            let outcome = flight.await;
            if outcome.failure.is_none() {
                return outcome;
            }
            // It may have failed only for the caller that began it, for example because of an earlier deadline.
            inner.database.run(&namespace, BatchMode::Read(Consistency::Weak), statements, deadline).await
        })
    }
}

/// The cache key: a hash of everything that determines the rows.
fn key(generation: u64, within: Duration, statements: &[Statement]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&generation.to_le_bytes()).update(&within.as_secs().to_le_bytes());
    let text = |hasher: &mut blake3::Hasher, kind: u8, bytes: &[u8]| {
        hasher.update(&[kind]).update(&bytes.len().to_le_bytes()).update(bytes);
    };
    for Statement { sql, args, .. } in statements {
        text(&mut hasher, 0, sql.as_bytes());
        for arg in args {
            match arg {
                SqlValue::Null => text(&mut hasher, 1, &[]),
                SqlValue::Integer(value) => text(&mut hasher, 2, &value.to_le_bytes()),
                SqlValue::Real(value) => text(&mut hasher, 3, &value.to_le_bytes()),
                SqlValue::Text(value) => text(&mut hasher, 4, value.as_bytes()),
                SqlValue::Blob(value) => text(&mut hasher, 5, value),
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// Encodes the results: for each query the number of rows, their length and their text. `None` if they are too large to cache, or
/// if there is no query.
fn encode(results: &[StatementResult]) -> Option<Bytes> {
    let mut bytes = Vec::new();
    for result in results {
        let StatementResult::Query { rows, row_count } = result else { return None };
        bytes.extend_from_slice(&u64::try_from(*row_count).ok()?.to_le_bytes());
        bytes.extend_from_slice(&u64::try_from(rows.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(rows.as_bytes());
        if bytes.len() > CACHE_VALUE_MAX_BYTES {
            return None;
        }
    }
    Some(bytes.into())
}

fn decode(mut bytes: &[u8]) -> Option<Vec<StatementResult>> {
    let mut results = Vec::new();
    while !bytes.is_empty() {
        let (row_count, rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (rows, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        results.push(StatementResult::Query {
            rows: String::from_utf8(rows.to_vec()).ok()?,
            row_count: usize::try_from(u64::from_le_bytes(*row_count)).ok()?,
        });
        bytes = rest;
    }
    Some(results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_runtime::services::{BatchFailure, ServiceError, StatementKind};
    use std::sync::atomic::AtomicUsize;

    /// Counts its reads; a row tells how many there were. It waits for a word, and fails while it is told to.
    struct Counting {
        reads: AtomicUsize,
        fails: AtomicUsize,
        pause: Duration,
    }

    impl Database for Counting {
        fn run(
            &self,
            _: &Namespace,
            mode: BatchMode,
            statements: Vec<Statement>,
            _: Instant,
        ) -> Answer<BatchOutcome> {
            let pause = self.pause;
            let fails = self.fails.load(Ordering::Relaxed) > 0;
            if fails {
                self.fails.fetch_sub(1, Ordering::Relaxed);
            }
            let reads = match mode {
                BatchMode::Write => self.reads.load(Ordering::Relaxed),
                BatchMode::Read(_) => self.reads.fetch_add(1, Ordering::Relaxed),
            };
            Box::pin(async move {
                tokio::time::sleep(pause).await;
                if fails {
                    let failure = BatchFailure::from(ServiceError::unavailable("down"));
                    return BatchOutcome { failure: Some(failure), ..BatchOutcome::default() };
                }
                let rows = format!("[{{\"n\":{reads}}}]");
                let results =
                    statements.iter().map(|_| StatementResult::Query { rows: rows.clone(), row_count: 1 });
                BatchOutcome { committed: true, results: results.collect(), failure: None }
            })
        }
    }

    fn database(pause: Duration) -> (Arc<Counting>, ReadCache) {
        let counting = Arc::new(Counting { reads: AtomicUsize::new(0), fails: AtomicUsize::new(0), pause });
        (Arc::clone(&counting), ReadCache::new(counting))
    }

    fn select(sql: &str) -> Vec<Statement> {
        vec![
            Statement { kind: StatementKind::Query, sql: sql.to_owned(), args: vec![SqlValue::Integer(1)] };
            2
        ]
    }

    async fn ask(kept: &ReadCache, namespace: &str, mode: BatchMode, sql: &str) -> BatchOutcome {
        let deadline = Instant::now() + Duration::from_secs(60);
        kept.run(&Namespace::new(namespace).unwrap(), mode, select(sql), deadline).await
    }

    const MINUTE: BatchMode = BatchMode::Read(Consistency::Within(Duration::from_secs(60)));

    #[tokio::test]
    async fn rows_are_kept_for_those_who_allow_it_until_this_node_writes() {
        let (counting, kept) = database(Duration::ZERO);
        let first = ask(&kept, "a", MINUTE, "A").await;
        assert_eq!(first.results.len(), 2);
        assert_eq!(ask(&kept, "a", MINUTE, "A").await, first);
        assert_eq!(counting.reads.load(Ordering::Relaxed), 1);
        for (namespace, mode, sql) in [
            ("b", MINUTE, "A"),
            ("a", MINUTE, "B"),
            ("a", BatchMode::Read(Consistency::Within(Duration::from_secs(59))), "A"),
            ("a", BatchMode::Read(Consistency::Weak), "A"),
            ("a", BatchMode::Read(Consistency::Strong), "A"),
        ] {
            assert_ne!(ask(&kept, namespace, mode, sql).await, first, "{namespace} {mode:?} {sql}");
        }
        ask(&kept, "b", BatchMode::Write, "W").await;
        assert_eq!(ask(&kept, "a", MINUTE, "A").await, first, "another namespace wrote");
        ask(&kept, "a", BatchMode::Write, "W").await;
        assert_ne!(ask(&kept, "a", MINUTE, "A").await, first);
    }

    #[tokio::test]
    async fn rows_grow_too_old_and_a_new_namespace_meets_none_of_an_old_one() {
        let (_, kept) = database(Duration::ZERO);
        let second = BatchMode::Read(Consistency::Within(Duration::from_secs(1)));
        let first = ask(&kept, "a", second, "A").await;
        while ask(&kept, "a", second, "A").await == first {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let first = ask(&kept, "a", MINUTE, "A").await;
        kept.remove(&Namespace::new("a").unwrap());
        assert_ne!(ask(&kept, "a", MINUTE, "A").await, first);
    }

    #[tokio::test]
    async fn many_who_want_the_same_read_once_and_a_failure_is_not_kept() {
        let (counting, kept) = database(Duration::from_millis(50));
        let asked = (0..20).map(|_| ask(&kept, "a", MINUTE, "A"));
        let outcomes = futures_util::future::join_all(asked).await;
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
        assert_eq!(counting.reads.load(Ordering::Relaxed), 1);
        counting.fails.store(1, Ordering::Relaxed);
        let outcome = ask(&kept, "a", MINUTE, "B").await;
        assert_eq!(outcome.failure, None, "the one who began it asks once more for itself");
        assert!(kept.0.flights.lock().is_empty());
    }

    #[test]
    fn what_is_kept_is_what_was_read() {
        let query = |rows: &str, row_count| StatementResult::Query { rows: rows.to_owned(), row_count };
        for results in
            [vec![], vec![query("[]", 0)], vec![query("[{\"ä\":1}]", 1), query("", 0), query("[1]", 7)]]
        {
            assert_eq!(decode(&encode(&results).unwrap()).unwrap(), results);
        }
        assert_eq!(encode(&[query(&"x".repeat(CACHE_VALUE_MAX_BYTES), 1)]), None);
        assert_eq!(decode(b"12345678"), None);
        assert_eq!(decode(&[0xff; 16]), None);
    }
}
