use super::*;
use crate::conformance;
use crate::olric::tests::olric;
use orama_test_support::backends;
use orama_test_support::proxy::{Fault, Proxy};
use std::net::SocketAddr;
use std::time::Duration;

/// Longer than anything that heals takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn pubsub(addresses: &[SocketAddr]) -> OlricPubSub {
    OlricPubSub::new(olric(addresses), "test")
}

async fn hear(listener: &mut Box<dyn Subscription>) -> Received {
    timeout(PATIENCE, listener.next()).await.expect("nothing is heard")
}

async fn publish(pubsub: &OlricPubSub, topic: &str, message: &'static [u8]) {
    let until = Instant::now() + PATIENCE;
    while let Err(error) = pubsub.publish(topic, Bytes::from_static(message)).await {
        assert!(Instant::now() < until, "{error}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Speaks through one pubsub and listens through another.
struct Across {
    speaks: OlricPubSub,
    listens: OlricPubSub,
}

impl PubSub for Across {
    fn publish(&self, topic: &str, message: Bytes) -> Answer<'static, Result<(), PubSubError>> {
        self.speaks.publish(topic, message)
    }

    fn subscribe(&self, topic: &str) -> Answer<'static, Result<Box<dyn Subscription>, PubSubError>> {
        self.listens.subscribe(topic)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_promises_of_every_pubsub() {
    let Ok(server) = backends::Olric::single() else { return };
    conformance::pubsub::suite(&pubsub(&server.addresses())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_them_between_two_nodes_of_a_cluster() {
    let Ok(server) = backends::Olric::cluster(2) else { return };
    let addresses = server.addresses();
    let across = Across { speaks: pubsub(&addresses[..1]), listens: pubsub(&addresses[1..]) };
    conformance::pubsub::suite(&across).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_of_other_names_are_not_heard() {
    let Ok(server) = backends::Olric::single() else { return };
    let own = pubsub(&server.addresses());
    let other = OlricPubSub::new(olric(&server.addresses()), "other");
    let mut listener = own.subscribe("topic").await.unwrap();
    other.publish("topic", Bytes::from_static(b"of the other")).await.unwrap();
    own.publish("topic", Bytes::from_static(b"own")).await.unwrap();
    assert_eq!(hear(&mut listener).await, Received::Message(Bytes::from_static(b"own")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_or_falls_silent_is_replaced_and_listeners_are_told() {
    let Ok(server) = backends::Olric::single() else { return };
    let proxy = Proxy::to(server.addresses()[0]);
    let (listens, speaks) = (pubsub(&[proxy.address()]), pubsub(&server.addresses()));
    let mut listeners = vec![listens.subscribe("a").await.unwrap(), listens.subscribe("a").await.unwrap()];
    listeners.push(listens.subscribe("b").await.unwrap());
    for fault in [Fault::Closed, Fault::Silent, Fault::Deaf, Fault::Garbage] {
        proxy.set(fault);
        if fault == Fault::Garbage {
            // It comes instead of something.
            publish(&speaks, "a", b"lost").await;
        }
        let before = proxy.connections();
        let until = Instant::now() + PATIENCE;
        while proxy.connections() == before {
            assert!(Instant::now() < until, "{fault:?}: it is not noticed");
            sleep(Duration::from_millis(20)).await;
        }
        proxy.set(Fault::None);
        for listener in &mut listeners {
            // A connection that fell silent may have heard a part before.
            let mut heard = hear(listener).await;
            while heard != Received::Lagged {
                heard = hear(listener).await;
            }
        }
        for topic in ["a", "b"] {
            publish(&speaks, topic, b"again").await;
        }
        for listener in &mut listeners {
            let mut heard = hear(listener).await;
            while heard == Received::Lagged {
                heard = hear(listener).await;
            }
            assert_eq!(heard, Received::Message(Bytes::from_static(b"again")), "{fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_olric_is_down_publishing_fails_and_listening_begins_when_it_is_back() {
    let Ok(server) = backends::Olric::single() else { return };
    server.node(0).kill();
    let pubsub = pubsub(&server.addresses());
    let mut listener = pubsub.subscribe("topic").await.unwrap();
    for _ in 0..20 {
        pubsub.publish("topic", Bytes::from_static(b"lost")).await.unwrap_err();
    }
    server.node(0).start();
    assert_eq!(hear(&mut listener).await, Received::Lagged);
    publish(&pubsub, "topic", b"heard").await;
    assert_eq!(hear(&mut listener).await, Received::Message(Bytes::from_static(b"heard")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_nobody_listens_to_are_forgotten() {
    let Ok(server) = backends::Olric::single() else { return };
    let pubsub = pubsub(&server.addresses());
    drop(pubsub.subscribe("a").await.unwrap());
    assert_eq!(pubsub.topics.0.lock().len(), 1);
    let until = Instant::now() + PATIENCE;
    while !pubsub.topics.0.lock().is_empty() {
        assert!(Instant::now() < until, "it is kept");
        publish(&pubsub, "a", b"to nobody").await;
        sleep(Duration::from_millis(5)).await;
    }
    let mut listener = pubsub.subscribe("a").await.unwrap();
    publish(&pubsub, "a", b"back").await;
    assert_eq!(hear(&mut listener).await, Received::Message(Bytes::from_static(b"back")));
}
