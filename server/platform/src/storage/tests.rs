use super::suite;
use super::suite::wait;
use super::*;
use crate::limits::{STORAGE_OBJECTS_MAX, STORAGE_TOTAL_MAX_BYTES};
use crate::quotas::Quota;
use orama_store::blob::ipfs::{IpfsBlobs, Settings};
use orama_store::blob::local::LocalBlobs;
use orama_store::breaker::Breaker;
use orama_test_support::backends::Kubo;
use std::path::Path;
use tokio::runtime::Runtime;

struct Node {
    storage: ObjectStorage,
    a: Namespace,
    b: Namespace,
    dir: tempfile::TempDir,
    _backplane: Runtime,
}

impl Node {
    fn new() -> Self {
        Self::over(|dir, _, _| Arc::new(LocalBlobs::open(dir).unwrap()))
    }

    fn in_ipfs(kubo: &Kubo) -> Self {
        Self::over(|dir, registry, backplane| {
            let registry = registry.clone();
            let blobs = IpfsBlobs::open(Settings {
                dir,
                copies: &dir.with_extension("copies"),
                api_url: &kubo.urls()[0].parse().unwrap(),
                pin_name: "orama/objects".to_owned(),
                breaker: Breaker::new("blobs"),
                is_named: Arc::new(move |cid| Ok(registry.is_blob_named(cid)?)),
                backplane: backplane.clone(),
            });
            Arc::new(blobs.unwrap())
        })
    }

    fn over(blobs: impl FnOnce(&Path, &Registry, &Handle) -> Arc<dyn Blobs>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let backplane =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        let [a, b] = ["a", "b"].map(|name| Namespace::new(name).unwrap());
        for namespace in [&a, &b] {
            registry.create_namespace(namespace).unwrap();
        }
        let blobs = blobs(&dir.path().join("objects"), &registry, backplane.handle());
        let disk = DiskReserve::new(dir.path().to_owned(), 0);
        let storage = ObjectStorage::new(registry, blobs, disk, backplane.handle().clone());
        Self { storage, a, b, dir, _backplane: backplane }
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("objects")).unwrap().count()
    }

    fn refused(&self, bytes: &'static [u8]) -> ServiceError {
        wait(self.storage.put(&self.a, Bytes::from_static(bytes))).unwrap_err()
    }
}

#[test]
fn it_is_a_storage() {
    let kubo = Kubo::single().ok();
    for node in [Some(Node::new()), kubo.as_ref().map(Node::in_ipfs)].into_iter().flatten() {
        for (name, case) in suite::CASES {
            eprintln!("case: {name}");
            case(&node.storage, &node.a, &node.b);
        }
    }
}

#[test]
fn a_namespaces_objects_go_with_it_and_leave_those_of_others() {
    let kubo = Kubo::single().ok();
    [Some(Node::new()), kubo.as_ref().map(Node::in_ipfs)].iter().flatten().for_each(objects_go);
}

fn objects_go(node: &Node) {
    let own = suite::put(&node.storage, &node.a, b"own");
    let shared = suite::put(&node.storage, &node.a, b"shared");
    suite::put(&node.storage, &node.b, b"shared");
    assert_eq!(node.files(), 2);
    node.storage.remove(&node.a).unwrap();
    assert_eq!(node.files(), 1);
    assert_eq!(suite::get(&node.storage, &node.a, &own), None);
    assert_eq!(suite::get(&node.storage, &node.a, &shared), None);
    assert_eq!(suite::get(&node.storage, &node.b, &shared).unwrap(), "shared");
    node.storage.remove(&node.a).unwrap();
    node.storage.remove(&node.b).unwrap();
    assert_eq!(node.files(), 0);
}

