//! Counts the waiting jobs of each namespace, so that none can fill the disk or the memory.

use super::store::Counted;
use crate::limits::{
    EVENTS_UNWRITTEN_MAX_BYTES, EVENTS_UNWRITTEN_NAMESPACE_MAX_BYTES, JOBS_WAITING_MAX,
    JOBS_WAITING_MAX_BYTES, LATER_MAX, LATER_MAX_BYTES,
};
use orama_runtime::names::Namespace;
use orama_runtime::services::ServiceError;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::iter::Sum;

/// A number of jobs and the size of their data, counted for each job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) jobs: u64,
    pub(super) bytes: u64,
}

impl Sum for Waiting {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self { jobs: sum.jobs + one.jobs, bytes: sum.bytes + one.bytes })
    }
}

#[derive(Default)]
struct Tally {
    waiting: Waiting,
    /// Messages that wait for their time.
    later: Waiting,
    /// The part of it that is not committed yet.
    admitted: Waiting,
    /// Memory of its uncommitted events, in bytes.
    unwritten: usize,
}

#[derive(Default)]
struct All {
    namespaces: HashMap<Namespace, Tally>,
    unwritten: usize,
}

/// The tallies of all namespaces. A job counts from before its commit until its row is deleted.
#[derive(Default)]
pub(super) struct Tallies(Mutex<All>);

impl Tallies {
    fn with<T>(&self, work: impl FnOnce(&mut All) -> T) -> T {
        work(&mut self.0.lock())
    }

    /// Admits messages that need `cost` bytes of memory until they are committed, create `new` jobs, and wait for their time if
    /// they are `later` ones.
    ///
    /// # Errors
    /// Unavailable if a limit is reached.
    pub(super) fn admit(
        &self,
        namespace: &Namespace,
        new: Waiting,
        later: Waiting,
        cost: usize,
    ) -> Result<(), ServiceError> {
        self.with(|all| {
            let tally = all.namespaces.entry(namespace.clone()).or_default();
            let Waiting { jobs, bytes } = tally.waiting;
            if jobs + new.jobs > JOBS_WAITING_MAX || bytes + new.bytes > JOBS_WAITING_MAX_BYTES {
                return Err(ServiceError::unavailable(format!(
                    "too many events of this namespace wait for their functions: at most {JOBS_WAITING_MAX}, and \
                     {JOBS_WAITING_MAX_BYTES} bytes of data, may wait"
                )));
            }
            let all_later = [tally.later, later].into_iter().sum::<Waiting>();
            if later.jobs > 0 && (all_later.jobs > LATER_MAX || all_later.bytes > LATER_MAX_BYTES) {
                return Err(ServiceError::unavailable(format!(
                    "too many messages of this namespace wait for their time: at most {LATER_MAX}, and \
                     {LATER_MAX_BYTES} bytes of data, may wait"
                )));
            }
            if all.unwritten + cost > EVENTS_UNWRITTEN_MAX_BYTES
                || tally.unwritten + cost > EVENTS_UNWRITTEN_NAMESPACE_MAX_BYTES
            {
                return Err(ServiceError::unavailable("too many events are being published; try again soon"));
            }
            tally.waiting = Waiting { jobs: jobs + new.jobs, bytes: bytes + new.bytes };
            tally.later = all_later;
            tally.admitted.jobs += new.jobs;
            tally.admitted.bytes += new.bytes;
            tally.unwritten += cost;
            all.unwritten += cost;
            Ok(())
        })
    }

    /// Frees the memory of an admitted event, which was committed or has failed.
    pub(super) fn written(&self, namespace: &Namespace, jobs: Waiting, cost: usize) {
        self.with(|all| {
            all.unwritten = all.unwritten.saturating_sub(cost);
            if let Some(tally) = all.namespaces.get_mut(namespace) {
                tally.unwritten = tally.unwritten.saturating_sub(cost);
                tally.admitted.jobs = tally.admitted.jobs.saturating_sub(jobs.jobs);
                tally.admitted.bytes = tally.admitted.bytes.saturating_sub(jobs.bytes);
            }
            all.tidy(namespace);
        });
    }

    /// Adds waiting jobs without a check of the limits: jobs that existed before.
    pub(super) fn add(&self, namespace: &Namespace, new: Waiting) {
        self.with(|all| {
            let waiting = &mut all.namespaces.entry(namespace.clone()).or_default().waiting;
            waiting.jobs += new.jobs;
            waiting.bytes += new.bytes;
        });
    }

    /// Subtracts messages that waited for their time.
    pub(super) fn remove_later(&self, namespace: &Namespace, gone: Waiting) {
        self.with(|all| {
            if let Some(tally) = all.namespaces.get_mut(namespace) {
                tally.later.jobs = tally.later.jobs.saturating_sub(gone.jobs);
                tally.later.bytes = tally.later.bytes.saturating_sub(gone.bytes);
            }
            all.tidy(namespace);
        });
    }

    /// The number of messages of all namespaces that wait for their time.
    pub(super) fn later(&self) -> u64 {
        self.with(|all| all.namespaces.values().map(|tally| tally.later.jobs).sum())
    }

