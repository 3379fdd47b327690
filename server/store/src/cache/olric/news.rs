//! Tells the other nodes what changed in the cache, and hears it from them.
//!
//! Nobody waits for a message to be sent: changes are gathered and leave together. When there are too many, or one was not
//! sent, the others are told to forget everything as soon as they can be reached.

use super::near::Near;
use crate::breaker::retry_pause;
use crate::limits::{CACHE_NEWS_AT_ONCE, CACHE_NEWS_MAX};
use crate::pubsub::{Heard, PubSub};
use bytes::Bytes;
use orama_runtime::names::Namespace;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

const TOPIC: &str = "cache";

/// A key, or all of a namespace.
type Change = (String, Option<String>);

#[derive(Serialize, Deserialize)]
struct Message {
    /// Who tells, as everyone hears their own messages too.
    from: u64,
    /// What changed; `None` is everything.
    changed: Option<Vec<Change>>,
}

/// Where changes are told. Dropping it ends telling and hearing.
pub(super) struct News {
    changes: mpsc::Sender<Change>,
    is_incomplete: Arc<AtomicBool>,
}

impl News {
    pub(super) fn new(pubsub: Arc<dyn PubSub>, near: &Arc<Near>, backplane: &Handle) -> Self {
        let (changes, inbox) = mpsc::channel(CACHE_NEWS_MAX);
        let is_incomplete = Arc::<AtomicBool>::default();
        // Without randomness it hears itself, which costs a little and breaks nothing.
        let me = getrandom::u64().unwrap_or(0);
        backplane.spawn(hear(Arc::clone(&pubsub), Arc::downgrade(near), me));
        backplane.spawn(tell(pubsub, inbox, Arc::clone(&is_incomplete), me));
        Self { changes, is_incomplete }
    }

    /// Tells of a change. Waits for nothing.
    pub(super) fn tell(&self, namespace: &Namespace, key: Option<&str>) {
        let change = (namespace.to_string(), key.map(ToOwned::to_owned));
        if self.changes.try_send(change).is_err() {
            self.is_incomplete.store(true, Ordering::Release);
        }
    }
}

async fn tell(
    pubsub: Arc<dyn PubSub>,
    mut inbox: mpsc::Receiver<Change>,
    is_incomplete: Arc<AtomicBool>,
    me: u64,
) {
    let mut failures = 0;
    let mut changes = Vec::new();
    while inbox.recv_many(&mut changes, CACHE_NEWS_AT_ONCE).await > 0 {
        // Until it was sent. What comes meanwhile is in it: all is forgotten.
        loop {
            let is_all = is_incomplete.swap(false, Ordering::AcqRel);
            let changed = (!is_all).then(|| std::mem::take(&mut changes));
            changes.clear();
            // Numbers and texts become JSON whatever they are.
            let message = serde_json::to_vec(&Message { from: me, changed }).unwrap_or_default();
            match pubsub.publish(TOPIC, Bytes::from(message)).await {
                Ok(()) => {
                    failures = 0;
                    break;
                }
                Err(error) => {
                    tracing::debug!(%error, "the other nodes could not be told of changes in the cache");
                    is_incomplete.store(true, Ordering::Release);
                    if inbox.is_closed() {
                        return;
                    }
                    failures += 1;
                    tokio::time::sleep(retry_pause(failures)).await;
                    while inbox.try_recv().is_ok() {}
                }
            }
        }
    }
}

async fn hear(pubsub: Arc<dyn PubSub>, near: Weak<Near>, me: u64) {
    let mut failures = 0;
    let mut subscription = loop {
        match pubsub.subscribe(TOPIC).await {
            Ok(subscription) => break subscription,
            Err(error) => {
                tracing::warn!(%error, "changes in the cache are not heard of");
                failures += 1;
                tokio::time::sleep(retry_pause(failures)).await;
            }
        }
    };
    drop(pubsub);
    // What was remembered before may have changed unheard.
    let mut heard = Heard::Lagged;
    while let Some(near) = near.upgrade() {
        match heard {
            Heard::Lagged => near.forget_all(),
            Heard::Message(message) => apply(&near, &message, me),
        }
        drop(near);
        heard = subscription.next().await;
    }
}

fn apply(near: &Near, message: &[u8], me: u64) {
    match serde_json::from_slice(message) {
        Ok(Message { from, .. }) if from == me => {}
        Ok(Message { changed: Some(changes), .. }) => {
            for (namespace, key) in changes {
                let Ok(namespace) = Namespace::new(&namespace) else { continue };
                match key {
                    Some(key) => near.forget(&namespace, &key),
                    None => near.forget_namespace(&namespace),
                }
            }
        }
        // What a node of another version says may mean anything.
        Ok(Message { changed: None, .. }) | Err(_) => near.forget_all(),
    }
}
