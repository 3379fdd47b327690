//! Where a version comes from: who deployed it, and from which sources.

use super::{Registry, RegistryError};
use orama_runtime::names::{FunctionName, Namespace};
use rusqlite::params;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Where a version comes from. Versions of older nodes tell nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Origin {
    /// The id of the API key that deployed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The subject of the token that deployed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The version whose module and settings an update took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_from: Option<u32>,
    /// The sources, as the client told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceTold>,
}

/// What a client told of the sources.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceTold {
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The first line of the commit's message, or what the deploy was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether files differed from the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_dirty: Option<bool>,
}

impl Registry {
    /// Where versions of a function from `first` to `last` come from, as far as it is known.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn origins(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        (first, last): (u32, u32),
    ) -> Result<HashMap<u32, Origin>, RegistryError> {
        self.database.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT version, origin FROM function_versions
                 WHERE namespace = ?1 AND name = ?2 AND version BETWEEN ?3 AND ?4 AND origin IS NOT NULL",
            )?;
            let rows = statement
                .query_map(params![namespace.as_str(), name.as_str(), first, last], |row| {
                    Ok((row.get(0)?, row.get::<_, String>(1)?))
                })?;
            rows.map(|row| {
                let (version, origin) = row?;
                let origin = serde_json::from_str(&origin).map_err(|_| RegistryError::Damaged("origin"))?;
                Ok((version, origin))
            })
            .collect()
        })
    }
}
