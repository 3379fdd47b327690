//! Against real kubo nodes, and through a proxy that fails.

use super::*;
use crate::conformance::blobs as suite;
use orama_test_support::backends::Kubo as Servers;
use orama_test_support::children::eventually;
use orama_test_support::proxy::{Fault, Proxy};
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A store with a backplane and a folder of its own, and what its registry names.
struct Node {
    blobs: IpfsBlobs,
    breaker: Breaker,
    named: Arc<Mutex<HashSet<String>>>,
    dir: TempDir,
    _backplane: Runtime,
}

impl Node {
    fn new(address: SocketAddr) -> Self {
        let named: Arc<Mutex<HashSet<String>>> = Arc::default();
        let asked = Arc::clone(&named);
        Self::with(address, named, Arc::new(move |cid| Ok(asked.lock().contains(cid))))
    }

    fn with(address: SocketAddr, named: Arc<Mutex<HashSet<String>>>, is_named: IsNamed) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let backplane =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let breaker = Breaker::new("blobs");
        let blobs = IpfsBlobs::open(Settings {
            dir: &dir.path().join("blobs"),
            copies: &dir.path().join("copies"),
            api_url: &format!("http://{address}").parse().unwrap(),
            pin_name: "orama/modules".to_owned(),
            breaker: breaker.clone(),
            is_named,
            backplane: backplane.handle().clone(),
        })
        .unwrap();
        Self { blobs, breaker, named, dir, _backplane: backplane }
    }

    fn files(&self, folder: &str) -> usize {
        fs::read_dir(self.dir.path().join(folder)).unwrap().count()
    }

    fn is_pinned(&self, cid: &str) -> bool {
        self.blobs.0.ask(|kubo| async move { kubo.api.pins().await }).unwrap().contains(cid)
    }

    fn forget_local(&self, cid: &str) {
        self.blobs.0.own.remove(cid).unwrap();
        self.blobs.0.copies.remove(cid).unwrap();
    }

    /// Waits until the breaker lets calls through again.
    fn heals(&self) {
        eventually("the store works again", || self.blobs.check().is_ok());
    }
}

/// kubo removes what is not pinned when it collects garbage. With this it does at once.
struct Collected(Node);

impl Collected {
    fn collect(&self) {
        let query = [("quiet", "true")];
        self.0
            .blobs
            .0
            .ask(|kubo| async move {
                kubo.api.call("repo/gc", &query, None, 1 << 20, Duration::from_secs(30)).await
            })
            .unwrap();
    }
}

impl Blobs for Collected {
    fn put_as(&self, cid: &str, bytes: &Bytes) -> Result<(), BlobError> {
        self.0.blobs.put_as(cid, bytes)
    }

    fn get(&self, cid: &str) -> Result<Option<Bytes>, BlobError> {
        self.0.blobs.get(cid)
    }

    fn remove(&self, cid: &str) -> Result<bool, BlobError> {
        let removed = self.0.blobs.remove(cid);
        self.collect();
        removed
    }

    fn list(&self, max: usize) -> Result<Vec<String>, BlobError> {
        self.0.blobs.list(max)
    }

    fn check(&self) -> Result<(), BlobError> {
        self.0.blobs.check()
    }

    fn holds(&self) -> &Holds {
        self.0.blobs.holds()
    }
}

fn pattern(size: usize) -> Bytes {
    (0..size).map(|i| (i % 251) as u8).collect()
}

fn is_unavailable<T: std::fmt::Debug>(result: Result<T, BlobError>) -> bool {
    matches!(result, Err(BlobError::Unavailable(_)))
}

#[test]
fn it_is_a_blob_store() {
    let Ok(kubo) = Servers::single() else { return };
    let store = Collected(Node::new(kubo.addresses()[0]));
    for (name, case) in suite::CASES {
        eprintln!("case: {name}");
        case(&store);
    }
    assert_eq!((store.0.files("blobs"), store.0.files("copies")), (0, 0));
}

#[test]
fn what_one_node_put_another_reads_checked_and_keeps() {
    let Ok(kubo) = Servers::single() else { return };
    let (a, b) = (Node::new(kubo.addresses()[0]), Node::new(kubo.addresses()[0]));
    for bytes in [pattern(0), pattern(10), pattern(600_000), pattern(46_000_000)] {
        let cid = a.blobs.put(&bytes).unwrap();
        assert!(a.is_pinned(&cid), "{} bytes", bytes.len());
        assert!(b.blobs.get(&cid).unwrap().unwrap() == bytes);
    }
    kubo.node(0).kill();
    let cid = cid::of(&pattern(600_000));
    assert!(b.blobs.get(&cid).unwrap().unwrap() == pattern(600_000), "its own copy");
    b.forget_local(&cid);
    assert!(is_unavailable(b.blobs.get(&cid)), "not having it is another thing than not reaching it");
    kubo.node(0).start();
    b.heals();
    assert!(b.blobs.get(&cid).unwrap().unwrap() == pattern(600_000), "durable in kubo");
    assert_eq!(b.files("blobs"), 0, "what others put are copies");
}

