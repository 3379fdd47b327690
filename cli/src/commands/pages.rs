//! Lists of the node, which come in pages: follows them to the end, or to as many entries as are asked for.

use crate::client::{Answer, Client, not_understood};
use crate::error::Result;
use reqwest::Method;
use serde::de::{DeserializeOwned, Error};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Entries that a node gives at most in one page.
const PAGE_MAX: u32 = 1000;

/// What is listed, and where.
pub struct Listed<'a> {
    /// The path below `/v1`.
    pub path: &'a [&'a str],
    /// The field of the answer that holds the entries.
    pub field: &'static str,
    /// Whether it is of one namespace, which the request then names.
    pub of_namespace: bool,
}

/// Entries as the node wrote them.
pub struct List {
    field: &'static str,
    entries: Vec<Box<RawValue>>,
    /// Where the rest begins.
    next: Option<String>,
}

impl List {
    /// Asks for pages until there are `limit` entries, or all.
    ///
    /// # Errors
    /// As [`Client::send`], or when an answer is not such a list.
    pub fn fetch(client: &Client, listed: &Listed<'_>, limit: Option<u32>) -> Result<Self> {
        Self::fetch_where(client, listed, &[], limit)
    }

    /// The same for the entries that a query leaves.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub fn fetch_where(
        client: &Client,
        listed: &Listed<'_>,
        filter: &[(&'static str, String)],
        limit: Option<u32>,
    ) -> Result<Self> {
        let mut list = Self { field: listed.field, entries: Vec::new(), next: None };
        loop {
            let left = limit.map(|limit| limit.saturating_sub(list.entries.len() as u32));
            let size = left.map(|left| ("limit", left.min(PAGE_MAX).to_string()));
            let after = list.next.take().map(|next| ("after", next));
            let query: Vec<_> = filter.iter().cloned().chain(size).chain(after).collect();
            let request = if listed.of_namespace {
                client.query(Method::GET, listed.path, &query)
            } else {
                client.bare_query(Method::GET, listed.path, &query)
            };
            let before = list.entries.len();
            list.add(&client.send(request)?)?;
            let is_enough = limit.is_some_and(|limit| list.entries.len() >= limit as usize);
            // A page without entries ends every list.
            if is_enough || list.next.is_none() || list.entries.len() == before {
                return Ok(list);
            }
        }
    }

    fn add(&mut self, answer: &Answer) -> Result<()> {
        let mut fields: BTreeMap<String, Box<RawValue>> = answer.json()?;
        let no_list = |error| not_understood(error, answer.request_id.clone());
        let missing = || serde_json::Error::custom(format!("it has no field `{}`", self.field));
        let entries = fields.remove(self.field).ok_or_else(missing).map_err(no_list)?;
        let next = fields.remove("next").map(|next| serde_json::from_str(next.get())).transpose();
        let entries: Vec<Box<RawValue>> = serde_json::from_str(entries.get()).map_err(no_list)?;
        self.next = next.map_err(no_list)?;
        self.entries.extend(entries);
        Ok(())
    }

    /// Reads the entries.
    ///
    /// # Errors
    /// When one is something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let texts = self.entries.iter().map(|entry| entry.get());
        texts
            .map(serde_json::from_str)
            .collect::<serde_json::Result<_>>()
            .map_err(|e| not_understood(e, None))
    }

    /// The whole list as the node would write it in one page, for `--json`. Entries are as the node wrote them.
    ///
    /// # Errors
    /// Never in practice.
    pub fn line(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| not_understood(error, None))
    }
}

impl Serialize for List {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry(self.field, &self.entries)?;
        map.serialize_entry("count", &self.entries.len())?;
        if let Some(next) = &self.next {
            map.serialize_entry("next", next)?;
        }
        map.end()
    }
}
