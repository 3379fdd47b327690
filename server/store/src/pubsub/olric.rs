//! Messages between nodes, over an Olric cluster.
//!
//! One connection listens for all subscriptions of the node. When it breaks, or stays silent when it is tried, another one is
//! opened, everything is subscribed to anew, and each subscription is told that it may have lost messages. One more connection
//! publishes.

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

/// Subscriptions that may wait for their turn; a node makes a handful in its life.
const REQUESTS_MAX: usize = 64;

/// The topics of one cluster of nodes, on an Olric cluster that others may use as well.
pub struct OlricPubSub {
    olric: Olric,
    prefix: String,
    topics: Arc<Topics>,
    requests: mpsc::Sender<Request>,
}

/// A channel that is to be subscribed to, and whom to tell when it is.
struct Request {
    channel: String,
    done: oneshot::Sender<()>,
}

#[derive(Default)]
struct Topics(Mutex<HashMap<String, Topic>>);

struct Topic {
    sender: broadcast::Sender<Received>,
    /// Whether the connection that there is now has confirmed it.
    is_subscribed: bool,
}

impl OlricPubSub {
    /// Begins to listen. Names in Olric begin with the cluster's. It ends when this is dropped.
    #[must_use]
    pub fn new(olric: Olric, cluster: &str) -> Self {
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let topics = Arc::<Topics>::default();
        olric.backplane().spawn(listen(olric.clone(), Arc::clone(&topics), inbox));
        Self { olric, prefix: format!("{cluster}/"), topics, requests }
    }

    /// Whether Olric answers now. Blocks.
    ///
    /// # Errors
    /// [`OlricError`].
    pub fn check(&self) -> Result<(), OlricError> {
        self.olric.backplane().block_on(self.olric.check())
    }

    /// The circuit of this cluster.
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
            // Once: it may have arrived although the answer did not.
            let answer = olric.ask(&command, Shape::Number, Again::Never, Instant::now() + OLRIC_TIMEOUT);
            answer.await.map(drop).map_err(failed)
        });
        Box::pin(async move { sent.await.map_err(failed)? })
    }

    /// Also while Olric is down: then the subscription is told as soon as messages arrive that it lost those before.
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
                // What came before does not concern it.
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
                // The sender goes with the whole pubsub: there is nothing to hear any more.
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

    /// Hands a message to its listeners. `false` when there are none, and no topic any more.
    fn hand_over(&self, channel: &str, message: Bytes) -> bool {
        let mut topics = self.0.lock();
        let is_heard =
            topics.get(channel).is_some_and(|topic| topic.sender.send(Received::Message(message)).is_ok());
        if !is_heard {
            topics.remove(channel);
        }
        is_heard
    }

    /// All channels that somebody listens to, none of which is subscribed to on a new connection.
    fn begin(&self) -> Vec<String> {
        let mut topics = self.0.lock();
        topics.retain(|_, topic| topic.sender.receiver_count() > 0);
        topics.values_mut().for_each(|topic| topic.is_subscribed = false);
        topics.keys().cloned().collect()
    }

    fn is_subscribed(&self, channel: &str) -> bool {
        self.0.lock().get(channel).is_none_or(|topic| topic.is_subscribed)
    }

    /// Messages arrive from now on. Who listened before may have lost some.
    fn subscribed(&self, channel: &str, have_lagged: bool) {
        if let Some(topic) = self.0.lock().get_mut(channel) {
            topic.is_subscribed = true;
            if have_lagged {
                // Without listeners there is nobody to tell.
                let _ = topic.sender.send(Received::Lagged);
            }
        }
    }
}

/// Keeps a connection that listens, until nobody can ask for a subscription any more.
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
                    "the connection that listens is replaced"
                );
                if begun.elapsed() > OLRIC_PING_EVERY {
                    failures = 0;
                }
            }
            Err(error) => tracing::debug!(backend = olric.breaker().name(), %error, "cannot listen"),
        }
        failures += 1;
        sleep(retry_pause(failures)).await;
    }
}

/// Listens on one connection until it fails. `Ok` when nobody can ask any more.
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
                // When there is no room it comes again with the next message.
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
                        // What was sent before is here before the answer to this.
                        answered(commands.ping::<Value>()).await?;
                    } else {
                        subscribe(&mut commands, &channel).await?;
                        topics.subscribed(&channel, false);
                    }
                    // Then `heard` has its turn.
                    tokio::task::yield_now().await;
                    // It may have given up.
                    let _ = done.send(());
                }
                Some(channel) = unheard.recv() => {
                    // Somebody may listen to it again.
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
        // All that has arrived is handed over before anything else is done.
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
        Ok(Err(_)) => Err("it refused or ended"),
        Err(_) => Err("it did not answer in time"),
    }
}

#[cfg(test)]
mod tests;
