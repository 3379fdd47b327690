//! The suite of [`Blobs`].

use crate::blob::{BlobError, Blobs, cid};
use bytes::Bytes;
use serde_json::Value;

/// A case of the suite.
pub(crate) type Case = fn(&dyn Blobs);

/// All cases but [`damage_is_found`]. The store is empty before the first and after each.
pub(crate) const CASES: [(&str, Case); 5] = [
    ("ids are those that IPFS gives", ids_are_ipfs),
    ("what was put is read back and removed", round_trip),
    ("only content ids name a blob", only_ids),
    ("putting and removing at once", concurrency),
    ("a list has at most what was asked for", list_is_bounded),
];

/// The bytes of a vector in `tests/vectors`.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i % 251) as u8).collect()
}

fn ids_are_ipfs(blobs: &dyn Blobs) {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("../../../../tests/vectors/cids.json")).unwrap();
    for vector in vectors {
        let bytes = pattern(vector["size"].as_u64().unwrap() as usize);
        let cid = blobs.put(&bytes).unwrap();
        assert_eq!(cid, vector["cid"].as_str().unwrap(), "{} bytes", bytes.len());
        assert!(blobs.get(&cid).unwrap().unwrap() == bytes, "{} bytes", bytes.len());
        assert!(blobs.remove(&cid).unwrap());
    }
}

fn round_trip(blobs: &dyn Blobs) {
    let (small, big) = (b"small".as_slice(), pattern(600_000));
    let (small_cid, big_cid) = (blobs.put(small).unwrap(), blobs.put(&big).unwrap());
    assert_eq!(blobs.put(small).unwrap(), small_cid, "the same bytes are one blob");
    blobs.put_as(&big_cid, &Bytes::from(big.clone())).unwrap();
    let mut listed = blobs.list(10).unwrap();
    listed.sort();
    let mut expected = vec![small_cid.clone(), big_cid.clone()];
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(blobs.get(&small_cid).unwrap().unwrap(), small);
    assert_eq!(blobs.get(&big_cid).unwrap().unwrap(), big);
    assert!(blobs.remove(&small_cid).unwrap() && !blobs.remove(&small_cid).unwrap());
    assert_eq!(blobs.get(&small_cid).unwrap(), None);
    assert_eq!(blobs.get(&big_cid).unwrap().unwrap(), big, "the other one stays");
    assert!(blobs.remove(&big_cid).unwrap());
    blobs.check().unwrap();
}

fn only_ids(blobs: &dyn Blobs) {
    let cid = blobs.put(b"x").unwrap();
    let (upper, path) = (cid.to_uppercase(), format!("../objects/{cid}"));
    for name in ["", ".", "..", "x", "/etc/passwd", "a\0b", &upper, &path, &cid[..cid.len() - 1]] {
        assert_eq!(blobs.get(name).unwrap(), None, "{name:?}");
        assert!(!blobs.remove(name).unwrap(), "{name:?}");
    }
    assert_eq!(blobs.get(&cid::of(b"never put")).unwrap(), None);
    assert!(blobs.remove(&cid).unwrap());
}

fn concurrency(blobs: &dyn Blobs) {
    let shared = pattern(300_000);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let shared = &shared;
            scope.spawn(move || {
                for round in 0..10_u8 {
                    let own = [thread, round];
                    let (own_cid, shared_cid) = (blobs.put(&own).unwrap(), blobs.put(shared).unwrap());
                    // What others put or remove meanwhile, a read gets the whole or nothing.
                    let there = blobs.get(&shared_cid).unwrap();
                    assert!(there.is_none_or(|bytes| bytes == *shared));
                    assert_eq!(blobs.get(&own_cid).unwrap().unwrap(), &own[..]);
                    assert!(blobs.remove(&own_cid).unwrap());
                    blobs.remove(&shared_cid).unwrap();
                }
            });
        }
    });
    assert_eq!(blobs.list(10).unwrap(), [""; 0]);
}

fn list_is_bounded(blobs: &dyn Blobs) {
    let cids: Vec<_> = (0..5_u8).map(|n| blobs.put(&[n]).unwrap()).collect();
    assert_eq!((blobs.list(3).unwrap().len(), blobs.list(100).unwrap().len()), (3, 5));
    for cid in cids {
        assert!(blobs.remove(&cid).unwrap());
    }
}

/// What comes back is what was put, or an error. `damage` changes a byte of a stored blob.
pub(crate) fn damage_is_found(blobs: &dyn Blobs, damage: &dyn Fn(&str)) {
    for bytes in [b"small".to_vec(), pattern(600_000)] {
        let cid = blobs.put(&bytes).unwrap();
        damage(&cid);
        assert!(matches!(blobs.get(&cid), Err(BlobError::Damaged { cid: told }) if told == cid));
        assert_eq!(blobs.put(&bytes).unwrap(), cid, "the next put repairs it");
        assert_eq!(blobs.get(&cid).unwrap().unwrap(), bytes);
        assert!(blobs.remove(&cid).unwrap());
    }
}
