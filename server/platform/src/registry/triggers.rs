//! Triggers: the topics and schedules that run a function.

use super::{Registry, RegistryError};
use crate::events::{is_pattern, matches};
use crate::limits::{PATTERNS_MAX, TRIGGERS_MAX};
use orama_runtime::names::{FunctionName, Namespace};
use orama_store::clock::now_ms;
use orama_store::ids::new_id;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

/// What fires a trigger. It was checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Messages of a topic, or of all topics that match a pattern.
    Topic(String),
    /// A cron expression in a time zone.
    Schedule {
        /// The cron expression.
        expression: String,
        /// The name of the time zone.
        timezone: String,
    },
}

/// A trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Its id.
    pub id: String,
    /// The function that it runs.
    pub function: FunctionName,
    /// What fires it.
    pub source: Source,
    /// Whether it fires at all.
    pub is_enabled: bool,
    /// When it was made or last resumed, in milliseconds since the Unix epoch.
    pub since_ms: i64,
}

/// The result of adding a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddedTrigger {
    /// It was added.
    New(Trigger),
    /// The function already has this one.
    Known(Trigger),
    /// There is no such function.
    NoFunction,
    /// The function has [`TRIGGERS_MAX`] triggers.
    TooMany,
    /// The namespace has [`PATTERNS_MAX`] triggers on patterns.
    TooManyPatterns,
}

/// The columns that [`trigger`] reads, in its order.
macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, function, topic, cron, timezone, is_enabled, since_ms FROM triggers ", $rest)
    };
}

impl Source {
    /// The text that makes a trigger of a function unique. A topic cannot begin like that of a schedule.
    fn key(&self) -> String {
        match self {
            Self::Topic(topic) => topic.clone(),
            Self::Schedule { expression, timezone } => format!("_orama/cron:{timezone}:{expression}"),
        }
    }

    fn is_pattern(&self) -> bool {
        matches!(self, Self::Topic(topic) if is_pattern(topic))
    }
}

