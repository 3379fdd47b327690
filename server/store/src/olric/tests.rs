use super::*;
use crate::settings::Password;
use orama_test_support::backends;
use orama_test_support::proxy::{Fault, Proxy};
use redis::cmd;
use std::net::SocketAddr;
use std::time::Duration;

/// Longer than anything that heals takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn at(addresses: &[SocketAddr], password: Option<&str>) -> OlricAt {
    OlricAt {
        addresses: addresses.iter().map(ToString::to_string).collect(),
        password: password.map(|password| Password::new(password.to_owned())),
    }
}

pub(crate) fn olric(addresses: &[SocketAddr]) -> Olric {
    Olric::new(&at(addresses, None), "olric", Handle::current())
}

fn soon() -> Instant {
    Instant::now() + OLRIC_TIMEOUT
}

async fn heals(olric: &Olric) {
    let until = Instant::now() + PATIENCE;
    while let Err(error) = olric.check().await {
        assert!(Instant::now() < until, "it does not heal: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks until it fails, which it does by its deadline.
async fn fails(olric: &Olric) -> OlricError {
    let begun = Instant::now();
    let mut command = cmd("DM.GET");
    command.arg("map").arg("key");
    let error = match olric.ask(&command, Shape::Bytes, Again::WhenLate, soon()).await {
        Err(error) => error,
        Ok(value) => panic!("a wrong success: {value:?}"),
    };
    // Not how fast, but that it does not wait for something else: generous, as the machine is busy.
    assert!(begun.elapsed() < OLRIC_TIMEOUT + PATIENCE, "past its deadline");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_are_used_and_never_shown() {
    let Ok(server) = backends::Olric::with_password("hunter2") else { return };
    let addresses = server.addresses();
    let new = |password| Olric::new(&at(&addresses, password), "olric", Handle::current());
    new(Some("hunter2")).check().await.unwrap();
    for password in [None, Some("wrong-one")] {
        let error = new(password).check().await.unwrap_err();
        assert!(matches!(error, OlricError::Unreachable(_)), "{error:?}");
        let shown = format!("{error} {error:?} {:?}", at(&addresses, password));
        assert!(!shown.contains("wrong-one") && !shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_a_few_connections() {
    let Ok(server) = backends::Olric::single() else { return };
    let proxy = Proxy::to(server.addresses()[0]);
    let olric = olric(&[proxy.address()]);
    let calls: Vec<_> = (0..400_u32)
        .map(|n| {
            let olric = olric.clone();
            tokio::spawn(async move {
                let (mut put, mut get) = (cmd("DM.PUT"), cmd("DM.GET"));
                put.arg("map").arg(n).arg(format!("value of {n}"));
                get.arg("map").arg(n);
                assert_eq!(olric.ask(&put, Shape::Okay, Again::WhenLost, soon()).await, Ok(Value::Okay));
                let value = olric.ask(&get, Shape::Bytes, Again::WhenLate, soon()).await.unwrap();
                assert_eq!(value, Value::BulkString(format!("value of {n}").into_bytes()));
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert!(proxy.connections() <= OLRIC_CONNECTIONS_MAX, "{}", proxy.connections());
    let missing = olric
        .ask(cmd("DM.GET").arg("map").arg("none"), Shape::Bytes, Again::Never, soon())
        .await
        .unwrap_err();
    assert!(missing.is("KEYNOTFOUND"), "{missing:?}");
    assert_eq!(olric.breaker().calls().failed, 0);
}

const OLRIC_CONNECTIONS_MAX: u64 = crate::limits::OLRIC_CONNECTIONS as u64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_a_connection_there_is_no_wrong_answer_and_it_heals() {
    let Ok(server) = backends::Olric::single() else { return };
    let proxy = Proxy::to(server.addresses()[0]);
    let olric = olric(&[proxy.address()]);
    olric.check().await.unwrap();
    for fault in [Fault::Closed, Fault::Silent, Fault::Deaf, Fault::Garbage] {
        proxy.set(fault);
        for _ in 0..5 {
            let error = fails(&olric).await;
            assert!(!matches!(error, OlricError::Said { .. }), "{fault:?}: {error:?}");
        }
        assert!(olric.breaker().is_open(), "{fault:?}");
        assert_eq!(fails(&olric).await, OlricError::Refused(Refused), "{fault:?}");
        proxy.set(Fault::None);
        heals(&olric).await;
        eprintln!("{fault:?}: {:?}", olric.breaker().calls());
    }
    server.node(0).pause();
    assert!(!matches!(fails(&olric).await, OlricError::Said { .. }));
    server.node(0).resume();
    heals(&olric).await;
    server.node(0).kill();
    assert!(!matches!(fails(&olric).await, OlricError::Said { .. }));
    server.node(0).start();
    heals(&olric).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_address_is_used_when_one_is_down() {
    let Ok(server) = backends::Olric::single() else { return };
    let proxies = [Proxy::to(server.addresses()[0]), Proxy::to(server.addresses()[0])];
    let olric = olric(&[proxies[0].address(), proxies[1].address()]);
    for down in [0, 1, 0, 1] {
        for fault in [Fault::Closed, Fault::Silent] {
            proxies[down].set(fault);
            // A read is asked again elsewhere, also when it got no answer.
            let mut get = cmd("DM.GET");
            get.arg("map").arg("key");
            let answer = olric.ask(&get, Shape::Bytes, Again::WhenLate, soon()).await.unwrap_err();
            assert!(answer.is("KEYNOTFOUND"), "{fault:?}: {answer:?}");
            proxies[down].set(Fault::None);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_not_be_done_twice_is_not_sent_twice() {
    let Ok(server) = backends::Olric::single() else { return };
    let proxy = Proxy::to(server.addresses()[0]);
    let olric = olric(&[proxy.address()]);
    let mut increment = cmd("DM.INCR");
    increment.arg("map").arg("key").arg(1);
    assert_eq!(olric.ask(&increment, Shape::Number, Again::Never, soon()).await, Ok(Value::Int(1)));
    proxy.set(Fault::Deaf);
    let error = olric.ask(&increment, Shape::Number, Again::Never, soon()).await.unwrap_err();
    assert!(error.may_be_done(), "{error:?}");
    proxy.set(Fault::None);
    heals(&olric).await;
    assert_eq!(olric.ask(&increment, Shape::Number, Again::Never, soon()).await, Ok(Value::Int(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_something_else_ends_its_connection() {
    let Ok(server) = backends::Olric::single() else { return };
    let proxy = Proxy::to(server.addresses()[0]);
    let olric = olric(&[proxy.address()]);
    olric.check().await.unwrap();
    let before = proxy.connections();
    let strange = olric.ask(&cmd("PING"), Shape::Number, Again::Never, soon()).await;
    assert_eq!(strange, Err(OlricError::Strange));
    olric.check().await.unwrap();
    assert_eq!(proxy.connections(), before + 1);
}
