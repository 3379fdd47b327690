//! Triggers: which functions run for the messages of which topics.

use super::{Registry, RegistryError, now_ms};
use crate::limits::TRIGGERS_MAX;
use orama_runtime::names::{FunctionName, Namespace};
use orama_store::ids::new_id;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// A trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Its id, unique in the cluster.
    pub id: String,
    /// The function to run.
    pub function: FunctionName,
    /// The topic.
    pub topic: String,
}

/// The result of adding a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddedTrigger {
    /// It was added.
    New(Trigger),
    /// The function already has a trigger for the topic.
    Known(Trigger),
    /// There is no such function.
    NoFunction,
    /// The function has [`TRIGGERS_MAX`] triggers.
    TooMany,
}

impl Registry {
    /// Adds a trigger, unless the function has one for this topic.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn add_trigger(
        &self,
        namespace: &Namespace,
        function: &FunctionName,
        topic: &str,
    ) -> Result<AddedTrigger, RegistryError> {
        let (ns, name) = (namespace.as_str(), function.as_str());
        let added = self.database.write(|t| {
            if !function_exists(t, namespace, function)? {
                return Ok(AddedTrigger::NoFunction);
            }
            let known = t
                .prepare_cached(
                    "SELECT id, function, topic FROM triggers WHERE namespace = ?1 AND topic = ?2 AND function = ?3",
                )?
                .query_row(params![ns, topic, name], |row| Ok(trigger(row)))
                .optional()?;
            if let Some(known) = known {
                return Ok(AddedTrigger::Known(known?));
            }
            let count: u32 = t
                .prepare_cached("SELECT count(*) FROM triggers WHERE namespace = ?1 AND function = ?2")?
                .query_row(params![ns, name], |row| row.get(0))?;
            if count >= TRIGGERS_MAX {
                return Ok(AddedTrigger::TooMany);
            }
            let id = new_id();
            t.prepare_cached(
                "INSERT INTO triggers (id, namespace, function, topic, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![id, ns, name, topic, now_ms()])?;
            let (function, topic) = (function.clone(), topic.to_owned());
            Ok::<_, RegistryError>(AddedTrigger::New(Trigger { id, function, topic }))
        })?;
        if matches!(added, AddedTrigger::New(_)) {
            self.changed();
        }
        Ok(added)
    }

    /// Lists the triggers of a function, oldest first. `None` if there is no such function.
    ///
    /// # Errors
    /// As [`Self::add_trigger`].
    pub fn triggers(
        &self,
        namespace: &Namespace,
        function: &FunctionName,
    ) -> Result<Option<Vec<Trigger>>, RegistryError> {
        self.database.read(|c| {
            if !function_exists(c, namespace, function)? {
                return Ok(None);
            }
            let mut statement = c.prepare_cached(
                "SELECT id, function, topic FROM triggers WHERE namespace = ?1 AND function = ?2 ORDER BY id",
            )?;
            let rows = statement
                .query_map(params![namespace.as_str(), function.as_str()], |row| Ok(trigger(row)))?;
            rows.map(|row| row?).collect::<Result<_, _>>().map(Some)
        })
    }

    /// The triggers of a topic.
    ///
    /// # Errors
    /// As [`Self::add_trigger`].
    pub fn triggers_on(&self, namespace: &Namespace, topic: &str) -> Result<Vec<Trigger>, RegistryError> {
        self.database.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT id, function, topic FROM triggers WHERE namespace = ?1 AND topic = ?2 ORDER BY id",
            )?;
            let rows = statement.query_map(params![namespace.as_str(), topic], |row| Ok(trigger(row)))?;
            rows.map(|row| row?).collect()
        })
    }

    /// Deletes a trigger of a function. Returns `false` if the function has none with this id.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn delete_trigger(
        &self,
        namespace: &Namespace,
        function: &FunctionName,
        id: &str,
    ) -> Result<bool, RegistryError> {
        let rows = self.database.write(|t| {
            t.prepare_cached("DELETE FROM triggers WHERE id = ?1 AND namespace = ?2 AND function = ?3")?
                .execute(params![id, namespace.as_str(), function.as_str()])
                .map_err(RegistryError::from)
        })?;
        if rows > 0 {
            self.changed();
        }
        Ok(rows > 0)
    }
}

fn trigger(row: &Row<'_>) -> Result<Trigger, RegistryError> {
    let function: String = row.get(1)?;
    let function = FunctionName::new(&function).map_err(|_| RegistryError::Damaged("trigger"))?;
    Ok(Trigger { id: row.get(0)?, function, topic: row.get(2)? })
}

/// Whether a function exists: it has at least one version.
pub(super) fn function_exists(
    c: &Connection,
    namespace: &Namespace,
    function: &FunctionName,
) -> rusqlite::Result<bool> {
    c.prepare_cached("SELECT EXISTS (SELECT 1 FROM function_versions WHERE namespace = ?1 AND name = ?2)")?
        .query_row(params![namespace.as_str(), function.as_str()], |row| row.get(0))
}

pub(super) fn delete_all_of(
    c: &Connection,
    namespace: &Namespace,
    function: &FunctionName,
) -> rusqlite::Result<usize> {
    c.prepare_cached("DELETE FROM triggers WHERE namespace = ?1 AND function = ?2")?
        .execute(params![namespace.as_str(), function.as_str()])
}