impl Registry {
    /// Adds a trigger, unless the function has it.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn add_trigger(
        &self,
        namespace: &Namespace,
        function: &FunctionName,
        source: &Source,
    ) -> Result<AddedTrigger, RegistryError> {
        let added = self.change(|t| {
            if !function_exists(t, namespace, function)? {
                return Ok(AddedTrigger::NoFunction);
            }
            add(t, namespace, function, source, false)
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
            let mut statement =
                c.prepare_cached(select!("WHERE namespace = ?1 AND function = ?2 ORDER BY id"))?;
            let rows = statement
                .query_map(params![namespace.as_str(), function.as_str()], |row| Ok(trigger(row)))?;
            rows.map(|row| row?).collect::<Result<_, _>>().map(Some)
        })
    }

    /// One trigger of a function; `None` if it has none with this id.
    ///
    /// # Errors
    /// As [`Self::add_trigger`].
    pub fn trigger(
        &self,
        namespace: &Namespace,
        function: &FunctionName,
        id: &str,
    ) -> Result<Option<Trigger>, RegistryError> {
        self.database.read(|c| {
            c.prepare_cached(select!("WHERE id = ?1 AND namespace = ?2 AND function = ?3"))?
                .query_row(params![id, namespace.as_str(), function.as_str()], |row| Ok(trigger(row)))
                .optional()?
                .transpose()
        })
    }

    /// The triggers that a message of a topic fires.
    ///
    /// # Errors
    /// As [`Self::add_trigger`].
    pub fn triggers_on(&self, namespace: &Namespace, topic: &str) -> Result<Vec<Trigger>, RegistryError> {
        self.database.read(|c| {
            let mut exact = c.prepare_cached(select!(
                "WHERE namespace = ?1 AND topic = ?2 AND is_pattern = 0 AND is_enabled = 1 AND cron IS NULL"
            ))?;
            let mut patterns =
                c.prepare_cached(select!("WHERE namespace = ?1 AND is_pattern = 1 AND is_enabled = 1"))?;
            let exact = exact.query_map(params![namespace.as_str(), topic], |row| Ok(trigger(row)))?;
            let patterns = patterns.query_map([namespace.as_str()], |row| Ok(trigger(row)))?;
            let mut found = Vec::new();
            for row in exact {
                found.push(row??);
            }
            for row in patterns {
                let trigger = row??;
                if let Source::Topic(pattern) = &trigger.source
                    && matches(pattern, topic)
                {
                    found.push(trigger);
                }
            }
            found.sort_unstable_by(|one, other| one.id.cmp(&other.id));
            Ok(found)
        })
    }

    /// The schedules of all namespaces that are not paused.
    ///
    /// # Errors
    /// As [`Self::add_trigger`].
    pub fn schedules(&self) -> Result<Vec<(Namespace, Trigger)>, RegistryError> {
        self.database.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT id, function, topic, cron, timezone, is_enabled, since_ms, namespace FROM triggers
                 WHERE cron IS NOT NULL AND is_enabled = 1",
            )?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(7)?, trigger(row))))?;
            rows.map(|row| {
                let (namespace, trigger) = row?;
                let namespace = Namespace::new(&namespace).map_err(|_| RegistryError::Damaged("trigger"))?;
                Ok((namespace, trigger?))
            })
            .collect()
        })
    }

    /// Pauses or resumes a trigger. Returns what it is now; `None` if the function has none with this id.
    ///
    /// # Errors
    /// As [`Self::add_trigger`].
    pub fn enable_trigger(
        &self,
        namespace: &Namespace,
        function: &FunctionName,
        id: &str,
        is_enabled: bool,
    ) -> Result<Option<Trigger>, RegistryError> {
        let changed = self.change(|t| {
            let rows = t
                .prepare_cached(
                    "UPDATE triggers SET is_enabled = ?4, since_ms = ?5
                     WHERE id = ?1 AND namespace = ?2 AND function = ?3 AND is_enabled <> ?4",
                )?
                .execute(params![id, namespace.as_str(), function.as_str(), is_enabled, now_ms()])?;
            Ok::<_, RegistryError>(rows > 0)
        })?;
        if changed {
            self.changed();
        }
        self.trigger(namespace, function, id)
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
        let rows = self.change(|t| {
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

/// Adds a trigger to a function that exists, unless it has it.
fn add(
    t: &Transaction<'_>,
    namespace: &Namespace,
    function: &FunctionName,
    source: &Source,
    is_of_file: bool,
) -> Result<AddedTrigger, RegistryError> {
    let (ns, name, key) = (namespace.as_str(), function.as_str(), source.key());
    let known = t
        .prepare_cached(select!("WHERE namespace = ?1 AND topic = ?2 AND function = ?3"))?
        .query_row(params![ns, key, name], |row| Ok(trigger(row)))
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
    if source.is_pattern() {
        let patterns: u32 = t
            .prepare_cached("SELECT count(*) FROM triggers WHERE namespace = ?1 AND is_pattern = 1")?
            .query_row([ns], |row| row.get(0))?;
        if patterns >= PATTERNS_MAX {
            return Ok(AddedTrigger::TooManyPatterns);
        }
    }
    let (cron, timezone) = match source {
        Source::Topic(_) => (None, None),
        Source::Schedule { expression, timezone } => (Some(expression), Some(timezone)),
    };
    let (id, now_ms) = (new_id(), now_ms());
    t.prepare_cached(
        "INSERT INTO triggers (id, namespace, function, topic, created_at_ms, cron, timezone, is_pattern, of_file, since_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?5)",
    )?
    .execute(params![id, ns, name, key, now_ms, cron, timezone, source.is_pattern(), is_of_file])?;
    let (function, source) = (function.clone(), source.clone());
    Ok(AddedTrigger::New(Trigger { id, function, source, is_enabled: true, since_ms: now_ms }))
}

/// Makes the triggers of a function's file those that a deploy brings. What was added by hand stays. Returns the ids of those
/// that are gone.
///
/// # Errors
/// [`RegistryError::TooManyTriggers`], or a failure to store them.
pub(super) fn replace_those_of_file(
    t: &Transaction<'_>,
    namespace: &Namespace,
    function: &FunctionName,
    wanted: &[Source],
) -> Result<Vec<String>, RegistryError> {
    let (ns, name) = (namespace.as_str(), function.as_str());
    let mut statement =
        t.prepare_cached(select!("WHERE namespace = ?1 AND function = ?2 AND of_file = 1"))?;
    let known = statement.query_map(params![ns, name], |row| Ok(trigger(row)))?;
    let known = known.map(|row| row?).collect::<Result<Vec<_>, RegistryError>>()?;
    let mut gone = Vec::new();
    for trigger in known.into_iter().filter(|trigger| !wanted.contains(&trigger.source)) {
        t.prepare_cached("DELETE FROM triggers WHERE id = ?1")?.execute([&trigger.id])?;
        gone.push(trigger.id);
    }
    for source in wanted {
        match add(t, namespace, function, source, true)? {
            AddedTrigger::New(_) | AddedTrigger::Known(_) | AddedTrigger::NoFunction => {}
            AddedTrigger::TooMany => return Err(RegistryError::TooManyTriggers(name.to_owned())),
            AddedTrigger::TooManyPatterns => return Err(RegistryError::TooManyPatterns(ns.to_owned())),
        }
    }
    Ok(gone)
}

fn trigger(row: &Row<'_>) -> Result<Trigger, RegistryError> {
    let function: String = row.get(1)?;
    let function = FunctionName::new(&function).map_err(|_| RegistryError::Damaged("trigger"))?;
    let source = match (row.get(3)?, row.get(4)?) {
        (Some(expression), Some(timezone)) => Source::Schedule { expression, timezone },
        _ => Source::Topic(row.get(2)?),
    };
    Ok(Trigger { id: row.get(0)?, function, source, is_enabled: row.get(5)?, since_ms: row.get(6)? })
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
