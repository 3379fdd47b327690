//! A file that differs from the artifact or the snapshot that the node wrote, in any byte or in its length, is removed and never
//! loaded.

use crate::input::Input;
use crate::{Target, ready};
use orama_runtime::function::{FunctionVersion, WasmHash};
use orama_runtime::names::{FunctionName, Namespace};
use orama_runtime::{ArtifactKey, ArtifactStore, Compiler, Engine, EngineConfig, Start};
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::LazyLock;
use tempfile::TempDir;

pub const TARGET: Target = Target { name: "artifact", check, seeds };

/// A program with the shape of Go's: its start fills the state of a random generator, then it reads.
const PROGRAM: &str = r#"(module
    (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (global (mut i32) (i32.const 65536)) (global (mut i64) (i64.const 0)) (global (mut i64) (i64.const 0))
    (global (mut i64) (i64.const 0)) (global (mut i64) (i64.const 0)) (global (mut i64) (i64.const 0))
    (global (mut i64) (i64.const 0)) (global (mut i32) (i32.const 0))
    (func $runtime.rand)
    (func $runtime.init (local $i i32)
        (drop (call $random_get (i32.const 4096) (i32.const 288)))
        (i32.store (i32.const 4388) (i32.const 32))
        ;; What a start costs.
        (loop $again
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const 3000000)))))
    (func $main.read (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1024))))
    (func $wasm_pc_f_loop (call $main.read))
    (func (export "_start") (call $runtime.init) (call $wasm_pc_f_loop)))"#;

struct Stand {
    compiler: Compiler,
    function: FunctionVersion,
    artifact: File,
    snapshot: File,
    _dir: TempDir,
}

/// A file of the node, and what it wrote there.
struct File {
    path: PathBuf,
    good: Vec<u8>,
}

impl File {
    fn read(path: PathBuf) -> Self {
        let good = ready(fs::read(&path));
        Self { path, good }
    }

    /// Changes the file, and checks that it is used if and only if it stayed as it was.
    fn check(&self, input: &[u8], is_used: impl FnOnce() -> bool) {
        let changed = changed(&self.good, &mut Input::new(input));
        ready(fs::write(&self.path, &changed));
        let used = is_used();
        assert_eq!(used, changed == self.good, "whether it was used");
        assert_eq!(self.path.exists(), used, "what is not used is removed");
        ready(fs::write(&self.path, &self.good));
    }
}

static STAND: LazyLock<Stand> = LazyLock::new(|| {
    let dir = ready(tempfile::tempdir());
    let engine = ready(Engine::new(&EngineConfig { instance_slots: 4, ..EngineConfig::default() }));
    let artifacts = dir.path().join("artifacts");
    let key = ready(ArtifactKey::open(&dir.path().join("key")));
    let store = ready(ArtifactStore::open(&artifacts, key));
    let compiler = ready(Compiler::new(engine, store, NonZeroUsize::MIN));
    let wasm = ready(wat::parse_str(PROGRAM));
    let module = ready(compiler.compile(&wasm));
    let (namespace, name) = (ready(Namespace::new("fuzz")), ready(FunctionName::new("program")));
    let function = FunctionVersion::new(namespace, name, WasmHash::of(&wasm));
    match ready(compiler.make_start(&module, &function)) {
        Start::Snapshot(_) => {}
        Start::Whole(why) => panic!("no snapshot was made: {why}"),
    }
    let file = |extension: &str| {
        let mut files = ready(fs::read_dir(&artifacts)).map(|entry| ready(entry).path());
        File::read(
            files.find(|path| path.extension().is_some_and(|end| end == extension)).expect("it was written"),
        )
    };
    let (artifact, snapshot) = (file("cwasm"), file("snapshot"));
    Stand { compiler, function, artifact, snapshot, _dir: dir }
});

pub fn check(bytes: &[u8]) {
    let Stand { compiler, function, artifact, snapshot, .. } = &*STAND;
    artifact.check(bytes, || ready(compiler.load(&function.wasm_hash)).is_some());
    // Each time a new module, which knows of no start yet.
    let module = ready(compiler.load(&function.wasm_hash)).expect("the artifact is whole again");
    snapshot.check(bytes, || ready(compiler.find_start(&module, function)).is_some());
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