#[test]
fn each_with_a_kubo_of_its_own() {
    let Ok(kubo) = Servers::cluster(2) else { return };
    let (a, b) = (Node::new(kubo.addresses()[0]), Node::new(kubo.addresses()[1]));
    let bytes = pattern(2_000_000);
    let cid = a.blobs.put(&bytes).unwrap();
    assert!(b.blobs.get(&cid).unwrap().unwrap() == bytes);
    assert!(b.is_pinned(&cid), "what was fetched has a second home");
    kubo.node(0).kill();
    b.forget_local(&cid);
    assert!(b.blobs.get(&cid).unwrap().unwrap() == bytes);
    // What nobody has is looked for only so long, and says nothing about the kubo that looked.
    assert!(is_unavailable(b.blobs.get(&cid::of(b"nobody has it"))));
    assert!(b.breaker.enter().is_ok() && !b.breaker.is_open());
    assert!(b.blobs.remove(&cid).unwrap());
    assert!(!b.is_pinned(&cid));
}

#[test]
fn many_who_want_the_same_fetch_it_once() {
    let Ok(kubo) = Servers::single() else { return };
    let a = Node::new(kubo.addresses()[0]);
    let bytes = pattern(5_000_000);
    let cid = a.blobs.put(&bytes).unwrap();
    let proxy = Proxy::to(kubo.addresses()[0]);
    proxy.set(Fault::Slow(Duration::from_millis(1)));
    let b = Node::new(proxy.address());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(b.blobs.get(&cid).unwrap().unwrap() == bytes));
        }
    });
    // A cat and a pin.
    assert_eq!(b.breaker.calls().reached, 2);
}

#[test]
fn a_kubo_that_fails_fails_calls_in_time_and_nothing_acknowledged_is_lost() {
    let Ok(kubo) = Servers::single() else { return };
    let proxy = Proxy::to(kubo.addresses()[0]);
    let node = Node::new(proxy.address());
    let before = pattern(300_000);
    let kept = node.blobs.put(&before).unwrap();
    let (mut calls, mut longest) = (0, Duration::ZERO);
    for fault in [Fault::Closed, Fault::Silent, Fault::Deaf, Fault::Garbage] {
        proxy.set(fault);
        for round in 0..5_u8 {
            let begun = Instant::now();
            let bytes = Bytes::from(format!("{fault:?} {round}"));
            assert!(is_unavailable(node.blobs.put(&bytes)), "{fault:?}: never a wrong success");
            assert!(node.blobs.get(&kept).unwrap().unwrap() == before, "{fault:?}: the local copy");
            assert!(is_unavailable(node.blobs.get(&cid::of(b"elsewhere"))), "{fault:?}");
            assert!(is_unavailable(node.blobs.remove(&cid::of(&bytes))), "{fault:?}");
            calls += 3;
            longest = longest.max(begun.elapsed());
        }
        assert!(node.breaker.is_open(), "{fault:?}");
        proxy.set(Fault::None);
        node.heals();
        // What is left of a put that failed can be removed.
        for round in 0..5_u8 {
            node.blobs.remove(&cid::of(format!("{fault:?} {round}").as_bytes())).unwrap();
        }
        assert_eq!(node.blobs.list(10).unwrap(), std::slice::from_ref(&kept));
    }
    proxy.set(Fault::Slow(Duration::from_millis(100)));
    let slow = node.blobs.put(b"slow").unwrap();
    assert!(node.is_pinned(&slow));
    eprintln!(
        "{calls} calls failed, the slowest three in a row took {longest:?}; {:?}",
        node.breaker.calls()
    );
}

