//! An archive of any bytes writes nothing outside of the folder into which it is unpacked, no more than it has, and is taken only
//! where every part is what its manifest says.

use crate::{Target, ready};
use orama_platform::transfer::fuzzing::unpack;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tar::{Builder, EntryType, Header};

pub const TARGET: Target = Target { name: "import", check, seeds };

/// A file beside the folder, which must stay as it is.
const BESIDE: &str = "registry.db";

pub fn check(bytes: &[u8]) {
    let outer = ready(tempfile::tempdir());
    let (archive, into) = (outer.path().join("archive.tar"), outer.path().join("deep/into"));
    ready(fs::create_dir_all(&into));
    ready(fs::write(&archive, bytes));
    ready(fs::write(outer.path().join(BESIDE), b"mine"));
    let unpacked = unpack(&archive, &into);
    let mut beside = files(outer.path());
    let mut parts = BTreeMap::new();
    beside.retain(|name, content| match name.strip_prefix("deep/into/") {
        Some(name) => {
            parts.insert(name.to_owned(), std::mem::take(content));
            false
        }
        None => true,
    });
    let expected =
        BTreeMap::from([("archive.tar".to_owned(), bytes.to_vec()), (BESIDE.to_owned(), b"mine".to_vec())]);
    assert_eq!(beside, expected, "what is beside the folder");
    let written: usize = parts.values().map(Vec::len).sum();
    assert!(written <= bytes.len(), "{written} bytes of an archive of {}", bytes.len());
    match unpacked {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(manifest) => {
            let found: BTreeMap<_, _> = parts
                .iter()
                .map(|(name, content)| {
                    (name.clone(), (content.len() as u64, blake3::hash(content).to_hex().to_string()))
                })
                .collect();
            let said = manifest.parts.into_iter().map(|(name, part)| (name, (part.bytes, part.blake3)));
            assert_eq!(found, said.collect(), "what was unpacked, and what the manifest says");
        }
    }
}

/// All files below a folder with their content. Whatever else is there, such as a link, is a fault.
fn files(of: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![of.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in ready(fs::read_dir(folder)) {
            let entry = ready(entry);
            let (path, kind) = (entry.path(), ready(entry.file_type()));
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            assert!(kind.is_file(), "{} is no file", path.display());
            let name = ready(path.strip_prefix(of)).to_string_lossy().into_owned();
            found.insert(name, ready(fs::read(&path)));
        }
    }
    found
}

/// The id of nothing's content as a blob's name.
const ID: &str = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";

fn archive(parts: &[(&str, &[u8])], more: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let mut listed = BTreeMap::new();
    for (name, content) in parts {
        ready(append(&mut tar, name, EntryType::Regular, content));
        listed.insert(
            *name,
            json!({ "bytes": content.len(), "blake3": blake3::hash(content).to_hex().to_string() }),
        );
    }
    more(&mut tar);
    let manifest = json!({
        "format": 1, "orama": "0", "exported_at_ms": 0, "namespaces": [], "databases": [], "secret_key_ids": [], "counts": {},
        "parts": listed,
    });
    ready(append(&mut tar, "manifest.json", EntryType::Regular, manifest.to_string().as_bytes()));
    ready(tar.into_inner())
}

/// Adds an entry under any name.
fn append(tar: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, content: &[u8]) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append(&header, content)
}

fn seeds() -> Vec<Vec<u8>> {
    let needed: [(&str, &[u8]); 2] = [("registry.db", b"rows"), ("events.db", b"")];
    let blob = format!("blobs/{ID}");
    let all: Vec<(&str, &[u8])> = [
        &needed[..],
        &[("records.db", b"r"), ("secrets.key", b"k"), ("databases/a-1.db", b"d"), (&blob, b"")],
    ]
    .concat();
    let mut seeds = vec![vec![], archive(&needed, |_| ()), archive(&all, |_| ())];
    for name in [
        "../../registry.db",
        "/tmp/registry.db",
        "databases/../../../x.db",
        "blobs/../../x",
        "./events.db",
        "databases/a.db/",
    ] {
        seeds.push(archive(&needed, |tar| ready(append(tar, name, EntryType::Regular, b"theirs"))));
    }
    for kind in
        [EntryType::Symlink, EntryType::Link, EntryType::Directory, EntryType::GNUSparse, EntryType::Fifo]
    {
        seeds.push(archive(&needed, |tar| ready(append(tar, "databases/b.db", kind, b""))));
    }
    for (kind, name) in [
        (EntryType::XHeader, b"26 path=../../registry.db\n".as_slice()),
        (EntryType::GNULongName, b"../../registry.db\0"),
    ] {
        seeds.push(archive(&needed, |tar| {
            ready(append(tar, "x", kind, name));
            ready(append(tar, "databases/c.db", EntryType::Regular, b"theirs"));
        }));
    }
    seeds
}
