//! A file that differs from the artifact that the node wrote, in any byte or in its length, is removed and never loaded.

use crate::input::Input;
use crate::{Target, ready};
use orama_runtime::function::WasmHash;
use orama_runtime::{ArtifactKey, ArtifactStore, Compiler, Engine, EngineConfig};
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::LazyLock;
use tempfile::TempDir;

pub const TARGET: Target = Target { name: "artifact", check, seeds };

struct Stand {
    compiler: Compiler,
    hash: WasmHash,
    file: PathBuf,
    good: Vec<u8>,
    _dir: TempDir,
}

static STAND: LazyLock<Stand> = LazyLock::new(|| {
    let dir = ready(tempfile::tempdir());
    let engine = ready(Engine::new(&EngineConfig { instance_slots: 4, ..EngineConfig::default() }));
    let artifacts = dir.path().join("artifacts");
    let key = ready(ArtifactKey::open(&dir.path().join("key")));
    let store = ready(ArtifactStore::open(&artifacts, key));
    let compiler = ready(Compiler::new(engine, store, NonZeroUsize::MIN));
    let wasm = ready(wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\")))"));
    drop(ready(compiler.compile(&wasm)));
    let mut files = ready(fs::read_dir(artifacts));
    let file = ready(files.next().expect("an artifact is there")).path();
    let good = ready(fs::read(&file));
    Stand { compiler, hash: WasmHash::of(&wasm), file, good, _dir: dir }
});

pub fn check(bytes: &[u8]) {
    let Stand { compiler, hash, file, good, .. } = &*STAND;
    let changed = changed(good, &mut Input::new(bytes));
    ready(fs::write(file, &changed));
    let loaded = ready(compiler.load(hash)).is_some();
    assert_eq!(loaded, changed == *good, "whether it was loaded");
    assert_eq!(file.exists(), loaded, "what is not loaded is removed");
}

/// The artifact with parts that are overwritten, cut out, added or repeated.
fn changed(good: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let mut file = good.to_vec();
    while !input.is_empty() {
        let kind = input.byte();
        // Most of what matters stands at the end.
        let near = input.below(1 << 16).min(file.len());
        let at = if kind & 1 == 0 { near } else { file.len() - near };
        let some = input.some();
        match kind >> 1 & 7 {
            0 => file.iter_mut().skip(at).zip(some).for_each(|(byte, mask)| *byte ^= mask),
            1 => drop(file.splice(at..at, some.iter().copied())),
            2 => drop(file.drain(at..(at + some.len()).min(file.len()))),
            3 => file.truncate(at),
            4 => file.extend_from_slice(&good[at.min(good.len())..]),
            5 => file = some.to_vec(),
            _ => drop(file.splice(at..(at + some.len()).min(file.len()), some.iter().copied())),
        }
    }
    file
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![]];
    // One bit of the code, the pages, the tag and the mark; a cut; the end once more; nothing.
    for (kind, at, some) in
        [(0, 100, &[1][..]), (1, 44, &[1]), (1, 40, &[128]), (1, 9, &[1]), (1, 8, &[1]), (1, 1, &[1])]
    {
        seeds.push([&[kind, 0, at, some.len() as u8], some].concat());
    }
    seeds.extend([
        vec![7, 0, 44, 0],
        vec![9, 0, 44, 0],
        vec![10, 0, 0, 0],
        vec![3, 0, 44, 2, 0, 0],
        vec![0, 0, 0, 1, 0],
    ]);
    seeds
}
