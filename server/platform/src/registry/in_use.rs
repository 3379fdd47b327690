//! Which versions of a function are in use: aliases, shares of its traffic, and whether it may run at all.

use super::row::{Stored, stored};
use super::traffic::{Traffic, traffic};
use super::which::{LIVE, Which};
use super::{Registry, RegistryError, schema, triggers};
use crate::limits::ALIASES_MAX;
use orama_runtime::function::FunctionVersion;
use orama_runtime::names::{AliasName, FunctionName, Namespace};
use orama_store::clock::now_ms;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::sync::Arc;

/// An alias of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// Its name.
    pub name: AliasName,
    /// The version that it stands for.
    pub version: u32,
    /// When it was set, in milliseconds since the Unix epoch. `None` for a `live` that is not set: it follows the newest version.
    pub set_at_ms: Option<i64>,
}

/// What was found by [`Registry::find`].
#[derive(Clone)]
pub struct Found {
    /// The version.
    pub function: Arc<FunctionVersion>,
    /// How its name's calls are spread, where it was found by its name alone.
    pub traffic: Option<Arc<Traffic>>,
}

impl Registry {
    /// Returns a version of a function.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn find(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        which: &Which,
    ) -> Result<Option<Found>, RegistryError> {
        self.database.read(|c| {
            let Some(version) = resolve(c, namespace, name, which)? else { return Ok(None) };
            let function = c
                .prepare_cached(schema::FUNCTION)?
                .query_row(params![namespace.as_str(), name.as_str(), version], stored)
                .optional()?
                .map(Stored::check)
                .transpose()?;
            let traffic = match which {
                Which::Live => traffic(c, namespace, name)?.map(Arc::new),
                Which::Number(_) | Which::Alias(_) => None,
            };
            Ok(function.map(|function| Found { function, traffic }))
        })
    }

    /// Whether calls may reach a version without naming its number: it is live, has an alias, or a share of the traffic.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn is_in_use(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        version: u32,
    ) -> Result<bool, RegistryError> {
        self.database.read(|c| {
            if resolve(c, namespace, name, &Which::Live)? == Some(version) {
                return Ok(true);
            }
            Ok(user(c, namespace, name, version)?.is_some())
        })
    }

    /// The number of a version that exists.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn number_of(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        which: &Which,
    ) -> Result<Option<u32>, RegistryError> {
        self.database.read(|c| {
            let number = resolve(c, namespace, name, which)?;
            Ok(match number {
                Some(number) if version_exists(c, namespace, name, number)? => Some(number),
                _ => None,
            })
        })
    }

    /// The aliases of a function by name, `live` always among them. `None` if there is no such function.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn aliases(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
    ) -> Result<Option<Vec<Alias>>, RegistryError> {
        const DAMAGED: RegistryError = RegistryError::Damaged("alias");
        self.database.read(|c| {
            let Some(live) = resolve(c, namespace, name, &Which::Live)? else { return Ok(None) };
            let mut statement = c.prepare_cached(
                "SELECT alias, version, set_at_ms FROM aliases WHERE namespace = ?1 AND function = ?2",
            )?;
            let rows = statement.query_map([namespace.as_str(), name.as_str()], |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?))
            })?;
            let mut aliases = Vec::new();
            for row in rows {
                let (alias, version, set_at_ms) = row?;
                let name = AliasName::new(&alias).map_err(|_| DAMAGED)?;
                aliases.push(Alias { name, version, set_at_ms: Some(set_at_ms) });
            }
            if !aliases.iter().any(|alias| alias.name.as_str() == LIVE) {
                let name = AliasName::new(LIVE).map_err(|_| DAMAGED)?;
                aliases.push(Alias { name, version: live, set_at_ms: None });
            }
            aliases.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(Some(aliases))
        })
    }

    /// Makes an alias stand for a version.
    ///
    /// # Errors
    /// [`RegistryError::NoVersion`], [`RegistryError::TooManyAliases`], or a failure to store it.
    pub fn set_alias(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        alias: &AliasName,
        version: u32,
    ) -> Result<Alias, RegistryError> {
        let set_at_ms = self.change(|t| {
            if !version_exists(t, namespace, name, version)? {
                return Err(RegistryError::NoVersion(name.to_string(), version));
            }
            put_alias(t, namespace, name, alias, version)
        })?;
        self.changed();
        Ok(Alias { name: alias.clone(), version, set_at_ms: Some(set_at_ms) })
    }

    /// Deletes an alias; returns whether there was one.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn delete_alias(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        alias: &AliasName,
    ) -> Result<bool, RegistryError> {
        let deleted = self.change(|t| {
            Ok::<_, RegistryError>(
                t.prepare_cached(
                    "DELETE FROM aliases WHERE namespace = ?1 AND function = ?2 AND alias = ?3",
                )?
                .execute(params![namespace.as_str(), name.as_str(), alias.as_str()])?,
            )
        })?;
        if deleted > 0 {
            self.changed();
        }
        Ok(deleted > 0)
    }

    /// Lets a function run, or not; returns whether it exists.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn set_enabled(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        is_enabled: bool,
    ) -> Result<bool, RegistryError> {
        let exists = self.change(|t| {
            if !triggers::function_exists(t, namespace, name)? {
                return Ok(false);
            }
            t.prepare_cached("UPDATE functions SET is_enabled = ?3 WHERE namespace = ?1 AND name = ?2")?
                .execute(params![namespace.as_str(), name.as_str(), is_enabled])?;
            Ok::<_, RegistryError>(true)
        })?;
        if exists {
            self.changed();
        }
        Ok(exists)
    }
}

