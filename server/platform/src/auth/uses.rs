//! When API keys were last used: noted in memory at a lookup, and written from time to time.

use crate::limits::{KEY_USE_NOTED_EVERY, KEY_USES_WRITTEN_EVERY};
use crate::registry::{KeyEntry, Registry};
use orama_store::blocking::{TaskFailed, blocking};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Uses that are not written yet.
pub(super) struct KeyUses {
    registry: Registry,
    /// By the key's id; there are at most as many as keys.
    noted: Mutex<HashMap<String, i64>>,
}

impl KeyUses {
    pub(super) fn new(registry: Registry) -> Self {
        Self { registry, noted: Mutex::default() }
    }

    /// Notes a use, unless a recent one is written already.
    pub(super) fn note(&self, key: &KeyEntry, now_ms: i64) {
        let recent_ms = now_ms - KEY_USE_NOTED_EVERY.as_millis() as i64;
        if key.last_used_ms.is_none_or(|last_ms| last_ms < recent_ms) {
            self.noted.lock().insert(key.id.clone(), now_ms);
        }
    }

    /// Writes uses until the last owner is gone.
    pub(super) fn start(this: &Arc<Self>, backplane: &Handle) {
        let this = Arc::downgrade(this);
        backplane.spawn(async move {
            loop {
                tokio::time::sleep(KEY_USES_WRITTEN_EVERY).await;
                let Some(uses) = this.upgrade() else { return };
                let write = move || {
                    uses.write();
                    Ok::<_, TaskFailed>(())
                };
                let written = blocking(write).await;
                if let Err(error) = written {
                    tracing::error!(%error, "the last uses of API keys could not be written");
                }
            }
        });
    }

    /// Writes what was noted. A failure is logged; the next use is noted again.
    pub(super) fn write(&self) {
        let noted: Vec<(String, i64)> = self.noted.lock().drain().collect();
        if noted.is_empty() {
            return;
        }
        if let Err(error) = self.registry.note_key_uses(&noted) {
            tracing::warn!(%error, "the last uses of API keys could not be written; they are noted again at their next use");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;
    use orama_runtime::names::Namespace;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_use_is_written_once_an_hour_and_no_cache_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        let namespace = Namespace::new("a").unwrap();
        registry.create_namespace(&namespace).unwrap();
        let (id, _) = registry.create_key(&namespace, Role::Invoke).unwrap();
        let uses = KeyUses::new(registry.clone());
        let key = || registry.key(&id).unwrap().unwrap();
        let generation = registry.generation().load(Ordering::Acquire);
        let hour_ms = KEY_USE_NOTED_EVERY.as_millis() as i64;
        for (now_ms, written) in [(10, 10), (20, 10), (hour_ms + 10, 10), (hour_ms + 11, hour_ms + 11)] {
            uses.note(&key(), now_ms);
            uses.write();
            assert_eq!(key().last_used_ms, Some(written), "at {now_ms}");
        }
        assert_eq!(registry.generation().load(Ordering::Acquire), generation);
        uses.note(&key(), 3 * hour_ms);
        registry.delete_key(&id).unwrap();
        uses.write();
    }
}
