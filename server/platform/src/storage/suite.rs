//! The suite of [`Storage`].

use bytes::Bytes;
use orama_runtime::limits::STORAGE_MAX_BYTES;
use orama_runtime::names::Namespace;
use orama_runtime::services::{Answer, ErrorCode, Storage};
use orama_store::blob::cid;

/// Waits for an answer without any driver of I/O or time, as no answer may need one here.
pub(crate) fn wait<T>(answer: Answer<T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(answer)
}

/// A case of the suite, with two namespaces that exist and have stored nothing of what the case stores.
pub(crate) type Case = fn(&dyn Storage, &Namespace, &Namespace);

/// All cases.
pub(crate) const CASES: [(&str, Case); 5] = [
    ("what was put is read back under its content id", round_trip),
    ("a namespace reads what it stored itself", namespaces_are_apart),
    ("what is no content id names nothing", only_ids),
    ("objects up to the limit", limit),
    ("putting the same at once", concurrency),
];

pub(crate) fn put(storage: &dyn Storage, ns: &Namespace, bytes: &[u8]) -> String {
    wait(storage.put(ns, Bytes::copy_from_slice(bytes))).unwrap()
}

pub(crate) fn get(storage: &dyn Storage, ns: &Namespace, cid: &str) -> Option<Bytes> {
    wait(storage.get(ns, cid)).unwrap()
}

fn round_trip(storage: &dyn Storage, ns: &Namespace, _: &Namespace) {
    let large: Vec<u8> = (0..3_300_000).map(|i| (i % 251) as u8).collect();
    for bytes in [b"".as_slice(), b"round trip", &[0, 255, 0], &large] {
        let cid = put(storage, ns, bytes);
        assert_eq!(cid, cid::of(bytes));
        assert_eq!(get(storage, ns, &cid).unwrap(), bytes);
        assert_eq!(put(storage, ns, bytes), cid, "once more is as good as once");
        assert_eq!(get(storage, ns, &cid).unwrap(), bytes);
    }
}

fn namespaces_are_apart(storage: &dyn Storage, a: &Namespace, b: &Namespace) {
    let cid = put(storage, a, b"of a alone");
    assert_eq!(get(storage, b, &cid), None, "knowing the id gives nobody the bytes");
    assert_eq!(put(storage, b, b"of a alone"), cid);
    assert_eq!(get(storage, b, &cid).unwrap(), "of a alone");
}

fn only_ids(storage: &dyn Storage, ns: &Namespace, _: &Namespace) {
    let cid = put(storage, ns, b"only ids");
    let (upper, path) = (cid.to_uppercase(), format!("../{cid}"));
    let unknown = cid::of(b"stored by nobody");
    for name in ["", ".", "../registry.db", "x", "a\0b", &upper, &path, &cid[1..], &unknown] {
        assert_eq!(get(storage, ns, name), None, "{name:?}");
    }
}

fn limit(storage: &dyn Storage, ns: &Namespace, _: &Namespace) {
    let largest = vec![5; STORAGE_MAX_BYTES];
    let cid = put(storage, ns, &largest);
    assert!(get(storage, ns, &cid).unwrap() == largest);
    let refused = wait(storage.put(ns, Bytes::from(vec![5; STORAGE_MAX_BYTES + 1]))).unwrap_err();
    assert_eq!(refused.code, ErrorCode::PayloadTooLarge);
    assert!(refused.message.contains(&STORAGE_MAX_BYTES.to_string()), "{refused}");
}

fn concurrency(storage: &dyn Storage, a: &Namespace, b: &Namespace) {
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            scope.spawn(move || {
                let ns = if thread % 2 == 0 { a } else { b };
                for round in 0..5_u8 {
                    let bytes = [b"at once".as_slice(), &[round]].concat();
                    let cid = put(storage, ns, &bytes);
                    assert_eq!(get(storage, ns, &cid).unwrap(), bytes);
                }
            });
        }
    });
}