/// Names a new version by an alias. So that another alias does not make it live, what was live until now is pinned.
pub(super) fn name_new_version(
    t: &Transaction<'_>,
    (namespace, name): (&Namespace, &FunctionName),
    alias: &AliasName,
    version: u32,
    live_before: Option<u32>,
) -> Result<(), RegistryError> {
    if let Some(live) = live_before.filter(|_| alias.as_str() != LIVE) {
        t.prepare_cached(
            "INSERT OR IGNORE INTO aliases (namespace, function, alias, version, set_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![namespace.as_str(), name.as_str(), LIVE, live, now_ms()])?;
    }
    put_alias(t, namespace, name, alias, version)?;
    Ok(())
}

/// Forgets what was in use of a function that was deleted.
pub(super) fn forget(
    t: &Transaction<'_>,
    namespace: &Namespace,
    name: &FunctionName,
) -> rusqlite::Result<()> {
    let of = [namespace.as_str(), name.as_str()];
    t.prepare_cached("DELETE FROM aliases WHERE namespace = ?1 AND function = ?2")?.execute(of)?;
    t.prepare_cached("DELETE FROM traffic WHERE namespace = ?1 AND function = ?2")?.execute(of)?;
    t.prepare_cached("UPDATE functions SET is_enabled = 1 WHERE namespace = ?1 AND name = ?2")?
        .execute(of)?;
    Ok(())
}

/// Refuses to delete a version that an alias or a share of the traffic names.
pub(super) fn must_be_unused(
    t: &Transaction<'_>,
    namespace: &Namespace,
    name: &FunctionName,
    version: u32,
) -> Result<(), RegistryError> {
    match user(t, namespace, name, version)? {
        Some(user) => Err(RegistryError::VersionInUse(name.to_string(), version, user)),
        None => Ok(()),
    }
}

/// What names a version: an alias, or a share of the traffic.
fn user(
    c: &Connection,
    namespace: &Namespace,
    name: &FunctionName,
    version: u32,
) -> rusqlite::Result<Option<String>> {
    let of = params![namespace.as_str(), name.as_str(), version];
    let alias = c
        .prepare_cached(
            "SELECT alias FROM aliases WHERE namespace = ?1 AND function = ?2 AND version = ?3 LIMIT 1",
        )?
        .query_row(of, |row| row.get::<_, String>(0))
        .optional()?;
    if let Some(alias) = alias {
        return Ok(Some(format!("alias {alias:?} stands for it")));
    }
    let has_share: bool = c
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM traffic WHERE namespace = ?1 AND function = ?2 AND version = ?3)",
        )?
        .query_row(of, |row| row.get(0))?;
    Ok(has_share.then(|| "it has a share of the traffic".to_owned()))
}

