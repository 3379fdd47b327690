//! Every key of a configuration with its value and where it was said.

use super::key::{Reloads, quoted};
use super::keys::keys;
use super::raw::{Field, TABLES};
use super::{Loaded, Place, issuers};
use orama_platform::secrets::KEY_VARIABLE;
use std::collections::HashMap;

/// Shown for what is there and is nobody's business.
const HIDDEN: &str = "(set)";

/// A key of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the file; for master keys, the name of their variable.
    pub key: String,
    /// Its value as the file would say it, or the default in words; `None` where there is none. Never a secret.
    pub value: Option<String>,
    /// Where it was said; `None` for a default.
    pub origin: Option<Place>,
    /// Whether SIGHUP takes a new value over.
    pub reloads: bool,
}

impl Loaded {
    /// Every key, in the order of docs/CONFIG.md.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut config = self.config.clone();
        let of_keys = keys().map(|key| {
            let value = key.value(&mut config).or_else(|| key.default.map(|words| format!("({words})")));
            self.entry(key.name, value, key.reloads == Reloads::Value)
        });
        let mut entries: Vec<_> = of_keys.collect();
        self.add_backends(&mut entries);
        let named = self.config.issuers.iter().filter(|issuer| issuer.issuer.is_some());
        for (index, issuer) in named.enumerate() {
            entries.push(self.entry(&issuers::numbered(index + 1), Some(issuers::text(issuer)), true));
        }
        let keys = self.config.secrets_keys.as_ref().map(|_| HIDDEN.to_owned());
        entries.push(self.entry(KEY_VARIABLE, keys, false));
        entries
    }

    fn add_backends(&self, entries: &mut Vec<Entry>) {
        for (table, _, kind, fields) in TABLES {
            if let Some(prefix) = table.strip_suffix('*') {
                // Those of the namespaces that were named.
                for (key, value) in self.backends.iter().filter(|(key, _)| key.starts_with(prefix)) {
                    entries.push(self.entry(key, Some(value.clone()), false));
                }
                continue;
            }
            for Field(field, ..) in *fields {
                let key = format!("{table}.{field}");
                let said = self.backends.iter().find(|(said, _)| *said == key);
                let default = (*field == "kind").then(|| quoted(kind));
                let value = said.map(|(_, value)| value.clone()).or(default);
                entries.push(self.entry(&key, value, false));
            }
        }
    }

    fn entry(&self, key: &str, value: Option<String>, reloads: bool) -> Entry {
        Entry { key: key.to_owned(), value, origin: self.origins.get(key).cloned(), reloads }
    }

    /// The keys whose values differ in another configuration and are taken over only by a new start.
    #[must_use]
    pub fn needs_restart(&self, other: &Self) -> Vec<String> {
        let values = |loaded: &Self| -> HashMap<String, Option<String>> {
            let fixed = loaded.entries().into_iter().filter(|entry| !entry.reloads);
            fixed.map(|entry| (entry.key, entry.value)).collect()
        };
        let (before, after) = (values(self), values(other));
        let mut keys: Vec<_> = before.keys().chain(after.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let differs = |key: &&String| before.get(*key) != after.get(*key);
        keys.into_iter().filter(differs).cloned().collect()
    }
}
