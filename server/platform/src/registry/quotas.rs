//! Quotas in the registry: the values that operators set, the usage, and the check of a deploy.

use super::namespaces::name_of;
use super::{NewVersion, Registry, RegistryError, namespace_exists, schema};
use crate::quotas::{Quota, QuotaExceeded, Usage};
use orama_runtime::names::{FunctionName, Namespace};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::{BTreeMap, HashMap};

/// What a deploy adds to the usage of its namespace.
pub(crate) struct Deploying<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) name: &'a FunctionName,
    pub(crate) wasm_hash: &'a [u8; 32],
    pub(crate) wasm_bytes: u64,
    pub(crate) env_bytes: u64,
    /// Newest versions that are left; 0 leaves all.
    pub(crate) keep_versions: u32,
}

/// What a deploy takes away for what it adds.
#[derive(Default)]
struct Freed {
    versions: u64,
    env_bytes: u64,
    module_bytes: u64,
}

impl Registry {
    /// The quotas that an operator set for a namespace. A quota that is missing has its default.
    ///
    /// # Errors
    /// [`RegistryError::NoNamespace`], [`RegistryError::Sqlite`]
    pub fn quotas(&self, namespace: &Namespace) -> Result<BTreeMap<Quota, u64>, RegistryError> {
        self.database.read(|c| {
            must_exist(c, namespace)?;
            let mut statement = c.prepare_cached("SELECT quota, value FROM quotas WHERE namespace = ?1")?;
            let rows = statement.query_map([namespace.as_str()], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
            })?;
            let mut quotas = BTreeMap::new();
            for row in rows {
                let (name, value) = row?;
                // Another version of the node may know more quotas.
                if let Some(quota) = Quota::parse(&name) {
                    quotas.insert(quota, value);
                }
            }
            Ok(quotas)
        })
    }

    /// Replaces all quotas that were set for a namespace.
    ///
    /// # Errors
    /// [`RegistryError::NoNamespace`], or a failure to store it.
    pub fn set_quotas(
        &self,
        namespace: &Namespace,
        quotas: &BTreeMap<Quota, u64>,
    ) -> Result<(), RegistryError> {
        self.change(|t| {
            must_exist(t, namespace)?;
            t.prepare_cached("DELETE FROM quotas WHERE namespace = ?1")?.execute([namespace.as_str()])?;
            for (quota, value) in quotas {
                t.prepare_cached("INSERT INTO quotas (namespace, quota, value) VALUES (?1, ?2, ?3)")?
                    .execute(params![
                        namespace.as_str(),
                        quota.name(),
                        i64::try_from(*value).unwrap_or(i64::MAX)
                    ])?;
            }
            Ok::<_, RegistryError>(())
        })?;
        self.limits_changed();
        Ok(())
    }

    /// What operators set of one quota, by namespace.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn quota_of_all(&self, quota: Quota) -> Result<HashMap<Namespace, u64>, RegistryError> {
        self.database.read(|c| {
            let mut statement = c.prepare_cached("SELECT value, namespace FROM quotas WHERE quota = ?1")?;
            let rows =
                statement.query_map([quota.name()], |row| Ok((count(row)?, row.get::<_, String>(1)?)))?;
            rows.map(|row| {
                let (value, namespace) = row?;
                Ok((name_of(&namespace)?, value))
            })
            .collect()
        })
    }

    /// How much of each quota a namespace uses, apart from its database.
    ///
    /// # Errors
    /// [`RegistryError::NoNamespace`], [`RegistryError::Sqlite`]
    pub fn usage(&self, namespace: &Namespace) -> Result<Vec<Usage>, RegistryError> {
        self.database.read(|c| {
            must_exist(c, namespace)?;
            let usage = |quota: Quota| {
                let used = c.prepare_cached(used_sql(quota))?.query_row([namespace.as_str()], count)?;
                Ok(Usage { quota, used, limit: limit(c, namespace, quota)? })
            };
            Quota::ALL.into_iter().map(usage).collect()
        })
    }

    /// Checks that a deploy fits into the quotas. Called before the module is compiled; the deploy checks again.
    ///
    /// # Errors
    /// [`RegistryError::NoNamespace`], [`RegistryError::QuotaExceeded`], [`RegistryError::Sqlite`]
    pub(crate) fn check_deploy(&self, deploying: &Deploying<'_>) -> Result<(), RegistryError> {
        self.database.read(|c| check_deploy(c, deploying).map(drop))
    }
}

impl<'a> Deploying<'a> {
    pub(super) fn of(new: &'a NewVersion, env: &str) -> Self {
        Self {
            namespace: &new.namespace,
            name: &new.name,
            wasm_hash: new.wasm_hash.as_bytes(),
            wasm_bytes: new.wasm_bytes,
            env_bytes: env.len() as u64,
            keep_versions: new.settings.keep_versions,
        }
    }
}

pub(super) fn must_exist(c: &Connection, namespace: &Namespace) -> Result<(), RegistryError> {
    if namespace_exists(c, namespace)? {
        return Ok(());
    }
    Err(RegistryError::NoNamespace(namespace.to_string()))
}

