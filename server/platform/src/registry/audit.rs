//! The audit trail in the registry: records that are written with the changes that they are about.

use super::{Registry, RegistryError, now_ms};
use crate::audit::{self, Change, Record};
use crate::limits::{
    AUDIT_CHANGES_MAX, AUDIT_PRUNED_AT_ONCE, AUDIT_PRUNED_EVERY, AUDIT_REFUSALS_MAX, AUDIT_SCANNED_MAX,
    AUDIT_WRITTEN_EVERY,
};
use orama_runtime::names::Namespace;
use orama_store::blocking::{TaskFailed, blocking};
use orama_store::causes::Causes;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// A record of logins is written again when its count has grown.
const INSERT: &str = "
INSERT INTO audit (id, namespace, since_ms, at_ms, key_id, subject, address, action, target, outcome, count)
VALUES (?1, ?2, coalesce((SELECT created_at_ms FROM namespaces WHERE name = ?2), 0), ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
ON CONFLICT (id) DO UPDATE SET count = max(count, excluded.count)";

/// Which records to read.
#[derive(Debug, Default, Clone)]
pub struct AuditFilter {
    /// At most this many; the newest are returned.
    pub limit: u32,
    /// Only those older than the record with this id; empty for all.
    pub after: String,
    /// Only from this time on, in milliseconds since the Unix epoch.
    pub since_ms: Option<i64>,
    /// Only up to this time.
    pub until_ms: Option<i64>,
    /// Only this action, or those of this group: `alias` stands for `alias.set` and `alias.delete`.
    pub action: Option<String>,
    /// Only this key's.
    pub key_id: Option<String>,
}

impl AuditFilter {
    fn takes(&self, record: &Record) -> bool {
        let is_action = |action: &String| {
            let rest = record.action.strip_prefix(action.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.action.as_ref().is_none_or(is_action)
            && self.key_id.as_ref().is_none_or(|key_id| record.key_id == *key_id)
    }

    /// The ids between which records are looked for: from the first one, up to and without the second one.
    fn range(&self) -> (String, String) {
        let from = self.since_ms.map_or_else(String::new, id_at);
        // No id begins with a letter after f.
        let to = self.until_ms.map_or_else(|| "g".to_owned(), |ms| id_at(ms.saturating_add(1)));
        let to = if self.after.is_empty() { to } else { to.min(self.after.clone()) };
        (from, to)
    }
}

/// How ids of a time begin.
fn id_at(ms: i64) -> String {
    let ms = ms.clamp(0, (1 << 48) - 1);
    format!("{:08x}-{:04x}", ms >> 16, ms & 0xffff)
}

/// Whose records to read.
#[derive(Debug, Clone, Copy)]
pub enum AuditOf<'a> {
    /// Everybody's, and those of operators.
    All,
    /// All that ever were of a namespace of this name.
    Name(&'a str),
    /// A namespace's own. One of the same name that was deleted was another one.
    Namespace(&'a Namespace),
}

impl Registry {
    /// [`orama_store::sqlite::Database::write`] for a change of the control plane: the record of the change under way becomes
    /// part of the transaction. Work that changes nothing leaves none.
    pub(super) fn change<T>(
        &self,
        mut work: impl FnMut(&Transaction<'_>) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let Some(change) = audit::current() else { return self.database.write(work) };
        let mut recorded = None;
        let value = self.database.write(|t| {
            let before = t.total_changes();
            let value = work(t)?;
            // Made anew each time: the work may have said what it is about.
            recorded = if t.total_changes() > before { change.done() } else { None };
            if let Some(record) = &recorded {
                insert(t, record)?;
            }
            Ok::<_, RegistryError>(value)
        })?;
        if let Some(record) = recorded {
            change.written(&record);
        }
        Ok(value)
    }

    /// Records a change that succeeded, unless its transaction has done so. Blocks.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn record_change(&self, change: &Change) -> Result<(), RegistryError> {
        if let Some(record) = change.done() {
            self.database.write(|t| insert(t, &record))?;
            change.written(&record);
        }
        Ok(())
    }

    /// Records soon that a change was refused, with the code of the error.
    pub fn record_refusal(&self, change: &Change, code: &str) {
        self.audit.refuse(change.refused(code));
    }

    /// Records soon that a credential was not good.
    pub fn record_bad_credential(&self, address: IpAddr) {
        self.audit.login_failed(address);
    }

    /// Writes what waits to be recorded. With `is_last`, everything. Blocks.
    pub(crate) fn write_audit(&self, is_last: bool) {
        let Some(batch) = self.audit.take(now_ms(), is_last) else { return };
        let written = self.database.write(|t| batch.records.iter().try_for_each(|record| insert(t, record)));
        match written {
            Ok(()) => {
                batch.records.iter().for_each(Record::log);
                self.audit.written(&batch);
            }
            Err(error) => {
                tracing::warn!(error = %Causes(&error), "refusals could not be recorded; the node tries again");
                self.audit.give_back(batch);
            }
        }
    }

    /// Writes what waits, and removes what is older than `keep`, as long as the node runs.
    pub fn start_audit(&self, backplane: &Handle, keep: Duration) {
        let registry = self.clone();
        backplane.spawn(async move {
            let mut pruned: Option<Instant> = None;
            loop {
                tokio::time::sleep(AUDIT_WRITTEN_EVERY).await;
                let prunes = pruned.is_none_or(|pruned| pruned.elapsed() >= AUDIT_PRUNED_EVERY);
                if prunes {
                    pruned = Some(Instant::now());
                }
                let registry = registry.clone();
                let work = move || {
                    registry.look_after_audit(prunes.then_some(keep));
                    Ok::<_, TaskFailed>(())
                };
                if let Err(error) = blocking(work).await {
                    tracing::error!(%error, "refusals were not recorded");
                }
            }
        });
    }

    /// Writes what waits, and removes what is older than `keep`.
    fn look_after_audit(&self, keep: Option<Duration>) {
        self.write_audit(false);
        let pruned = keep.map_or(Ok(()), |keep| self.prune_audit(keep));
        if let Err(error) = pruned {
            tracing::warn!(error = %Causes(&error), "old records of the audit trail were not removed");
        }
    }

    /// Removes records that are older than `keep`, and the oldest ones of namespaces that have too many. Blocks.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn prune_audit(&self, keep: Duration) -> Result<(), RegistryError> {
        let oldest = id_at(now_ms().saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)));
        let has_old = "SELECT EXISTS (SELECT 1 FROM audit WHERE id < ?1)";
        // A write costs a round trip where nodes share the registry.
        while self.database.read(|c| c.prepare_cached(has_old)?.query_row([&oldest], |row| row.get(0)))? {
            let delete =
                "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id < ?1 ORDER BY id LIMIT ?2)";
            self.delete_audit(delete, &[&oldest, &AUDIT_PRUNED_AT_ONCE])?;
        }
        for (namespace, is_done, count) in self.audit_counts()? {
            let mut over = count.saturating_sub(if is_done { AUDIT_CHANGES_MAX } else { AUDIT_REFUSALS_MAX });
            while over > 0 {
                let now = over.min(u64::from(AUDIT_PRUNED_AT_ONCE));
                let delete = "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE namespace = ?1
                    AND (outcome = 'ok') = ?2 ORDER BY id LIMIT ?3)";
                self.delete_audit(delete, &[&namespace, &is_done, &(now as u32)])?;
                over -= now;
            }
        }
        Ok(())
    }

    fn delete_audit(&self, delete: &str, values: &[&dyn rusqlite::ToSql]) -> Result<(), RegistryError> {
        self.database.write(|t| {
            t.prepare_cached(delete)?.execute(values)?;
            Ok(())
        })
    }

    /// How many records there are, by namespace and by whether something was done.
    fn audit_counts(&self) -> Result<Vec<(String, bool, u64)>, RegistryError> {
        self.database.read(|c| {
            let mut statement =
                c.prepare_cached("SELECT namespace, outcome = 'ok', count(*) FROM audit GROUP BY 1, 2")?;
            let rows = statement.query_map([], |row| {
                let count: i64 = row.get(2)?;
                Ok((row.get(0)?, row.get(1)?, u64::try_from(count).unwrap_or(0)))
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Reads records, newest first, and the cursor of the next page. Blocks.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn audit(
        &self,
        of: AuditOf<'_>,
        filter: &AuditFilter,
    ) -> Result<(Vec<Record>, Option<String>), RegistryError> {
        const COLUMNS: &str =
            "SELECT id, at_ms, namespace, key_id, subject, address, action, target, outcome, count,
            since_ms FROM audit";
        let (from, to) = filter.range();
        self.database.read(|c| {
            let (name, since_ms) = match of {
                AuditOf::All => (None, None),
                AuditOf::Name(name) => (Some(name), None),
                AuditOf::Namespace(namespace) => {
                    let created = "SELECT created_at_ms FROM namespaces WHERE name = ?1";
                    let created: Option<i64> =
                        c.query_row(created, [namespace.as_str()], |row| row.get(0)).optional()?;
                    (Some(namespace.as_str()), Some(created.unwrap_or(i64::MAX)))
                }
            };
            let is_of = if name.is_some() { "namespace = ?3" } else { "?3 IS NULL" };
            let sql = format!("{COLUMNS} WHERE id >= ?1 AND id < ?2 AND {is_of} ORDER BY id DESC");
            let mut statement = c.prepare_cached(&sql)?;
            let mut rows = statement.query(params![from, to, name])?;
            let (mut found, mut last, mut scanned) = (Vec::new(), None, 0);
            while let Some(row) = rows.next()? {
                if found.len() >= filter.limit as usize || scanned >= AUDIT_SCANNED_MAX {
                    return Ok((found, last));
                }
                let (record, of_ms) = (stored(row)?, row.get::<_, i64>(10)?);
                scanned += 1;
                last = Some(record.id.clone());
                if since_ms.is_none_or(|since_ms| of_ms == since_ms) && filter.takes(&record) {
                    found.push(record);
                }
            }
            Ok((found, None))
        })
    }
}

fn insert(t: &Transaction<'_>, record: &Record) -> Result<(), RegistryError> {
    t.prepare_cached(INSERT)?.execute(params![
        record.id,
        record.namespace,
        record.at_ms,
        record.key_id,
        record.subject,
        record.address,
        record.action,
        record.target,
        record.outcome,
        i64::try_from(record.count).unwrap_or(i64::MAX),
    ])?;
    Ok(())
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        id: row.get(0)?,
        at_ms: row.get(1)?,
        namespace: row.get(2)?,
        key_id: row.get(3)?,
        subject: row.get(4)?,
        address: row.get(5)?,
        action: row.get(6)?,
        target: row.get(7)?,
        outcome: row.get(8)?,
        count: u64::try_from(row.get::<_, i64>(9)?).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{OK, Who, blocking as with_change, within};
    use orama_store::ids::new_id;
    use std::sync::Arc;

    fn record(namespace: &str, at_ms: i64, outcome: &str) -> Record {
        let random = &new_id()[14..];
        Record {
            id: format!("{}-{random}", id_at(at_ms)),
            at_ms,
            namespace: namespace.to_owned(),
            key_id: "k".to_owned(),
            subject: String::new(),
            address: "192.0.2.1".to_owned(),
            action: "alias.set".to_owned(),
            target: "f@live".to_owned(),
            outcome: outcome.to_owned(),
            count: 1,
        }
    }

    fn all(registry: &Registry) -> Vec<Record> {
        let filter = AuditFilter { limit: 100_000, ..AuditFilter::default() };
        registry.audit(AuditOf::All, &filter).unwrap().0
    }

    #[test]
    fn age_and_number_bound_the_trail_and_refusals_displace_no_changes() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        let (now, keep) = (now_ms(), Duration::from_hours(24));
        let changes = AUDIT_CHANGES_MAX as i64;
        let refusals = AUDIT_REFUSALS_MAX as i64;
        registry
            .database
            .write(|t| {
                for n in 0..700 {
                    insert(t, &record("old", now - 24 * 3_600_000 - 1000 - n, OK))?;
                }
                (0..changes + 100).try_for_each(|n| insert(t, &record("loud", now - 50_000 + n, OK)))?;
                (0..refusals + 900).try_for_each(|n| insert(t, &record("loud", now - n, "FORBIDDEN")))?;
                insert(t, &record("quiet", now - 60_000, OK))
            })
            .unwrap();
        registry.prune_audit(keep).unwrap();
        let counts = registry.audit_counts().unwrap();
        let of = |namespace: &str, is_done| {
            counts.iter().find(|(name, done, _)| name == namespace && *done == is_done).map(|of| of.2)
        };
        assert_eq!(of("loud", true), Some(AUDIT_CHANGES_MAX));
        assert_eq!(of("loud", false), Some(AUDIT_REFUSALS_MAX));
        assert_eq!((of("quiet", true), of("old", true)), (Some(1), None));
        let newest = all(&registry).into_iter().find(|record| record.outcome == OK).unwrap();
        assert_eq!(newest.at_ms, now - 50_000 + changes + 99, "the oldest ones went");
    }

    /// What a request might do: a change that is rolled back, one of nothing, and two that are made.
    fn act(registry: &Registry, namespace: &Namespace) {
        let failed = registry.change(|t| {
            t.execute("UPDATE namespaces SET created_at_ms = 1", [])?;
            Err::<(), _>(RegistryError::NoNamespace("a".to_owned()))
        });
        assert!(failed.is_err() && all(registry).is_empty(), "it was rolled back");
        assert!(!registry.delete_key("absent").unwrap());
        assert!(all(registry).is_empty(), "nothing was changed");
        registry.create_key(namespace, crate::auth::Role::Invoke).unwrap();
        registry.create_key(namespace, crate::auth::Role::Invoke).unwrap();
    }

    #[tokio::test]
    async fn a_change_is_recorded_with_its_transaction_and_a_refusal_is_not_its_success() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        let namespace = Namespace::new("a").unwrap();
        registry.create_namespace(&namespace).unwrap();
        assert!(all(&registry).is_empty(), "nobody asked for it");
        let subject = Some("x".repeat(1000));
        let who =
            Who { namespace: namespace.clone(), key_id: "k".to_owned(), subject, address: "::1".to_owned() };
        let change = Change::new(who, "key.create", "");
        let (of, acting) = (namespace.clone(), registry.clone());
        let work = with_change(move || {
            act(&acting, &of);
            Ok::<_, TaskFailed>(())
        });
        within(Arc::clone(&change), work).await.unwrap();
        registry.record_change(&change).unwrap();
        let records = all(&registry);
        assert_eq!((records.len(), records[0].outcome.as_str()), (1, OK));
        assert!(records[0].target.ends_with(" invoke"), "{}", records[0].target);
        assert_eq!(records[0].subject.len(), 256);
        // What failed after it is another record.
        registry.record_refusal(&change, "INTERNAL");
        registry.write_audit(false);
        assert_eq!(all(&registry).len(), 2);
    }
}
