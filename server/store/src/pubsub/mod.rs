//! Messages between the parts of a node and between nodes. A message reaches those who are subscribed when it is sent, and is not
//! stored.

use crate::causes::Cause;
use bytes::Bytes;
use std::pin::Pin;

pub mod memory;
pub mod olric;

/// A future of this module's traits.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a message could not be published, or a topic not be subscribed to.
#[derive(Debug, thiserror::Error)]
#[error("pubsub: {0}")]
pub struct PubSubError(#[source] pub Cause);

/// Sends bytes to all subscribers of a topic.
///
/// Nothing is stored: what must not be lost is kept elsewhere, and a message only says that it is time to look.
/// Messages of one sender to one topic arrive in order, each once, unless the subscription reports that it lagged.
pub trait PubSub: Send + Sync + 'static {
    /// Publishes a message. That nobody is subscribed is not an error.
    fn publish(&self, topic: &str, message: Bytes) -> Answer<'static, Result<(), PubSubError>>;

    /// Subscribes. The subscription gets every message that is published after this call has returned.
    fn subscribe(&self, topic: &str) -> Answer<'static, Result<Box<dyn Subscription>, PubSubError>>;
}

/// What a subscription receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Message(Bytes),
    /// Messages were lost: the receiver was too slow, or the connection to the others broke for a while.
    Lagged,
}

/// One listener. Dropping it ends the subscription.
pub trait Subscription: Send {
    /// The next message. Dropping the future loses none.
    fn next(&mut self) -> Answer<'_, Received>;
}
