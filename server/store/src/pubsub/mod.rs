//! Pubsub between the parts of a node and between nodes. A message reaches the subscriptions that exist when it is published, and
//! is not stored.

use crate::causes::Cause;
use bytes::Bytes;
use std::pin::Pin;

pub mod memory;
pub mod olric;

/// A future of this module's traits.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why publishing or subscribing failed.
#[derive(Debug, thiserror::Error)]
#[error("pubsub: {0}")]
pub struct PubSubError(#[source] pub Cause);

/// Sends bytes to all subscribers of a topic.
///
/// Nothing is stored. Data that must not be lost are kept elsewhere, and a message only announces them.
/// Messages of one sender to one topic arrive in order, each once, unless the subscription reports that it lagged.
pub trait PubSub: Send + Sync + 'static {
    /// Publishes a message. It is not an error if there is no subscription.
    fn publish(&self, topic: &str, message: Bytes) -> Answer<'static, Result<(), PubSubError>>;

    /// Subscribes to a topic. The subscription receives every message that is published after this call has returned.
    fn subscribe(&self, topic: &str) -> Answer<'static, Result<Box<dyn Subscription>, PubSubError>>;
}

/// An item of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Message(Bytes),
    /// Messages were lost, because the receiver was too slow or the connection broke.
    Lagged,
}

/// A subscription. Dropping it ends it.
pub trait Subscription: Send {
    /// Returns the next message. The future is cancel-safe.
    fn next(&mut self) -> Answer<'_, Received>;
}