/// The number that is meant; the version may not exist.
pub(super) fn resolve(
    c: &Connection,
    namespace: &Namespace,
    name: &FunctionName,
    which: &Which,
) -> rusqlite::Result<Option<u32>> {
    let alias = match which {
        Which::Number(number) => return Ok(Some(*number)),
        Which::Live => LIVE,
        Which::Alias(alias) => alias.as_str(),
    };
    let set = c
        .prepare_cached("SELECT version FROM aliases WHERE namespace = ?1 AND function = ?2 AND alias = ?3")?
        .query_row([namespace.as_str(), name.as_str(), alias], |row| row.get(0))
        .optional()?;
    if set.is_some() || alias != LIVE {
        return Ok(set);
    }
    c.prepare_cached("SELECT max(version) FROM function_versions WHERE namespace = ?1 AND name = ?2")?
        .query_row([namespace.as_str(), name.as_str()], |row| row.get(0))
}

/// What of a function is in use.
pub(super) struct Now {
    pub(super) live: Option<u32>,
    pub(super) is_spread: bool,
    pub(super) is_enabled: bool,
}

pub(super) fn now(c: &Connection, namespace: &Namespace, name: &FunctionName) -> rusqlite::Result<Now> {
    let live = resolve(c, namespace, name, &Which::Live)?;
    let (is_spread, is_enabled) = c
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM traffic WHERE namespace = ?1 AND function = ?2), is_enabled
             FROM functions WHERE namespace = ?1 AND name = ?2",
        )?
        .query_row([namespace.as_str(), name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Now { live, is_spread, is_enabled })
}

/// Whether a function has one version only.
pub(super) fn is_only(c: &Connection, namespace: &Namespace, name: &FunctionName) -> rusqlite::Result<bool> {
    c.prepare_cached("SELECT count(*) = 1 FROM function_versions WHERE namespace = ?1 AND name = ?2")?
        .query_row([namespace.as_str(), name.as_str()], |row| row.get(0))
}

pub(super) fn version_exists(
    c: &Connection,
    namespace: &Namespace,
    name: &FunctionName,
    version: u32,
) -> rusqlite::Result<bool> {
    c.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM function_versions WHERE namespace = ?1 AND name = ?2 AND version = ?3)",
    )?
    .query_row(params![namespace.as_str(), name.as_str(), version], |row| row.get(0))
}

fn put_alias(
    t: &Transaction<'_>,
    namespace: &Namespace,
    name: &FunctionName,
    alias: &AliasName,
    version: u32,
) -> Result<i64, RegistryError> {
    let set_at_ms = now_ms();
    t.prepare_cached(
        "INSERT INTO aliases (namespace, function, alias, version, set_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (namespace, function, alias) DO UPDATE SET version = excluded.version, set_at_ms = excluded.set_at_ms",
    )?
    .execute(params![namespace.as_str(), name.as_str(), alias.as_str(), version, set_at_ms])?;
    let count: u32 = t
        .prepare_cached("SELECT count(*) FROM aliases WHERE namespace = ?1 AND function = ?2")?
        .query_row([namespace.as_str(), name.as_str()], |row| row.get(0))?;
    if count > ALIASES_MAX {
        return Err(RegistryError::TooManyAliases(name.to_string()));
    }
    Ok(set_at_ms)
}