/// Puts blobs of a thread's own, and notes what was acknowledged and how many were refused.
fn put_until(
    is_over: &AtomicBool,
    node: &Node,
    thread: usize,
    acknowledged: &Mutex<Vec<String>>,
    refused: &AtomicUsize,
) {
    for n in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        match node.blobs.put(&Bytes::from(format!("{thread} {n}").repeat(5_000))) {
            Ok(cid) => acknowledged.lock().push(cid),
            Err(BlobError::Unavailable(_)) => {
                refused.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn kill_and_pause_while_blobs_are_put() {
    let Ok(kubo) = Servers::single() else { return };
    let node = Node::new(kubo.addresses()[0]);
    let (is_over, acknowledged, refused) =
        (AtomicBool::new(false), Mutex::new(Vec::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..2_usize {
            let (node, is_over, acknowledged, refused) = (&node, &is_over, &acknowledged, &refused);
            scope.spawn(move || put_until(is_over, node, thread, acknowledged, refused));
        }
        for _ in 0..3 {
            let before = acknowledged.lock().len();
            eventually("blobs are put", || acknowledged.lock().len() > before + 10);
            kubo.node(0).kill();
            kubo.node(0).start();
        }
        let before = acknowledged.lock().len();
        eventually("blobs are put again", || acknowledged.lock().len() > before + 10);
        kubo.node(0).pause();
        eventually("a paused kubo is noticed", || node.breaker.is_open());
        kubo.node(0).resume();
        let before = acknowledged.lock().len();
        eventually("blobs are put again", || acknowledged.lock().len() > before + 10);
        is_over.store(true, Ordering::Relaxed);
    });
    let acknowledged = acknowledged.into_inner();
    let pins = node.blobs.0.ask(|kubo| async move { kubo.api.pins().await }).unwrap();
    let lost: Vec<_> = acknowledged.iter().filter(|cid| !pins.contains(*cid)).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged blobs are not pinned", lost.len(), acknowledged.len());
    let other = Node::new(kubo.addresses()[0]);
    for cid in acknowledged.iter().step_by(7) {
        assert_eq!(cid::of(&other.blobs.get(cid).unwrap().unwrap()), *cid);
    }
    eprintln!("{} put through three kills and a pause, {refused:?} refused, none lost", acknowledged.len());
}

/// A server that answers every request alike.
fn liar(body: &'static [u8]) -> SocketAddr {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 64 << 10];
            let _ = stream.read(&mut request);
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(body);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    address
}

#[test]
fn bytes_of_another_id_reach_nobody() {
    let node = Node::new(liar(
        b"{\"Name\":\"x\",\"Hash\":\"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku\"}",
    ));
    let cid = cid::of(b"what I want");
    let told = node.blobs.get(&cid).unwrap_err().to_string();
    assert!(told.contains("other bytes"), "{told}");
    let told = node.blobs.put(b"what I put").unwrap_err().to_string();
    assert!(told.contains("content id"), "{told}");
    assert_eq!(node.files("copies"), 0);
}

#[test]
fn a_damaged_blob_is_fetched_again() {
    let Ok(kubo) = Servers::single() else { return };
    let node = Node::new(kubo.addresses()[0]);
    let cid = node.blobs.put(b"whole").unwrap();
    let damage = || fs::write(node.dir.path().join("blobs").join(&cid), b"hole!").unwrap();
    damage();
    assert_eq!(node.blobs.get(&cid).unwrap().unwrap(), &b"whole"[..]);
    assert_eq!(node.blobs.0.own.get(&cid).unwrap().unwrap(), &b"whole"[..]);
    damage();
    kubo.node(0).kill();
    assert!(matches!(node.blobs.get(&cid), Err(BlobError::Damaged { cid: told }) if told == cid));
}

#[test]
fn a_removal_leaves_the_pin_of_what_was_named_meanwhile() {
    let Ok(kubo) = Servers::single() else { return };
    let address = kubo.addresses()[0];
    // Another node names the blob between the removal's two looks.
    let named: Arc<Mutex<HashSet<String>>> = Arc::default();
    let (looks, asked) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&named));
    let counted = Arc::clone(&looks);
    let late: IsNamed = Arc::new(move |cid| {
        let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
        let is_named = asked.lock().contains(cid);
        if first {
            asked.lock().insert(cid.to_owned());
        }
        Ok(is_named)
    });
    let (cleaner, deployer) = (Node::with(address, Arc::clone(&named), late), Node::new(address));
    let cid = deployer.blobs.put(b"shared").unwrap();
    cleaner.blobs.put(b"shared").unwrap();
    assert!(!cleaner.blobs.remove(&cid).unwrap());
    assert_eq!(looks.load(Ordering::Relaxed), 2);
    assert!(cleaner.is_pinned(&cid));
    // One that is over before the name was there: the deployer finds out, also when kubo has thrown the bytes away.
    let cleaner = Collected(Node::new(address));
    assert!(cleaner.remove(&cid).unwrap() && !cleaner.0.is_pinned(&cid));
    deployer.named.lock().insert(cid.clone());
    deployer.blobs.confirm(&cid).unwrap();
    assert!(cleaner.0.is_pinned(&cid));
    assert!(!deployer.blobs.remove(&cid).unwrap(), "what is named stays");
    // A registry that cannot be asked lets nothing go.
    let blind = Node::with(address, Arc::default(), Arc::new(|_| Err("no registry".into())));
    assert!(is_unavailable(blind.blobs.remove(&cid)));
    assert!(cleaner.0.is_pinned(&cid));
}

#[test]
fn a_kubo_that_lost_everything_gets_it_back() {
    let Ok(kubo) = Servers::single() else { return };
    let Ok(empty) = Servers::single() else { return };
    let node = Node::new(kubo.addresses()[0]);
    let named: HashSet<_> =
        [node.blobs.put(b"a").unwrap(), node.blobs.put(&pattern(300_000)).unwrap()].into();
    let unnamed = node.blobs.put(b"c").unwrap();
    assert_eq!(node.blobs.repair(&named).unwrap(), 0);
    let moved = Node::new(empty.addresses()[0]);
    moved.named.lock().extend(named.clone());
    for cid in named.iter().chain([&unnamed]) {
        fs::copy(node.dir.path().join("blobs").join(cid), moved.dir.path().join("blobs").join(cid)).unwrap();
    }
    assert_eq!(moved.blobs.repair(&named).unwrap(), 2);
    assert!(named.iter().all(|cid| moved.is_pinned(cid)) && !moved.is_pinned(&unnamed));
}