fn count(row: &rusqlite::Row<'_>) -> rusqlite::Result<u64> {
    // Never negative.
    row.get::<_, i64>(0).map(i64::unsigned_abs)
}

/// The usage of a quota by namespace ?1.
const fn used_sql(quota: Quota) -> &'static str {
    match quota {
        Quota::Functions => "SELECT count(DISTINCT name) FROM function_versions WHERE namespace = ?1",
        Quota::FunctionNames => "SELECT count(*) FROM functions WHERE namespace = ?1",
        Quota::Versions => {
            "SELECT coalesce(max(n), 0) FROM
                 (SELECT count(*) AS n FROM function_versions WHERE namespace = ?1 GROUP BY name)"
        }
        Quota::ModuleBytes => {
            "SELECT coalesce(sum(n), 0) FROM
                 (SELECT max(wasm_bytes) AS n FROM function_versions WHERE namespace = ?1 GROUP BY wasm_hash)"
        }
        Quota::EnvBytes => "SELECT coalesce(sum(env_bytes), 0) FROM function_versions WHERE namespace = ?1",
        Quota::Objects => "SELECT count(*) FROM stored_objects WHERE namespace = ?1",
        Quota::ObjectBytes => "SELECT coalesce(sum(size_bytes), 0) FROM stored_objects WHERE namespace = ?1",
        // The file knows.
        Quota::DatabaseBytes => "SELECT 0 WHERE ?1 IS NOT NULL",
    }
}

/// The bound of a quota for a namespace.
pub(super) fn limit(c: &Connection, namespace: &Namespace, quota: Quota) -> rusqlite::Result<u64> {
    let set = c
        .prepare_cached("SELECT value FROM quotas WHERE namespace = ?1 AND quota = ?2")?
        .query_row([namespace.as_str(), quota.name()], count)
        .optional()?;
    Ok(set.unwrap_or(quota.default_limit()))
}

/// The newest version that a deploy takes away, and what becomes free with it and those before it.
fn freed(c: &Connection, deploying: &Deploying<'_>) -> rusqlite::Result<(Option<u32>, Freed)> {
    let Deploying { namespace, name, wasm_hash, keep_versions, .. } = *deploying;
    if keep_versions == 0 {
        return Ok((None, Freed::default()));
    }
    let last = c
        .prepare_cached(schema::LAST_DROPPED)?
        .query_row(params![namespace.as_str(), name.as_str(), keep_versions], |row| row.get::<_, u32>(0))
        .optional()?;
    let Some(last) = last else { return Ok((None, Freed::default())) };
    let freed = c.prepare_cached(schema::FREED)?.query_row(
        params![namespace.as_str(), name.as_str(), last, wasm_hash],
        |row| {
            let of = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
            Ok(Freed { versions: of(0)?, env_bytes: of(1)?, module_bytes: of(2)? })
        },
    )?;
    Ok((Some(last), freed))
}

/// See [`Registry::check_deploy`]. Returns the newest version that the deploy takes away.
pub(super) fn check_deploy(c: &Connection, deploying: &Deploying<'_>) -> Result<Option<u32>, RegistryError> {
    let Deploying { namespace, name, wasm_hash, wasm_bytes, env_bytes, .. } = *deploying;
    must_exist(c, namespace)?;
    let (last_dropped, freed) = freed(c, deploying)?;
    let of_function =
        |sql: &str| c.prepare_cached(sql)?.query_row([namespace.as_str(), name.as_str()], count);
    let fits = |quota: Quota, used: u64, more: u64| {
        let limit = limit(c, namespace, quota)?;
        if more == 0 || used.saturating_add(more) <= limit {
            return Ok(());
        }
        let namespace = namespace.to_string();
        Err(RegistryError::QuotaExceeded(QuotaExceeded { namespace, quota, used, more, limit }))
    };
    let used = |quota: Quota| c.prepare_cached(used_sql(quota))?.query_row([namespace.as_str()], count);
    let versions = of_function("SELECT count(*) FROM function_versions WHERE namespace = ?1 AND name = ?2")?;
    fits(Quota::Versions, versions.saturating_sub(freed.versions), 1)?;
    if versions == 0 {
        fits(Quota::Functions, used(Quota::Functions)?, 1)?;
        let is_known = of_function("SELECT count(*) FROM functions WHERE namespace = ?1 AND name = ?2")? > 0;
        fits(Quota::FunctionNames, used(Quota::FunctionNames)?, u64::from(!is_known))?;
    }
    let counted = c
        .prepare_cached(
            "SELECT coalesce(max(wasm_bytes), 0) FROM function_versions WHERE namespace = ?1 AND wasm_hash = ?2",
        )?
        .query_row(params![namespace.as_str(), wasm_hash], count)?;
    let left = |used: u64, freed: u64| used.saturating_sub(freed);
    let module_bytes = left(used(Quota::ModuleBytes)?, freed.module_bytes);
    fits(Quota::ModuleBytes, module_bytes, wasm_bytes.saturating_sub(counted))?;
    fits(Quota::EnvBytes, left(used(Quota::EnvBytes)?, freed.env_bytes), env_bytes)?;
    Ok(last_dropped)
}
