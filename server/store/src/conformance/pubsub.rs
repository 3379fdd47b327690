//! What every pubsub must do.

use crate::pubsub::{PubSub, Received, Subscription};
use bytes::Bytes;
use std::time::Duration;

/// Longer than any message is on its way.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs all cases, on topics of their own.
pub(crate) async fn suite(pubsub: &dyn PubSub) {
    every_listener_hears_every_message_in_order(pubsub).await;
    topics_are_apart(pubsub).await;
    only_what_is_sent_after_a_subscription_is_heard(pubsub).await;
    a_listener_that_leaves_disturbs_nobody(pubsub).await;
    bytes_arrive_as_they_were(pubsub).await;
    giving_up_a_wait_loses_nothing(pubsub).await;
    several_senders_at_once_lose_nothing(pubsub).await;
}

async fn listen(pubsub: &dyn PubSub, topic: &str) -> Box<dyn Subscription> {
    pubsub.subscribe(topic).await.unwrap()
}

async fn send(pubsub: &dyn PubSub, topic: &str, message: impl AsRef<[u8]>) {
    pubsub.publish(topic, Bytes::copy_from_slice(message.as_ref())).await.unwrap();
}

async fn hear(listener: &mut Box<dyn Subscription>) -> Bytes {
    match tokio::time::timeout(PATIENCE, listener.next()).await {
        Ok(Received::Message(message)) => message,
        other => panic!("no message: {other:?}"),
    }
}

async fn every_listener_hears_every_message_in_order(pubsub: &dyn PubSub) {
    let mut listeners = vec![listen(pubsub, "order").await, listen(pubsub, "order").await];
    for n in 0..20 {
        send(pubsub, "order", n.to_string()).await;
    }
    for listener in &mut listeners {
        for n in 0..20 {
            assert_eq!(hear(listener).await, n.to_string());
        }
    }
}

async fn topics_are_apart(pubsub: &dyn PubSub) {
    let topics = ["apart", "apart:a", "apart:*", "Apart", "apart ", "äpart"];
    let mut listeners = Vec::new();
    for topic in topics {
        listeners.push(listen(pubsub, topic).await);
    }
    for topic in topics {
        send(pubsub, topic, topic).await;
    }
    for (topic, listener) in topics.iter().zip(&mut listeners) {
        assert_eq!(hear(listener).await, *topic);
        // Had a listener heard another topic's message, it would come before this one.
        send(pubsub, topic, "end").await;
        assert_eq!(hear(listener).await, "end", "{topic}");
    }
}

async fn only_what_is_sent_after_a_subscription_is_heard(pubsub: &dyn PubSub) {
    send(pubsub, "late", "to nobody").await;
    let mut first = listen(pubsub, "late").await;
    send(pubsub, "late", "to one").await;
    let mut second = listen(pubsub, "late").await;
    send(pubsub, "late", "to both").await;
    assert_eq!(hear(&mut first).await, "to one");
    assert_eq!(hear(&mut first).await, "to both");
    assert_eq!(hear(&mut second).await, "to both");
}

async fn a_listener_that_leaves_disturbs_nobody(pubsub: &dyn PubSub) {
    let gone = listen(pubsub, "leaving").await;
    let mut stays = listen(pubsub, "leaving").await;
    drop(gone);
    send(pubsub, "leaving", "still here").await;
    assert_eq!(hear(&mut stays).await, "still here");
    drop(stays);
    send(pubsub, "leaving", "to nobody").await;
    let mut back = listen(pubsub, "leaving").await;
    send(pubsub, "leaving", "back").await;
    assert_eq!(hear(&mut back).await, "back");
}

async fn bytes_arrive_as_they_were(pubsub: &dyn PubSub) {
    let mut listener = listen(pubsub, "bytes").await;
    let messages = [vec![], vec![0, 255, b'\r', b'\n', 0], vec![b'x'; 1 << 20]];
    for message in &messages {
        send(pubsub, "bytes", message).await;
    }
    for message in messages {
        assert_eq!(hear(&mut listener).await, message);
    }
}

async fn giving_up_a_wait_loses_nothing(pubsub: &dyn PubSub) {
    let mut listener = listen(pubsub, "patience").await;
    for n in 0..10 {
        let waited = tokio::time::timeout(Duration::from_millis(1), listener.next()).await;
        assert!(waited.is_err(), "nothing was sent: {waited:?}");
        send(pubsub, "patience", n.to_string()).await;
        assert_eq!(hear(&mut listener).await, n.to_string());
    }
}

async fn several_senders_at_once_lose_nothing(pubsub: &dyn PubSub) {
    let mut listener = listen(pubsub, "crowd").await;
    let sender = |who: usize| async move {
        for n in 0..20 {
            send(pubsub, "crowd", format!("{who} {n}")).await;
        }
    };
    tokio::join!(sender(0), sender(1), sender(2));
    let mut next = [0; 3];
    for _ in 0..60 {
        let message = String::from_utf8(hear(&mut listener).await.to_vec()).unwrap();
        let (who, n) = message.split_once(' ').unwrap();
        let expected: &mut usize = &mut next[who.parse::<usize>().unwrap()];
        assert_eq!(n.parse::<usize>().unwrap(), *expected, "the order of one sender");
        *expected += 1;
    }
    assert_eq!(next, [20; 3]);
}
