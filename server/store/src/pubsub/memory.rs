//! Pubsub within one process.

use super::{Answer, PubSub, PubSubError, Received, Subscription};
use crate::limits::PUBSUB_BACKLOG_MAX;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::{pending, ready};
use tokio::sync::broadcast::{self, error::RecvError};

/// Topics with subscriptions.
#[derive(Default)]
pub struct MemoryPubSub {
    topics: Mutex<HashMap<String, broadcast::Sender<Bytes>>>,
}

impl PubSub for MemoryPubSub {
    fn publish(&self, topic: &str, message: Bytes) -> Answer<'static, Result<(), PubSubError>> {
        let mut topics = self.topics.lock();
        // An error means that the last subscription was dropped, so the topic is removed.
        if topics.get(topic).is_some_and(|sender| sender.send(message).is_err()) {
            topics.remove(topic);
        }
        Box::pin(ready(Ok(())))
    }

    fn subscribe(&self, topic: &str) -> Answer<'static, Result<Box<dyn Subscription>, PubSubError>> {
        let mut topics = self.topics.lock();
        let sender =
            topics.entry(topic.to_owned()).or_insert_with(|| broadcast::channel(PUBSUB_BACKLOG_MAX).0);
        let listener: Box<dyn Subscription> = Box::new(Listener(sender.subscribe()));
        Box::pin(ready(Ok(listener)))
    }
}

struct Listener(broadcast::Receiver<Bytes>);

impl Subscription for Listener {
    fn next(&mut self) -> Answer<'_, Received> {
        Box::pin(async move {
            match self.0.recv().await {
                Ok(message) => Received::Message(message),
                Err(RecvError::Lagged(_)) => Received::Lagged,
                // The pubsub was dropped, so no message can arrive.
                Err(RecvError::Closed) => pending().await,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_keeps_the_promises_of_every_pubsub() {
        conformance::pubsub::suite(&MemoryPubSub::default()).await;
    }

    #[tokio::test]
    async fn topics_that_nobody_listens_to_are_forgotten() {
        let pubsub = MemoryPubSub::default();
        drop(pubsub.subscribe("a").await.unwrap());
        assert_eq!(pubsub.topics.lock().len(), 1);
        pubsub.publish("a", Bytes::new()).await.unwrap();
        pubsub.publish("b", Bytes::new()).await.unwrap();
        assert_eq!(pubsub.topics.lock().len(), 0);
    }

    #[tokio::test]
    async fn a_listener_that_is_too_slow_is_told_and_goes_on_with_the_newest() {
        let pubsub = MemoryPubSub::default();
        let mut listener = pubsub.subscribe("a").await.unwrap();
        let sent = 2 * PUBSUB_BACKLOG_MAX;
        for n in 0..sent {
            pubsub.publish("a", Bytes::from(n.to_string())).await.unwrap();
        }
        assert_eq!(listener.next().await, Received::Lagged);
        for n in sent - PUBSUB_BACKLOG_MAX..sent {
            assert_eq!(listener.next().await, Received::Message(Bytes::from(n.to_string())));
        }
    }
}
