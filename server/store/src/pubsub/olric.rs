//! Pubsub between nodes, over an Olric cluster.
//!
//! One connection receives for all subscriptions of the node. If it breaks or does not answer a probe, another one is opened, all
//! channels are subscribed to again, and each subscription is told that it may have lost messages. Another connection publishes.

use super::{Answer, PubSub, PubSubError, Received, Subscription};
use crate::breaker::{Breaker, retry_pause};
use crate::causes::Cause;
use crate::limits::{OLRIC_PING_EVERY, OLRIC_TIMEOUT, PUBSUB_BACKLOG_MAX};
use crate::olric::{Again, Olric, OlricError, Shape};
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use redis::Value;
use redis::aio::{PubSubSink, PubSubStream};
use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

/// Subscriptions that wait to be made; a node makes only a handful.
const REQUESTS_MAX: usize = 64;

/// The topics of one cluster of nodes, on an Olric cluster that other clusters may share.
pub struct OlricPubSub {
    olric: Olric,
    prefix: String,
    topics: Arc<Topics>,
    requests: mpsc::Sender<Request>,
}

/// A channel to subscribe to, and the receiver of the confirmation.
struct Request {
    channel: String,
    done: oneshot::Sender<()>,
}

#[derive(Default)]
struct Topics(Mutex<HashMap<String, Topic>>);

struct Topic {
    sender: broadcast::Sender<Received>,
    /// Whether the current connection has confirmed it.
    is_subscribed: bool,
}

impl OlricPubSub {
    /// Starts to receive. Names of channels begin with the cluster's name. Ends when it is dropped.
    #[must_use]
    pub fn new(olric: Olric, cluster: &str) -> Self {
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let topics = Arc::<Topics>::default();
        olric.backplane().spawn(listen(olric.clone(), Arc::clone(&topics), inbox));
        Self { olric, prefix: format!("{cluster}/"), topics, requests }
    }

    /// Checks that Olric answers. Blocks.
    ///
    /// # Errors
    /// [`OlricError`].
    pub fn check(&self) -> Result<(), OlricError> {
        self.olric.backplane().block_on(self.olric.check())
    }

    /// The circuit breaker of the cluster.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        self.olric.breaker()
    }
}

fn failed(error: impl Into<Cause>) -> PubSubError {
    PubSubError(error.into())
}

impl PubSub for OlricPubSub {
    fn publish(&self, topic: &str, message: Bytes) -> Answer<'static, Result<(), PubSubError>> {
        let olric = self.olric.clone();
        let mut command = redis::cmd("PUBLISH");
        command.arg(format!("{}{topic}", self.prefix)).arg(&message[..]);
        let sent = self.olric.backplane().spawn(async move {
            // Sent only once: it may have arrived although its answer did not.
            let answer = olric.ask(&command, Shape::Number, Again::Never, Instant::now() + OLRIC_TIMEOUT);
            answer.await.map(drop).map_err(failed)
        });
        Box::pin(async move { sent.await.map_err(failed)? })
    }

    /// Succeeds even while Olric is down: the subscription then reports lost messages when the first one arrives.
    fn subscribe(&self, topic: &str) -> Answer<'static, Result<Box<dyn Subscription>, PubSubError>> {
        let channel = format!("{}{topic}", self.prefix);
        let mut receiver = self.topics.listen(&channel);
        let requests = self.requests.clone();
        let listening = self.olric.backplane().spawn(async move {
            let (done, subscribed) = oneshot::channel();
            let asked = async {
                requests.send(Request { channel, done }).await.ok()?;
                subscribed.await.ok()
            };
            if let Ok(Some(())) = timeout(OLRIC_TIMEOUT, asked).await {
                // Earlier messages do not concern it.
                receiver = receiver.resubscribe();
            }
            let listener: Box<dyn Subscription> = Box::new(Listener(receiver));
            listener
        });
        Box::pin(async move { listening.await.map_err(failed) })
    }
}

struct Listener(broadcast::Receiver<Received>);

impl Subscription for Listener {
    fn next(&mut self) -> Answer<'_, Received> {
        Box::pin(async move {
            match self.0.recv().await {
                Ok(heard) => heard,
                Err(RecvError::Lagged(_)) => Received::Lagged,
                // The pubsub was dropped, so no message can arrive.
                Err(RecvError::Closed) => pending().await,
            }
        })
    }
}

impl Topics {
    fn listen(&self, channel: &str) -> broadcast::Receiver<Received> {
        let mut topics = self.0.lock();
        let topic = topics.entry(channel.to_owned()).or_insert_with(|| Topic {
            sender: broadcast::channel(PUBSUB_BACKLOG_MAX).0,
            is_subscribed: false,
        });
        topic.sender.subscribe()
    }

