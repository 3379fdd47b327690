//! Deletes the jobs of a deleted trigger, function or namespace.

use super::store;
use super::tally::Waiting;
use super::{EventsError, NodeEvents};
use orama_runtime::names::{FunctionName, Namespace};
use rusqlite::{Transaction, params};

/// Rows that one transaction deletes, so that publishers can write between two of them.
const STEP_ROWS: u32 = 500;

/// What was deleted.
#[derive(Clone, Copy)]
enum Scope<'a> {
    Namespace,
    Function(&'a FunctionName),
    Trigger(&'a str),
}

impl NodeEvents {
    /// Deletes messages, jobs and dead letters of a namespace. Blocks.
    ///
    /// # Errors
    /// [`EventsError`]
    pub fn remove(&self, namespace: &Namespace) -> Result<(), EventsError> {
        self.forget(namespace, Scope::Namespace)
    }

    /// Deletes jobs and dead letters of a deleted function. Blocks.
    ///
    /// # Errors
    /// [`EventsError`]
    pub fn remove_function(&self, namespace: &Namespace, function: &FunctionName) -> Result<(), EventsError> {
        self.forget(namespace, Scope::Function(function))
    }

    /// Deletes waiting jobs of a deleted trigger, and what is known of its runs. Dead letters stay, because they belong to the
    /// function. Blocks.
    ///
    /// # Errors
    /// [`EventsError`]
    pub fn remove_trigger(&self, namespace: &Namespace, trigger_id: &str) -> Result<(), EventsError> {
        self.forget(namespace, Scope::Trigger(trigger_id))
    }

    fn forget(&self, namespace: &Namespace, scope: Scope<'_>) -> Result<(), EventsError> {
        let database = &self.inner.database;
        loop {
            let gone = database.write(|t| Ok::<_, EventsError>(delete_jobs(t, namespace, scope)?))?;
            if gone.jobs == 0 {
                break;
            }
            self.inner.tallies.remove(namespace, gone);
        }
        if matches!(scope, Scope::Namespace) {
            database.write(|t| {
                t.execute("DELETE FROM outboxes WHERE namespace = ?1", [namespace.as_str()])?;
                Ok::<_, EventsError>(())
            })?;
            self.inner.outboxes.lock().remove(namespace);
            loop {
                let gone = database.write(|t| Ok::<_, EventsError>(delete_later(t, namespace)?))?;
                if gone.jobs == 0 {
                    break;
                }
                self.inner.tallies.remove_later(namespace, gone);
            }
        }
        if !matches!(scope, Scope::Trigger(_)) {
            while database.write(|t| Ok::<_, EventsError>(delete_dead_letters(t, namespace, scope)?))? > 0 {}
        }
        database.write(|t| {
            let (function, trigger) = scope.columns();
            t.execute(
                "DELETE FROM queues WHERE namespace = ?1 AND (?2 IS NULL OR function = ?2)
                 AND (?3 IS NULL OR trigger_id = ?3) AND NOT EXISTS (SELECT 1 FROM jobs WHERE queue = queues.id)",
                params![namespace.as_str(), function, trigger],
            )?;
            t.execute(
                "DELETE FROM schedules WHERE namespace = ?1 AND (?2 IS NULL OR function = ?2)
                 AND (?3 IS NULL OR trigger_id = ?3)",
                params![namespace.as_str(), function, trigger],
            )?;
            Ok(())
        })
    }
}

impl Scope<'_> {
    /// The function and the trigger to which rows are restricted; `None` means any.
    fn columns(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::Namespace => (None, None),
            Self::Function(function) => (Some(function.as_str()), None),
            Self::Trigger(id) => (None, Some(id)),
        }
    }
}

fn delete_jobs(t: &Transaction<'_>, namespace: &Namespace, scope: Scope<'_>) -> rusqlite::Result<Waiting> {
    let (function, trigger) = scope.columns();
    let mut statement = t.prepare_cached(
        "SELECT j.id, j.message, octet_length(m.data)
         FROM queues q JOIN jobs j ON j.queue = q.id JOIN messages m ON m.id = j.message
         WHERE q.namespace = ?1 AND (?2 IS NULL OR q.function = ?2) AND (?3 IS NULL OR q.trigger_id = ?3) LIMIT ?4",
    )?;
    let rows = statement.query_map(params![namespace.as_str(), function, trigger, STEP_ROWS], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, store::unsigned(row, 2)?))
    })?;
    let mut gone = Waiting::default();
    for (job, message, bytes) in rows.collect::<rusqlite::Result<Vec<_>>>()? {
        t.prepare_cached("DELETE FROM jobs WHERE id = ?1")?.execute([job])?;
        store::forget_message(t, message)?;
        gone = Waiting { jobs: gone.jobs + 1, bytes: gone.bytes + bytes };
    }
    Ok(gone)
}

/// Deletes messages that wait for their time.
fn delete_later(t: &Transaction<'_>, namespace: &Namespace) -> rusqlite::Result<Waiting> {
    let mut statement = t.prepare_cached(
        "DELETE FROM later WHERE id IN (SELECT id FROM later WHERE namespace = ?1 LIMIT ?2)
         RETURNING octet_length(data)",
    )?;
    let rows = statement.query_map(params![namespace.as_str(), STEP_ROWS], |row| store::unsigned(row, 0))?;
    rows.map(|bytes| Ok(Waiting { jobs: 1, bytes: bytes? })).sum()
}

fn delete_dead_letters(
    t: &Transaction<'_>,
    namespace: &Namespace,
    scope: Scope<'_>,
) -> rusqlite::Result<usize> {
    let mut statement = t.prepare_cached(
        "DELETE FROM dead_letters WHERE id IN
         (SELECT id FROM dead_letters WHERE namespace = ?1 AND (?2 IS NULL OR function = ?2) LIMIT ?3)
         RETURNING message",
    )?;
    let rows = statement
        .query_map(params![namespace.as_str(), scope.columns().0, STEP_ROWS], |row| row.get::<_, i64>(0))?;
    let messages = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    for message in &messages {
        store::forget_message(t, *message)?;
    }
    Ok(messages.len())
}
