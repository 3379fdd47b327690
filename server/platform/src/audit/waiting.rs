//! Records that wait to be written: of what was refused, and of credentials that are not good.
//!
//! All of it is bounded, for each namespace and in total. What does not fit is counted, and the counts become records.

use super::{LOGIN, Record};
use crate::limits::{
    AUDIT_ADDRESSES_MAX, AUDIT_LOGINS_TOGETHER, AUDIT_LOGINS_WRITTEN_EVERY, AUDIT_REFUSED_PER_SECOND,
    AUDIT_WAITING_MAX,
};
use orama_store::clock::now_ms;
use orama_store::ids::new_id;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;

/// What records are called that stand for others, which were only counted.
const MORE: &str = "refused";
/// The outcome of those.
const TOO_MANY: &str = "TOO_MANY_TO_RECORD";
/// The outcome of a credential that is not good.
const UNAUTHORIZED: &str = "UNAUTHORIZED";

/// See the module.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<All>);

#[derive(Default)]
struct All {
    records: Vec<Record>,
    /// By namespace; as many as [`AUDIT_WAITING_MAX`] at most.
    counts: HashMap<String, Counts>,
    /// Refusals of namespaces that are not among them.
    of_others: u64,
    /// By address, `None` for all addresses beyond [`AUDIT_ADDRESSES_MAX`].
    logins: HashMap<Option<IpAddr>, Logins>,
}

/// Refusals of a namespace since the last write.
#[derive(Default)]
struct Counts {
    recorded: usize,
    more: u64,
}

/// Bad credentials from one address.
struct Logins {
    id: String,
    first_ms: i64,
    count: u64,
    written: u64,
    written_ms: i64,
}

impl Logins {
    fn new(now_ms: i64) -> Self {
        Self { id: new_id(), first_ms: now_ms, count: 0, written: 0, written_ms: 0 }
    }

    /// Whether the row of this address should be written now: the first time at once.
    fn is_due(&self, now_ms: i64) -> bool {
        let pause_ms = AUDIT_LOGINS_WRITTEN_EVERY.as_millis() as i64;
        self.count > self.written
            && (self.written == 0 || self.is_over(now_ms) || now_ms - self.written_ms >= pause_ms)
    }

    /// Whether a later failure begins another record.
    fn is_over(&self, now_ms: i64) -> bool {
        now_ms - self.first_ms >= AUDIT_LOGINS_TOGETHER.as_millis() as i64
    }

    fn record(&self, address: Option<IpAddr>) -> Record {
        Record {
            id: self.id.clone(),
            at_ms: self.first_ms,
            namespace: String::new(),
            key_id: String::new(),
            subject: String::new(),
            address: address.map(|address| address.to_string()).unwrap_or_default(),
            action: LOGIN.to_owned(),
            target: if address.is_some() { String::new() } else { "from further addresses".to_owned() },
            outcome: UNAUTHORIZED.to_owned(),
            count: self.count,
        }
    }
}

/// What one write takes along.
pub(crate) struct Batch {
    pub(crate) records: Vec<Record>,
    /// Of `records`, those that are refusals and counts of them; rows of logins follow.
    refusals: usize,
    /// Which logins are among the records, with their counts.
    logins: Vec<(Option<IpAddr>, u64)>,
    at_ms: i64,
}

impl Waiting {
    /// Notes something that a known credential was refused.
    pub(crate) fn refuse(&self, record: Record) {
        self.0.lock().refuse(record);
    }

    /// Notes a credential that is not good.
    pub(crate) fn login_failed(&self, address: IpAddr) {
        let all = &mut *self.0.lock();
        let is_known = all.logins.contains_key(&Some(address)) || all.logins.len() < AUDIT_ADDRESSES_MAX;
        let logins = all.logins.entry(is_known.then_some(address)).or_insert_with(|| Logins::new(now_ms()));
        logins.count += 1;
    }

    /// Takes what is to be written now; `None` if that is nothing. With `is_last`, everything.
    pub(crate) fn take(&self, now_ms: i64, is_last: bool) -> Option<Batch> {
        let all = &mut *self.0.lock();
        let mut records = std::mem::take(&mut all.records);
        let counts = std::mem::take(&mut all.counts);
        let of_others = (String::new(), std::mem::take(&mut all.of_others));
        let more = counts.into_iter().map(|(namespace, counts)| (namespace, counts.more)).chain([of_others]);
        records.extend(more.filter(|(_, more)| *more > 0).map(|(namespace, more)| counted(namespace, more)));
        let refusals = records.len();
        let mut logins = Vec::new();
        for (address, of) in &all.logins {
            if of.is_due(now_ms) || (is_last && of.count > of.written) {
                records.push(of.record(*address));
                logins.push((*address, of.count));
            }
        }
        all.logins.retain(|_, of| of.count > of.written || !of.is_over(now_ms));
        (!records.is_empty()).then_some(Batch { records, refusals, logins, at_ms: now_ms })
    }

    /// Notes that a batch was written.
    pub(crate) fn written(&self, batch: &Batch) {
        let all = &mut *self.0.lock();
        for (address, count) in &batch.logins {
            if let Some(of) = all.logins.get_mut(address) {
                (of.written, of.written_ms) = (*count, batch.at_ms);
            }
        }
    }

