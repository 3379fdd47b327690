//! The content id that IPFS gives to a file, computed locally: what `ipfs add --cid-version=1` prints.
//!
//! A file of up to 262,144 bytes is one raw block. A larger file is split into raw blocks of that size, under a balanced tree of
//! dag-pb nodes with 174 links each. Each node has the UnixFS description of the part below it.

use cid::Cid;
use ipld_dagpb::{PbLink, PbNode};
use multihash_codetable::{Code, MultihashDigest};

/// Bytes in a leaf: kubo's default chunker.
const CHUNK_BYTES: usize = 262_144;

/// Links of an inner node: kubo's default width.
const LINKS_MAX: usize = 174;

/// Multicodec of raw bytes.
const RAW: u64 = 0x55;

/// Multicodec of a dag-pb node.
const DAG_PB: u64 = 0x70;

/// A block of the tree.
struct Node {
    cid: Cid,
    /// Size of the part of the file below it, in bytes.
    file_size: u64,
    /// Size of all blocks below it, in bytes: dag-pb's `Tsize`.
    tree_size: u64,
}

/// The content id of a file, as CIDv1 in base32.
#[must_use]
pub fn of(file: &[u8]) -> String {
    let mut level: Vec<Node> =
        if file.is_empty() { vec![leaf(&[])] } else { file.chunks(CHUNK_BYTES).map(leaf).collect() };
    while level.len() > 1 {
        level = level.chunks(LINKS_MAX).map(inner).collect();
    }
    level.first().map(|root| root.cid.to_string()).unwrap_or_default()
}

/// Whether a text is a content id in the form of [`of`], and therefore a safe file name.
#[must_use]
pub fn is_valid(text: &str) -> bool {
    Cid::try_from(text).is_ok_and(|cid| cid.to_string() == text)
}

fn leaf(chunk: &[u8]) -> Node {
    let size = chunk.len() as u64;
    Node { cid: Cid::new_v1(RAW, Code::Sha2_256.digest(chunk)), file_size: size, tree_size: size }
}

fn inner(children: &[Node]) -> Node {
    let links = children
        .iter()
        // kubo encodes the empty name; without it the id would differ.
        .map(|child| PbLink { cid: child.cid, name: Some(String::new()), size: Some(child.tree_size) })
        .collect();
    let file_size = children.iter().map(|child| child.file_size).sum();
    let block = PbNode { links, data: Some(unixfs_file(file_size, children).into()) }.into_bytes();
    let below: u64 = children.iter().map(|child| child.tree_size).sum();
    Node {
        cid: Cid::new_v1(DAG_PB, Code::Sha2_256.digest(&block)),
        file_size,
        tree_size: block.len() as u64 + below,
    }
}

/// UnixFS's `Data` message of an inner node, in protobuf: `Type` (field 1) File, `filesize` (3), `blocksizes` (4).
fn unixfs_file(file_size: u64, children: &[Node]) -> Vec<u8> {
    const TYPE_FILE: [u8; 2] = [1 << 3, 2];
    const FILE_SIZE: u8 = 3 << 3;
    const BLOCK_SIZES: u8 = 4 << 3;
    let mut message = Vec::from(TYPE_FILE);
    message.push(FILE_SIZE);
    push_varint(&mut message, file_size);
    for child in children {
        message.push(BLOCK_SIZES);
        push_varint(&mut message, child.file_size);
    }
    message
}

/// Protobuf's variable-length integer: seven bits in each byte, lowest first.
fn push_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(size: usize) -> Vec<u8> {
        (0..size).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn small_files_are_one_raw_block() {
        assert_eq!(of(b""), "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku");
        assert_eq!(of(b"hello world\n"), "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4");
        assert!(of(&pattern(CHUNK_BYTES)).starts_with("bafkrei"), "raw");
        assert!(of(&pattern(CHUNK_BYTES + 1)).starts_with("bafybei"), "dag-pb");
    }

    /// Vectors made by kubo; see the README beside them.
    #[test]
    fn ids_are_those_that_ipfs_gives() {
        let vectors: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../../../tests/vectors/cids.json")).unwrap();
        assert!(
            vectors.iter().any(|v| v["size"].as_u64() > Some((CHUNK_BYTES * LINKS_MAX) as u64)),
            "two levels"
        );
        for vector in vectors {
            let size = vector["size"].as_u64().unwrap() as usize;
            assert_eq!(of(&pattern(size)), vector["cid"].as_str().unwrap(), "{size} bytes");
        }
    }

    #[test]
    fn only_canonical_ids_are_valid() {
        assert!(is_valid(&of(b"x")) && is_valid(&of(&pattern(600_000))));
        let upper = of(b"x").to_uppercase();
        for bad in ["", "..", "../x", "x", "bafkrei", upper.as_str()] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