    /// Replaces the counts by a new count of the database: jobs, and messages that wait for their time. Admitted jobs that are
    /// not committed yet are added.
    pub(super) fn recount(&self, (mut counted, mut later): (Counted, Counted)) {
        self.with(|all| {
            for (namespace, tally) in &mut all.namespaces {
                let Waiting { jobs, bytes } = counted.remove(namespace).unwrap_or_default();
                let Waiting { jobs: more, bytes: more_bytes } = tally.admitted;
                tally.waiting = Waiting { jobs: jobs + more, bytes: bytes + more_bytes };
                tally.later = later.remove(namespace).unwrap_or_default();
            }
            for (namespace, waiting) in counted {
                let later = later.remove(&namespace).unwrap_or_default();
                all.namespaces.insert(namespace, Tally { waiting, later, ..Tally::default() });
            }
            for (namespace, later) in later {
                all.namespaces.insert(namespace, Tally { later, ..Tally::default() });
            }
            all.namespaces.retain(|_, tally| !tally.is_empty());
        });
    }

    /// Subtracts deleted jobs.
    pub(super) fn remove(&self, namespace: &Namespace, gone: Waiting) {
        self.with(|all| {
            if let Some(tally) = all.namespaces.get_mut(namespace) {
                tally.waiting.jobs = tally.waiting.jobs.saturating_sub(gone.jobs);
                tally.waiting.bytes = tally.waiting.bytes.saturating_sub(gone.bytes);
            }
            all.tidy(namespace);
        });
    }

    /// The number of jobs of all namespaces.
    pub(super) fn jobs(&self) -> u64 {
        self.with(|all| all.namespaces.values().map(|tally| tally.waiting.jobs).sum())
    }
}

impl Tally {
    fn is_empty(&self) -> bool {
        self.unwritten == 0 && self.waiting == Waiting::default() && self.later == Waiting::default()
    }
}

impl All {
    fn tidy(&mut self, namespace: &Namespace) {
        if self.namespaces.get(namespace).is_some_and(Tally::is_empty) {
            self.namespaces.remove(namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> Namespace {
        Namespace::new(name).unwrap()
    }

    #[test]
    fn a_namespace_that_has_too_much_waiting_is_refused_and_no_other() {
        let tallies = Tallies::default();
        let (a, b) = (namespace("a"), namespace("b"));
        let all_jobs = Waiting { jobs: JOBS_WAITING_MAX, bytes: 10 };
        tallies.admit(&a, all_jobs, Waiting::default(), 1).unwrap();
        let one = Waiting { jobs: 1, bytes: 1 };
        assert!(tallies.admit(&a, one, Waiting::default(), 1).is_err());
        tallies.admit(&b, one, Waiting::default(), 1).unwrap();
        tallies.remove(&a, one);
        tallies.admit(&a, one, Waiting::default(), 1).unwrap();
        assert_eq!(tallies.jobs(), JOBS_WAITING_MAX + 1);
        let all_bytes = Waiting { jobs: 1, bytes: JOBS_WAITING_MAX_BYTES };
        assert!(tallies.admit(&b, all_bytes, Waiting::default(), 1).is_err());
    }

    #[test]
    fn one_namespace_cannot_fill_the_queue_of_commits() {
        let tallies = Tallies::default();
        let (a, b) = (namespace("a"), namespace("b"));
        let one = Waiting { jobs: 1, bytes: 1 };
        tallies.admit(&a, one, Waiting::default(), EVENTS_UNWRITTEN_NAMESPACE_MAX_BYTES).unwrap();
        assert!(tallies.admit(&a, one, Waiting::default(), 1).is_err());
        tallies.admit(&b, one, Waiting::default(), 1).unwrap();
        tallies.written(&a, one, EVENTS_UNWRITTEN_NAMESPACE_MAX_BYTES);
        tallies.admit(&a, one, Waiting::default(), 1).unwrap();
        for name in ["c", "d", "e"] {
            tallies
                .admit(&namespace(name), one, Waiting::default(), EVENTS_UNWRITTEN_NAMESPACE_MAX_BYTES)
                .unwrap();
        }
        let share = EVENTS_UNWRITTEN_NAMESPACE_MAX_BYTES;
        assert!(
            tallies.admit(&namespace("f"), one, Waiting::default(), share).is_err(),
            "all together have a limit"
        );
    }

    #[test]
    fn a_new_count_keeps_what_is_not_committed() {
        let tallies = Tallies::default();
        let (a, b, c) = (namespace("a"), namespace("b"), namespace("c"));
        let some = |jobs| Waiting { jobs, bytes: jobs };
        tallies.admit(&a, some(3), Waiting::default(), 1).unwrap();
        tallies.add(&a, some(5));
        tallies.add(&b, some(7));
        tallies.recount((HashMap::from([(a.clone(), some(10)), (c, some(1))]), HashMap::new()));
        assert_eq!(tallies.jobs(), 10 + 3 + 1);
        tallies.written(&a, some(3), 1);
        tallies.recount((HashMap::from([(a, some(13))]), HashMap::new()));
        assert_eq!(tallies.jobs(), 13);
        assert_eq!(tallies.with(|all| all.namespaces.len()), 1);
    }

    #[test]
    fn a_namespace_without_anything_takes_no_memory() {
        let tallies = Tallies::default();
        let one = Waiting { jobs: 1, bytes: 1 };
        tallies.admit(&namespace("a"), one, Waiting::default(), 5).unwrap();
        tallies.written(&namespace("a"), one, 5);
        tallies.remove(&namespace("a"), one);
        assert!(tallies.with(|all| all.namespaces.is_empty()));
    }
}
