//! Invalidations between nodes: keys that one node changes are dropped from the near caches of the others.
//!
//! No call waits for a message: changes are batched. If there are too many, or if a message could not be sent, the other nodes
//! are told to drop everything as soon as they can be reached.

use super::near::Near;
use crate::breaker::retry_pause;
use crate::limits::{CACHE_INVALIDATIONS_AT_ONCE, CACHE_INVALIDATIONS_MAX};
use crate::pubsub::{PubSub, Received};
use bytes::Bytes;
use orama_runtime::names::Namespace;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

const TOPIC: &str = "cache";

/// A key of a namespace, or all of its keys.
type Change = (String, Option<String>);

#[derive(Serialize, Deserialize)]
struct Message {
    /// The sender, because a node also receives its own messages.
    from: u64,
    /// The changed keys; `None` is everything.
    changed: Option<Vec<Change>>,
}

/// Sends this node's invalidations. Dropping it stops sending and receiving.
pub(super) struct Invalidations {
    changes: mpsc::Sender<Change>,
    is_incomplete: Arc<AtomicBool>,
}

impl Invalidations {
    pub(super) fn new(pubsub: Arc<dyn PubSub>, near: &Arc<Near>, backplane: &Handle) -> Self {
        let (changes, inbox) = mpsc::channel(CACHE_INVALIDATIONS_MAX);
        let is_incomplete = Arc::<AtomicBool>::default();
        // Without random bytes the node also applies its own messages, which is harmless.
        let me = getrandom::u64().unwrap_or(0);
        backplane.spawn(receive(Arc::clone(&pubsub), Arc::downgrade(near), me));
        backplane.spawn(send(pubsub, inbox, Arc::clone(&is_incomplete), me));
        Self { changes, is_incomplete }
    }

    /// Queues an invalidation without waiting.
    pub(super) fn send(&self, namespace: &Namespace, key: Option<&str>) {
        let change = (namespace.to_string(), key.map(ToOwned::to_owned));
        if self.changes.try_send(change).is_err() {
            self.is_incomplete.store(true, Ordering::Release);
        }
    }
}

async fn send(
    pubsub: Arc<dyn PubSub>,
    mut inbox: mpsc::Receiver<Change>,
    is_incomplete: Arc<AtomicBool>,
    me: u64,
) {
    let mut failures = 0;
    let mut changes = Vec::new();
    while inbox.recv_many(&mut changes, CACHE_INVALIDATIONS_AT_ONCE).await > 0 {
        // Repeats until it was sent. It drops everything, so it covers changes that arrive meanwhile.
        loop {
            let is_all = is_incomplete.swap(false, Ordering::AcqRel);
            let changed = (!is_all).then(|| std::mem::take(&mut changes));
            changes.clear();
            // Numbers and texts can always be encoded as JSON.
            let message = serde_json::to_vec(&Message { from: me, changed }).unwrap_or_default();
            match pubsub.publish(TOPIC, Bytes::from(message)).await {
                Ok(()) => {
                    failures = 0;
                    break;
                }
                Err(error) => {
                    tracing::debug!(%error, "invalidations of the cache could not be sent");
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

async fn receive(pubsub: Arc<dyn PubSub>, near: Weak<Near>, me: u64) {
    let mut failures = 0;
    let mut subscription = loop {
        match pubsub.subscribe(TOPIC).await {
            Ok(subscription) => break subscription,
            Err(error) => {
                tracing::warn!(%error, "invalidations of the cache cannot be received; values may be stale for longer");
                failures += 1;
                tokio::time::sleep(retry_pause(failures)).await;
            }
        }
    };
    drop(pubsub);
    // Earlier invalidations may have been missed.
    let mut heard = Received::Lagged;
    while let Some(near) = near.upgrade() {
        match heard {
            Received::Lagged => near.forget_all(),
            Received::Message(message) => apply(&near, &message, me),
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
        // A message of another version: drop everything.
        Ok(Message { changed: None, .. }) | Err(_) => near.forget_all(),
    }
}
