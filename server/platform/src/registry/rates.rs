//! Rates in the registry: what operators set for namespaces beside what the nodes' configuration says.
//!
//! Names and values are texts here; the cores' part of the node knows what they mean.

use super::namespaces::name_of;
use super::quotas::must_exist;
use super::{Registry, RegistryError};
use orama_runtime::names::Namespace;
use rusqlite::params;
use std::collections::{BTreeMap, HashMap};

/// What was set for one namespace: rates by their names.
pub type SetRates = BTreeMap<String, String>;

impl Registry {
    /// What an operator set for a namespace.
    ///
    /// # Errors
    /// [`RegistryError::NoNamespace`], [`RegistryError::Sqlite`]
    pub fn rates(&self, namespace: &Namespace) -> Result<SetRates, RegistryError> {
        self.database.read(|c| {
            must_exist(c, namespace)?;
            let mut statement = c.prepare_cached("SELECT rate, value FROM rates WHERE namespace = ?1")?;
            let rows = statement.query_map([namespace.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// What operators set for all namespaces that have something set.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn all_rates(&self) -> Result<HashMap<Namespace, SetRates>, RegistryError> {
        self.database.read(|c| {
            let mut statement = c.prepare_cached("SELECT namespace, rate, value FROM rates")?;
            let rows =
                statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))?;
            let mut all: HashMap<Namespace, SetRates> = HashMap::new();
            for row in rows {
                let (namespace, rate, value) = row?;
                all.entry(name_of(&namespace)?).or_default().insert(rate, value);
            }
            Ok(all)
        })
    }

    /// Replaces everything that was set for a namespace.
    ///
    /// # Errors
    /// [`RegistryError::NoNamespace`], or a failure to store it.
    pub fn set_rates(&self, namespace: &Namespace, rates: &SetRates) -> Result<(), RegistryError> {
        self.change(|t| {
            must_exist(t, namespace)?;
            t.prepare_cached("DELETE FROM rates WHERE namespace = ?1")?.execute([namespace.as_str()])?;
            for (rate, value) in rates {
                t.prepare_cached("INSERT INTO rates (namespace, rate, value) VALUES (?1, ?2, ?3)")?
                    .execute(params![namespace.as_str(), rate, value])?;
            }
            Ok::<_, RegistryError>(())
        })?;
        self.limits_changed();
        Ok(())
    }
}