    /// Takes a batch back that could not be written. Logins are still there.
    pub(crate) fn give_back(&self, batch: Batch) {
        let all = &mut *self.0.lock();
        for record in batch.records.into_iter().take(batch.refusals) {
            all.refuse(record);
        }
    }
}

impl All {
    fn refuse(&mut self, record: Record) {
        let is_full = self.counts.len() >= AUDIT_WAITING_MAX;
        let counts = match self.counts.get_mut(&record.namespace) {
            Some(counts) => counts,
            None if is_full => {
                self.of_others += record.count;
                return;
            }
            None => self.counts.entry(record.namespace.clone()).or_default(),
        };
        let is_count = record.outcome == TOO_MANY;
        if !is_count && counts.recorded < AUDIT_REFUSED_PER_SECOND && self.records.len() < AUDIT_WAITING_MAX {
            counts.recorded += 1;
            self.records.push(record);
        } else {
            counts.more += record.count;
        }
    }
}

/// The record of refusals that were only counted.
fn counted(namespace: String, more: u64) -> Record {
    Record {
        id: new_id(),
        at_ms: now_ms(),
        namespace,
        key_id: String::new(),
        subject: String::new(),
        address: String::new(),
        action: MORE.to_owned(),
        target: format!("{more} more requests"),
        outcome: TOO_MANY.to_owned(),
        count: more,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(namespace: &str) -> Record {
        Record { namespace: namespace.to_owned(), action: "deploy".to_owned(), ..counted(String::new(), 1) }
    }

    fn of(waiting: &Waiting, namespace: &str) -> Record {
        let record = Record { outcome: "FORBIDDEN".to_owned(), count: 1, ..refused(namespace) };
        waiting.refuse(record.clone());
        record
    }

    #[test]
    fn a_flood_of_refusals_is_counted_and_leaves_room_for_others() {
        let waiting = Waiting::default();
        for _ in 0..100_000 {
            of(&waiting, "loud");
        }
        of(&waiting, "quiet");
        let batch = waiting.take(now_ms(), false).unwrap();
        let count = |namespace: &str, outcome: &str| -> (usize, u64) {
            let found = batch.records.iter().filter(|r| r.namespace == namespace && r.outcome == outcome);
            found.fold((0, 0), |(rows, count), record| (rows + 1, count + record.count))
        };
        let each = AUDIT_REFUSED_PER_SECOND;
        assert_eq!(count("loud", "FORBIDDEN"), (each, each as u64));
        assert_eq!(count("loud", TOO_MANY), (1, 100_000 - each as u64));
        assert_eq!(count("quiet", "FORBIDDEN"), (1, 1));

        // What could not be written comes again, and nothing of it is lost.
        waiting.give_back(batch);
        let again = waiting.take(now_ms(), false).unwrap();
        assert_eq!(again.records.iter().map(|record| record.count).sum::<u64>(), 100_001);
        assert!(waiting.take(now_ms(), false).is_none());

        for n in 0..100_000 {
            of(&waiting, &format!("n{n}"));
        }
        let batch = waiting.take(now_ms(), false).unwrap();
        assert!(batch.records.len() <= 2 * AUDIT_WAITING_MAX + 1, "{}", batch.records.len());
        assert_eq!(batch.records.iter().map(|record| record.count).sum::<u64>(), 100_000);
    }

    #[test]
    fn bad_credentials_of_an_address_are_one_record_that_counts() {
        let (waiting, now) = (Waiting::default(), now_ms());
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..1000 {
            waiting.login_failed(address);
        }
        let first = waiting.take(now, false).unwrap();
        assert_eq!((first.records.len(), first.records[0].count), (1, 1000));
        waiting.written(&first);
        assert!(waiting.take(now, false).is_none(), "nothing is new");
        waiting.login_failed(address);
        assert!(waiting.take(now + 1000, false).is_none(), "it waits for others");
        let pause = AUDIT_LOGINS_WRITTEN_EVERY.as_millis() as i64;
        let second = waiting.take(now + pause, false).unwrap();
        assert_eq!((second.records.len(), second.records[0].count), (1, 1001));
        assert_eq!(second.records[0].id, first.records[0].id, "it is the same record");
        waiting.written(&second);
        // Later ones are another record.
        let later = now + 2 * AUDIT_LOGINS_TOGETHER.as_millis() as i64;
        assert!(waiting.take(later, false).is_none());
        waiting.login_failed(address);
        let third = waiting.take(later, false).unwrap();
        assert_eq!(third.records[0].count, 1);
        assert_ne!(third.records[0].id, first.records[0].id);

        for n in 0..100_000_u32 {
            waiting.login_failed(IpAddr::from(n.to_be_bytes()));
        }
        let batch = waiting.take(later, true).unwrap();
        assert!(batch.records.len() <= AUDIT_ADDRESSES_MAX + 1, "{}", batch.records.len());
        assert_eq!(batch.records.iter().map(|record| record.count).sum::<u64>(), 100_001);
    }
}
