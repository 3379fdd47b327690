//! How the calls of a function's name are spread over its versions.

use super::in_use::version_exists;
use super::{Registry, RegistryError};
use crate::limits::{TRAFFIC_VERSIONS_MAX, TRAFFIC_WEIGHT_MAX};
use orama_runtime::names::{FunctionName, Namespace};
use rusqlite::{Connection, Transaction, params};
use std::collections::BTreeMap;
use std::fmt;

/// Characters of the name of a header or cookie that callers are told apart by.
const STICKY_NAME_MAX: usize = 64;

/// What tells callers apart, so that each stays with one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sticky {
    /// The value of a header, by its name in lower case.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
}

impl Sticky {
    /// Parses `header:NAME` or `cookie:NAME`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        // The characters of an HTTP token.
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > STICKY_NAME_MAX || !name.bytes().all(is_token) {
            return None;
        }
        match kind {
            "header" => Some(Self::Header(name.to_ascii_lowercase())),
            "cookie" => Some(Self::Cookie(name.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

/// How the calls of a function's name are spread over its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// Versions and their weights, all above 0.
    weights: BTreeMap<u32, u32>,
    /// What callers are told apart by; chance decides where it is missing.
    pub sticky: Option<Sticky>,
}

impl Traffic {
    /// Checks weights: 1 to [`TRAFFIC_VERSIONS_MAX`] versions, each with at most [`TRAFFIC_WEIGHT_MAX`], and one above 0.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn new(weights: &BTreeMap<u32, u32>, sticky: Option<Sticky>) -> Result<Self, String> {
        if weights.len() > TRAFFIC_VERSIONS_MAX {
            return Err(format!("at most {TRAFFIC_VERSIONS_MAX} versions may have a weight"));
        }
        if let Some((version, weight)) = weights.iter().find(|(_, weight)| **weight > TRAFFIC_WEIGHT_MAX) {
            return Err(format!(
                "the weight of version {version} is {weight}; at most {TRAFFIC_WEIGHT_MAX} is possible"
            ));
        }
        let weights: BTreeMap<u32, u32> = weights
            .iter()
            .filter(|(_, weight)| **weight > 0)
            .map(|(version, weight)| (*version, *weight))
            .collect();
        if weights.is_empty() {
            return Err("at least one version needs a weight above 0".to_owned());
        }
        Ok(Self { weights, sticky })
    }

    /// Versions and their weights.
    #[must_use]
    pub const fn weights(&self) -> &BTreeMap<u32, u32> {
        &self.weights
    }

    /// The sum of all weights.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights.values().map(|weight| u64::from(*weight)).sum()
    }

    /// The version for a caller. `seed` is evenly distributed over callers, and the same for the same caller.
    #[must_use]
    pub fn pick(&self, seed: u64) -> u32 {
        let mut left = ((u128::from(seed) * u128::from(self.total())) >> 64) as u64;
        for (version, weight) in &self.weights {
            match left.checked_sub(u64::from(*weight)) {
                Some(rest) => left = rest,
                None => return *version,
            }
        }
        self.weights.keys().next_back().copied().unwrap_or(1)
    }
}

impl Registry {
    /// How the calls of a function's name are spread, if they are.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn traffic(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
    ) -> Result<Option<Traffic>, RegistryError> {
        self.database.read(|c| traffic(c, namespace, name))
    }

    /// Spreads the calls of a function's name, or no longer where `traffic` is `None`; returns whether they were spread before.
    ///
    /// # Errors
    /// [`RegistryError::NoVersion`], or a failure to store it.
    pub fn set_traffic(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        traffic: Option<&Traffic>,
    ) -> Result<bool, RegistryError> {
        let before = self.change(|t| {
            let before = delete_traffic(t, namespace, name)?;
            let Some(traffic) = traffic else { return Ok(before) };
            let sticky = traffic.sticky.as_ref().map(Sticky::to_string);
            for (version, weight) in &traffic.weights {
                if !version_exists(t, namespace, name, *version)? {
                    return Err(RegistryError::NoVersion(name.to_string(), *version));
                }
                t.prepare_cached(
                    "INSERT INTO traffic (namespace, function, version, weight, sticky) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![namespace.as_str(), name.as_str(), version, weight, sticky])?;
            }
            Ok(before)
        })?;
        self.changed();
        Ok(before)
    }
}

fn delete_traffic(t: &Transaction<'_>, namespace: &Namespace, name: &FunctionName) -> rusqlite::Result<bool> {
    let deleted = t
        .prepare_cached("DELETE FROM traffic WHERE namespace = ?1 AND function = ?2")?
        .execute([namespace.as_str(), name.as_str()])?;
    Ok(deleted > 0)
}

pub(super) fn traffic(
    c: &Connection,
    namespace: &Namespace,
    name: &FunctionName,
) -> Result<Option<Traffic>, RegistryError> {
    let mut statement = c.prepare_cached(
        "SELECT version, weight, sticky FROM traffic WHERE namespace = ?1 AND function = ?2 ORDER BY version",
    )?;
    let rows = statement.query_map([namespace.as_str(), name.as_str()], |row| {
        Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?, row.get::<_, Option<String>>(2)?))
    })?;
    let (mut weights, mut sticky) = (BTreeMap::new(), None);
    for row in rows {
        let (version, weight, told) = row?;
        weights.insert(version, weight);
        sticky = told.as_deref().and_then(Sticky::parse);
    }
    if weights.is_empty() {
        return Ok(None);
    }
    Traffic::new(&weights, sticky).map(Some).map_err(|_| RegistryError::Damaged("traffic"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(pairs: &[(u32, u32)]) -> BTreeMap<u32, u32> {
        pairs.iter().copied().collect()
    }

    #[test]
    fn each_version_gets_its_share_of_the_seeds() {
        let traffic = Traffic::new(&weights(&[(1, 90), (2, 0), (3, 10)]), None).unwrap();
        let mut counts = BTreeMap::new();
        for part in 0..1000_u64 {
            *counts.entry(traffic.pick(part * (u64::MAX / 1000))).or_insert(0) += 1;
        }
        assert_eq!(counts, BTreeMap::from([(1, 901), (3, 99)]), "the seeds are rounded down");
        assert_eq!((traffic.pick(0), traffic.pick(u64::MAX)), (1, 3));
    }

    #[test]
    fn weights_that_cannot_be_are_refused() {
        for bad in [weights(&[]), weights(&[(1, 0)]), weights(&[(1, TRAFFIC_WEIGHT_MAX + 1)])] {
            assert!(Traffic::new(&bad, None).is_err(), "{bad:?}");
        }
        let many: BTreeMap<u32, u32> =
            (1..=TRAFFIC_VERSIONS_MAX as u32 + 1).map(|version| (version, 1)).collect();
        assert!(Traffic::new(&many, None).is_err());
    }

    #[test]
    fn callers_are_told_apart_by_a_header_or_a_cookie() {
        assert_eq!(Sticky::parse("header:X-User"), Some(Sticky::Header("x-user".to_owned())));
        assert_eq!(Sticky::parse("cookie:AB"), Some(Sticky::Cookie("AB".to_owned())));
        for bad in ["", "header:", "cookie:a b", "query:a", "header:ä", &format!("header:{}", "x".repeat(65))]
        {
            assert_eq!(Sticky::parse(bad), None, "{bad}");
        }
    }
}
