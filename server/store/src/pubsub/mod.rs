//! Messages between the parts of one node, and between nodes: whoever listens now hears them, nobody else ever does.

use bytes::Bytes;
use std::pin::Pin;

pub mod memory;
pub mod olric;

/// A future of this module's traits.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a message could not be sent, or a topic not be listened to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pubsub: {0}")]
pub struct PubSubError(pub String);

/// Sends bytes to all who are subscribed to a topic.
///
/// Nothing is stored: what must not be lost is kept elsewhere, and a message only says that it is time to look.
/// Messages of one sender to one topic arrive in their order, each once, unless the subscription is told that it lagged.
pub trait PubSub: Send + Sync + 'static {
    /// Sends to whoever is subscribed by now. Nobody is no error.
    fn publish(&self, topic: &str, message: Bytes) -> Answer<'static, Result<(), PubSubError>>;

    /// Listens. When it answers, messages sent from then on arrive.
    fn subscribe(&self, topic: &str) -> Answer<'static, Result<Box<dyn Subscription>, PubSubError>>;
}

/// What a subscription hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A message.
    Message(Bytes),
    /// Messages were lost: the receiver was too slow, or the connection to the others broke for a while.
    Lagged,
}

/// One listener. Dropping it ends the subscription.
pub trait Subscription: Send {
    /// The next message. Giving up the future loses none.
    fn next(&mut self) -> Answer<'_, Heard>;
}
