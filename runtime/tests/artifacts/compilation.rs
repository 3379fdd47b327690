//! What a compilation reuses and what it decides: the code of single functions, and the size of the memory.

use crate::common::{self, compiler, function};
use crate::{engine, fresh, only_file};
use orama_runtime::function::WasmHash;
use orama_runtime::{ArtifactKey, CodeCache, Compiler, Engine, EngineConfig, LoadedModule};
use orama_test_support::guests;
use std::fs;
use std::path::Path;

/// A compiler with a code cache beside its artifacts.
fn caching(dir: &Path) -> Compiler {
    let key = ArtifactKey::open(&dir.join("key")).unwrap();
    let cache = std::sync::Arc::new(CodeCache::new(dir.join("code"), &key, 16 << 20));
    let config = EngineConfig {
        instance_slots: 4,
        cpu: "native".parse().unwrap(),
        code_cache: Some(cache),
        ..EngineConfig::default()
    };
    compiler(&Engine::new(&config).unwrap(), dir)
}

#[test]
fn code_is_the_same_with_and_without_a_cache_and_a_damaged_one() {
    let Ok(path) = guests::tinygo("hello", &[]) else { return };
    let mut wasm = fs::read(path).unwrap();
    // With a memory of 16 pages, so that its code does not depend on what trials find.
    let memory = wasm.windows(5).position(|bytes| bytes == [5, 3, 1, 0, 2]).unwrap();
    wasm[memory + 4] = 16;
    let (plain_dir, plain) = fresh();
    drop(plain.compile(&wasm).unwrap());
    // Without what the file says of itself, the tag, and the mark: 28, 32 and 8 bytes.
    let code_of = |file: &Path| {
        let mut bytes = fs::read(file).unwrap();
        bytes.truncate(bytes.len() - 68);
        bytes
    };
    let expected = code_of(&only_file(&plain_dir));
    let dir = tempfile::tempdir().unwrap();
    let first = caching(dir.path());
    assert_eq!(first.engine().compatibility(), plain.engine().compatibility());
    assert!(!dir.path().join("code").exists(), "nothing is read or made at a start");
    let cached = || {
        let file = fs::read_dir(dir.path().join("code")).unwrap().next().unwrap().unwrap().path();
        let length = fs::metadata(&file).unwrap().len();
        (file, length)
    };
    drop(first.compile(&wasm).unwrap());
    assert!(code_of(&only_file(&dir)) == expected, "with an empty cache");
    let (file, full) = cached();
    // Known to the same engine, and to one after a restart.
    for compiler in [first, caching(dir.path())] {
        drop(compiler.compile(&wasm).unwrap());
        assert!(code_of(&only_file(&dir)) == expected, "with a full cache");
        assert_eq!(cached().1, full, "everything was known");
    }
    let good = fs::read(&file).unwrap();
    for at in [good.len() / 3, good.len() / 2, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&file, bytes).unwrap();
        drop(caching(dir.path()).compile(&wasm).unwrap());
        assert!(code_of(&only_file(&dir)) == expected, "with byte {at} changed");
        let made_good = cached().1;
        drop(caching(dir.path()).compile(&wasm).unwrap());
        assert_eq!(cached().1, made_good, "what was damaged was written again");
    }
}

/// A guest that works until its memory has so many pages, as collectors do in a small heap, and tells how many it has.
fn wants_pages(declared: u32, wanted: u32) -> Vec<u8> {
    let text = format!(
        "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func $write (param i32 i32 i32 i32) (result i32)))
           (memory (export \"memory\") {declared})
           (func (export \"_start\") (local $n i32)
             (if (i32.lt_u (memory.size) (i32.const {wanted})) (then
               (loop $spin
                 (local.set $n (i32.add (local.get $n) (i32.const 1)))
                 (br_if $spin (i32.lt_u (local.get $n) (i32.const 1000000))))))
             (i32.store8 (i32.const 64) (i32.add (i32.const 48) (memory.size)))
             (i32.store (i32.const 0) (i32.const 64))
             (i32.store (i32.const 4) (i32.const 1))
             (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"
    );
    wat::parse_str(text).unwrap()
}

fn tells(compiler: &Compiler, module: &LoadedModule, memory_mb: u32) -> u32 {
    let function = std::sync::Arc::new(function(memory_mb, 20));
    let host = common::host(orama_runtime::services::ThreadScheduler);
    let run = compiler.engine().run(module, &function, common::invocation("id", b""), &host);
    u32::from(common::block_on(run).outcome.output[0]) - 48
}

/// Compiles a module until the trial runs choose as they do on an idle machine: enough pages, and `grown` before the start only
/// where they cannot be compiled in. Where other programs take the time of a run, they choose none or more.
fn compile_as_when_idle(compiler: &Compiler, wasm: &[u8], wanted: u32, grown: bool) -> LoadedModule {
    let mut compiled = (0..10).map(|_| compiler.compile(wasm).unwrap());
    let is_chosen =
        |module: &LoadedModule| (module.extra_pages() > 0) == grown && tells(compiler, module, 64) >= wanted;
    compiled.find(is_chosen).expect("a choice as on an idle machine")
}

#[test]
fn a_module_starts_with_the_pages_that_suit_it_also_after_a_restart() {
    let (dir, first) = fresh();
    // What fits every function's limit is compiled in; the rest is grown as far as a function may have it.
    for (declared, wanted, grown) in [(2, 3, false), (15, 20, true)] {
        let wasm = wants_pages(declared, wanted);
        let module = compile_as_when_idle(&first, &wasm, wanted, grown);
        assert_eq!(module.extra_pages() > 0, grown);
        let second = compiler(&engine("native"), dir.path());
        let loaded = second.load(&WasmHash::of(&wasm)).unwrap().unwrap();
        for (compiler, module) in [(&first, &module), (&second, &loaded)] {
            let told = tells(compiler, module, 64);
            assert!(told >= wanted, "{told} of {wanted}");
            assert_eq!(tells(compiler, module, 1), told.min(16), "never above the limit");
        }
    }
}

#[test]
fn a_choice_of_pages_is_tagged() {
    let (dir, first) = fresh();
    let wasm = wants_pages(15, 20);
    assert_ne!(compile_as_when_idle(&first, &wasm, 20, true).extra_pages(), 0);
    let file = only_file(&dir);
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() - 68;
    bytes[at] ^= 2;
    fs::write(&file, bytes).unwrap();
    assert!(first.load(&WasmHash::of(&wasm)).unwrap().is_none());
}

#[test]
fn tinygo_programs_are_worth_a_larger_memory() {
    let Ok(path) = guests::tinygo("hello", &[]) else { return };
    let (_dir, compiler) = fresh();
    let mut module = compiler.compile_as_declared(&fs::read(path).unwrap()).unwrap();
    let chosen = compiler.engine().choose_extra_pages(&mut module);
    assert!((1..=64).contains(&chosen), "{chosen}");
}

#[test]
fn guests_that_gain_nothing_keep_their_memory() {
    let (_dir, compiler) = fresh();
    for guest in ["echo", "empty", "spin", "trap_unreachable", "sleep_hour", "memory_grow_until_refused"] {
        let begun = std::time::Instant::now();
        assert_eq!(compiler.compile(&guests::wat(guest)).unwrap().extra_pages(), 0, "{guest}");
        assert!(begun.elapsed().as_secs() < 30, "{guest} held up its deploy");
    }
}