#[test]
fn a_start_removes_what_nobody_stored() {
    let node = Node::new();
    let kept = suite::put(&node.storage, &node.a, b"kept");
    let blobs = &node.storage.store.blobs;
    let left = blobs.put(b"left by a crash").unwrap();
    let hold = blobs.holds().hold(&left);
    node.storage.clean_unreferenced();
    assert_eq!(node.files(), 2, "a put that is under way keeps its bytes");
    drop(hold);
    node.storage.clean_unreferenced();
    assert_eq!(blobs.list(10).unwrap(), [kept]);
}

#[test]
fn a_full_namespace_is_told_so_and_keeps_what_it_has() {
    let node = Node::new();
    let registry = &node.storage.store.registry;
    registry.store_object(&node.a, "large", STORAGE_TOTAL_MAX_BYTES - 4).unwrap();
    let fits = suite::put(&node.storage, &node.a, b"fits");
    let refused = node.refused(b"x");
    assert_eq!(refused.code, ErrorCode::PayloadTooLarge);
    assert!(refused.message.contains(&STORAGE_TOTAL_MAX_BYTES.to_string()), "{refused}");
    assert_eq!(suite::put(&node.storage, &node.a, b"fits"), fits, "what is there needs no room");
    suite::put(&node.storage, &node.b, b"x");
    registry.remove_objects(&node.a).unwrap();
    registry.fill_objects(&node.a, STORAGE_OBJECTS_MAX - 1);
    let last = suite::put(&node.storage, &node.a, b"last");
    let refused = node.refused(b"one more");
    assert_eq!(refused.code, ErrorCode::PayloadTooLarge);
    assert!(refused.message.contains(&STORAGE_OBJECTS_MAX.to_string()), "{refused}");
    assert_eq!(suite::get(&node.storage, &node.a, &last).unwrap(), "last");
    assert_eq!(suite::put(&node.storage, &node.a, b"last"), last);
    assert_eq!(node.files(), 3, "what was refused left nothing");
}

#[test]
fn a_namespace_that_is_gone_stores_nothing() {
    let node = Node::new();
    let gone = Namespace::new("gone").unwrap();
    let refused = wait(node.storage.put(&gone, Bytes::from_static(b"x"))).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert_eq!(node.files(), 0);
}

#[test]
fn damage_is_told_without_the_files_name_and_repaired_by_the_next_put() {
    let node = Node::new();
    let cid = suite::put(&node.storage, &node.a, b"object");
    std::fs::write(node.dir.path().join("objects").join(&cid), b"objecd").unwrap();
    let error = wait(node.storage.get(&node.a, &cid)).unwrap_err();
    assert_eq!(error.code, ErrorCode::Internal);
    assert!(error.message.contains("damaged") && !error.message.contains('/'), "{error}");
    suite::put(&node.storage, &node.a, b"object");
    assert_eq!(suite::get(&node.storage, &node.a, &cid).unwrap(), "object");
    std::fs::remove_file(node.dir.path().join("objects").join(&cid)).unwrap();
    assert_eq!(
        wait(node.storage.get(&node.a, &cid)).unwrap_err().code,
        ErrorCode::Internal,
        "lost is not unknown"
    );
}

#[test]
fn nothing_is_stored_when_the_disk_has_only_its_reserve() {
    let mut node = Node::new();
    node.storage.store.disk = DiskReserve::new(node.dir.path().to_owned(), u64::MAX);
    let refused = node.refused(b"1");
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert!(refused.message.contains("must stay free"), "{refused}");
}

#[test]
fn an_operators_quota_bounds_objects() {
    let node = Node::new();
    let registry = &node.storage.store.registry;
    registry.set_quotas(&node.a, &[(Quota::Objects, 1), (Quota::ObjectBytes, 4)].into()).unwrap();
    assert!(node.refused(b"12345").message.contains("quota `object_bytes`"));
    wait(node.storage.put(&node.a, Bytes::from_static(b"1234"))).unwrap();
    assert!(node.refused(b"1").message.contains("quota `objects`"));
    wait(node.storage.put(&node.b, Bytes::from_static(b"12345"))).unwrap();
}