    /// Delivers a message. Returns `false` if there are no subscriptions, and removes the topic.
    fn hand_over(&self, channel: &str, message: Bytes) -> bool {
        let mut topics = self.0.lock();
        let is_heard =
            topics.get(channel).is_some_and(|topic| topic.sender.send(Received::Message(message)).is_ok());
        if !is_heard {
            topics.remove(channel);
        }
        is_heard
    }

    /// All channels with subscriptions, marked as not confirmed for a new connection.
    fn begin(&self) -> Vec<String> {
        let mut topics = self.0.lock();
        topics.retain(|_, topic| topic.sender.receiver_count() > 0);
        topics.values_mut().for_each(|topic| topic.is_subscribed = false);
        topics.keys().cloned().collect()
    }

    fn is_subscribed(&self, channel: &str) -> bool {
        self.0.lock().get(channel).is_none_or(|topic| topic.is_subscribed)
    }

    /// Marks a channel as confirmed. Existing subscriptions may have lost messages.
    fn subscribed(&self, channel: &str, have_lagged: bool) {
        if let Some(topic) = self.0.lock().get_mut(channel) {
            topic.is_subscribed = true;
            if have_lagged {
                // Fails only without subscriptions.
                let _ = topic.sender.send(Received::Lagged);
            }
        }
    }
}

/// Keeps a receiving connection open until the pubsub is dropped.
async fn listen(olric: Olric, topics: Arc<Topics>, mut inbox: mpsc::Receiver<Request>) {
    let mut failures = 0;
    loop {
        if inbox.is_closed() {
            return;
        }
        match olric.subscriber().await {
            Ok((sink, stream)) => {
                let begun = Instant::now();
                let Err(why) = serve(sink, stream, &topics, &mut inbox).await else { return };
                tracing::warn!(
                    backend = olric.breaker().name(),
                    why,
                    "the receiving connection failed and is replaced"
                );
                if begun.elapsed() > OLRIC_PING_EVERY {
                    failures = 0;
                }
            }
            Err(error) => {
                tracing::debug!(backend = olric.breaker().name(), %error, "cannot open a receiving connection")
            }
        }
        failures += 1;
        sleep(retry_pause(failures)).await;
    }
}

/// Receives on one connection until it fails. `Ok` when the pubsub was dropped.
async fn serve(
    sink: PubSubSink,
    mut stream: PubSubStream,
    topics: &Topics,
    inbox: &mut mpsc::Receiver<Request>,
) -> Result<(), &'static str> {
    let (unused, mut unheard) = mpsc::channel::<String>(REQUESTS_MAX);
    let heard = async {
        while let Some(message) = stream.next().await {
            let channel = message.get_channel_name();
            if !topics.hand_over(channel, Bytes::copy_from_slice(message.get_payload_bytes())) {
                // If there is no room, the next message for the channel repeats it.
                let _ = unused.try_send(channel.to_owned());
            }
        }
        Err("it ended")
    };
    let subscribed = async {
        let mut commands = sink.clone();
        for channel in topics.begin() {
            subscribe(&mut commands, &channel).await?;
            topics.subscribed(&channel, true);
        }
        loop {
            tokio::select! {
                request = inbox.recv() => {
                    let Some(Request { channel, done }) = request else { return Ok(()) };
                    if topics.is_subscribed(&channel) {
                        // Messages that were sent earlier arrive before this answer.
                        answered(commands.ping::<Value>()).await?;
                    } else {
                        subscribe(&mut commands, &channel).await?;
                        topics.subscribed(&channel, false);
                    }
                    // Then `heard` has its turn.
                    tokio::task::yield_now().await;
                    // The caller may have given up.
                    let _ = done.send(());
                }
                Some(channel) = unheard.recv() => {
                    // There may be a new subscription.
                    if !topics.0.lock().contains_key(&channel) {
                        answered(commands.unsubscribe(&channel)).await?;
                    }
                }
            }
        }
    };
    let alive = async {
        let mut pings = sink.clone();
        loop {
            sleep(OLRIC_PING_EVERY).await;
            answered(pings.ping::<Value>()).await?;
        }
    };
    tokio::select! {
        // All messages that have arrived are delivered first.
        biased;
        failed = tokio::task::unconstrained(heard) => failed,
        ended = subscribed => ended,
        failed = alive => failed,
    }
}

async fn subscribe(commands: &mut PubSubSink, channel: &str) -> Result<(), &'static str> {
    answered(commands.subscribe(channel)).await.map(|_| ())
}

async fn answered<T>(asked: impl Future<Output = redis::RedisResult<T>>) -> Result<T, &'static str> {
    match timeout(OLRIC_TIMEOUT, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err("the connection was refused or ended"),
        Err(_) => Err("the probe timed out"),
    }
}

#[cfg(test)]
mod tests;
