//! Artifacts on disk: what is damaged, forged or foreign is not run but made anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{compiler, function, text};
use orama_runtime::function::WasmHash;
use orama_runtime::{ArtifactKey, ArtifactStore, CodeCache, CompileError, Compiler, Engine, EngineConfig};
use orama_test_support::guests;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn engine(cpu: &str) -> Engine {
    Engine::new(&EngineConfig { instance_slots: 4, cpu: cpu.parse().unwrap(), code_cache: None }).unwrap()
}

/// A folder of its own, and a compiler that keeps its artifacts there.
fn fresh() -> (TempDir, Compiler) {
    let dir = tempfile::tempdir().unwrap();
    let compiler = compiler(&engine("native"), dir.path());
    (dir, compiler)
}

fn files(dir: &TempDir) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(dir.path().join("store")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn only_file(dir: &TempDir) -> PathBuf {
    let files = files(dir);
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

fn echoes(compiler: &Compiler, module: &orama_runtime::LoadedModule) -> bool {
    let function = std::sync::Arc::new(function(64, 20));
    let host = common::host(orama_runtime::services::ThreadScheduler);
    let invocation = common::invocation("id", b"hello");
    let outcome = common::block_on(compiler.engine().run(module, &function, invocation, &host)).outcome;
    outcome.result == Ok(()) && text(&outcome) == "hello"
}

#[test]
fn a_module_is_compiled_once_and_mapped_from_then_on() {
    let (dir, first) = fresh();
    let wasm = guests::wat("echo");
    let hash = WasmHash::of(&wasm);
    assert!(first.load(&hash).unwrap().is_none());
    assert!(echoes(&first, &first.compile(&wasm).unwrap()));
    let file = only_file(&dir);
    let written = fs::metadata(&file).unwrap().modified().unwrap();

    // As after a restart: another engine, another store, the same folder.
    let second = compiler(&engine("native"), dir.path());
    let module = second.load(&hash).unwrap().unwrap();
    assert!(echoes(&second, &module));
    assert!(module.image_bytes() > 0);
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written);
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    assert!(maps.contains(file.to_str().unwrap()), "the code is not mapped from its file");

    second.forget(&hash).unwrap();
    assert_eq!(files(&dir), Vec::<PathBuf>::new());
    second.forget(&hash).unwrap();
    assert!(second.load(&hash).unwrap().is_none());
    // What is mapped outlives its file.
    assert!(echoes(&second, &module));
}

#[test]
fn a_damaged_artifact_is_removed_and_made_anew() {
    let (dir, compiler) = fresh();
    let wasm = guests::wat("echo");
    let hash = WasmHash::of(&wasm);
    drop(compiler.compile(&wasm).unwrap());
    let file = only_file(&dir);
    let good = fs::read(&file).unwrap();
    let length = good.len();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let mut damaged: Vec<(String, Vec<u8>)> = [
        0,
        length / 3,
        length / 2,
        // The last byte of the code, the first of the pages, the first and last of the tag, and of the mark behind it.
        length - 45,
        length - 44,
        length - 40,
        length - 9,
        length - 8,
        length - 1,
    ]
    .into_iter()
    .map(|at| (format!("byte {at} of {length}"), flipped(at)))
    .collect();
    for keep in [0, 1, 43, 44, 45, 4096, length / 2, length - 40, length - 8, length - 1] {
        damaged.push((format!("cut to {keep}"), good[..keep].to_vec()));
    }
    for more in [1, 8, 44, 4096] {
        damaged.push((format!("grown by {more}"), [good.as_slice(), &vec![0; more]].concat()));
    }
    damaged.push(("grown by its own end".to_owned(), [good.as_slice(), &good[length - 44..]].concat()));
    damaged.push(("zeros".to_owned(), vec![0; length]));
    for (what, bytes) in damaged {
        fs::write(&file, bytes).unwrap();
        assert!(compiler.load(&hash).unwrap().is_none(), "{what} was taken");
        assert!(!file.exists(), "{what} was left");
        drop(compiler.compile(&wasm).unwrap());
        assert!(fs::read(&file).unwrap() == good, "{what}: the new artifact differs");
        let module = compiler.load(&hash).unwrap().unwrap();
        assert!(echoes(&compiler, &module), "{what}");
        drop(module);
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn an_artifact_serves_its_own_module_alone() {
    let (dir, compiler) = fresh();
    let (echo, empty) = (guests::wat("echo"), guests::wat("empty"));
    drop(compiler.compile(&echo).unwrap());
    let echo_file = only_file(&dir);
    drop(compiler.compile(&empty).unwrap());
    let empty_file = files(&dir).into_iter().find(|file| *file != echo_file).unwrap();
    fs::rename(&echo_file, dir.path().join("aside")).unwrap();
    fs::rename(&empty_file, &echo_file).unwrap();
    fs::rename(dir.path().join("aside"), &empty_file).unwrap();
    for wasm in [&echo, &empty] {
        assert!(compiler.load(&WasmHash::of(wasm)).unwrap().is_none());
    }
    assert_eq!(files(&dir), Vec::<PathBuf>::new());
}

#[test]
fn an_artifact_of_another_key_is_not_run() {
    let (mine, compiler) = fresh();
    let (theirs, other) = fresh();
    let wasm = guests::wat("echo");
    drop(other.compile(&wasm).unwrap());
    let forged = only_file(&theirs);
    let here = mine.path().join("store").join(forged.file_name().unwrap());
    fs::copy(&forged, &here).unwrap();
    assert!(compiler.load(&WasmHash::of(&wasm)).unwrap().is_none());
    assert!(!here.exists());
    assert!(echoes(&compiler, &compiler.compile(&wasm).unwrap()));
}

#[test]
fn engines_with_other_settings_live_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let wasm = guests::wat("echo");
    let hash = WasmHash::of(&wasm);
    let (native, baseline) =
        (compiler(&engine("native"), dir.path()), compiler(&engine("baseline"), dir.path()));
    drop(native.compile(&wasm).unwrap());
    assert!(baseline.load(&hash).unwrap().is_none(), "code for another processor was loaded");
    drop(baseline.compile(&wasm).unwrap());
    assert_eq!(files(&dir).len(), 2);
    for compiler in [&native, &baseline] {
        assert!(echoes(compiler, &compiler.load(&hash).unwrap().unwrap()));
    }
    // The one's file under the other's name is foreign: refused before it is mapped.
    let [a, b] = files(&dir).try_into().unwrap();
    fs::copy(&a, &b).unwrap();
    let loaded = [&native, &baseline].map(|compiler| compiler.load(&hash).unwrap().is_some());
    assert_eq!(loaded.iter().filter(|loaded| **loaded).count(), 1, "{loaded:?}");
    assert_eq!(files(&dir), [a]);
    native.forget(&hash).unwrap();
    baseline.forget(&hash).unwrap();
    assert_eq!(files(&dir), Vec::<PathBuf>::new());
}

#[test]
fn what_a_crash_left_is_removed_but_not_what_is_being_written() {
    let (dir, compiler) = fresh();
    let store = dir.path().join("store");
    fs::write(store.join("abandoned.0123456789abcdef.tmp"), b"half").unwrap();
    fs::write(store.join("a-note.txt"), b"not ours").unwrap();
    let writing = fs::File::create(store.join("writing.0123456789abcdef.tmp")).unwrap();
    writing.lock().unwrap();
    let key = ArtifactKey::open(&dir.path().join("key")).unwrap();
    drop(ArtifactStore::open(&store, key).unwrap());
    let left: Vec<_> =
        files(&dir).iter().map(|f| f.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(left, ["a-note.txt", "writing.0123456789abcdef.tmp"]);
    assert!(echoes(&compiler, &compiler.compile(&guests::wat("echo")).unwrap()));
}

#[test]
fn several_writers_of_one_artifact_do_not_disturb_each_other() {
    const WRITERS: usize = 4;
    let dir = tempfile::tempdir().unwrap();
    let wasm = guests::wat("echo");
    let hash = WasmHash::of(&wasm);
    let engine = engine("native");
    if let Some(path) = std::env::var_os("ORAMA_TEST_WRITE_ARTIFACTS_IN") {
        // This process is the one started below.
        let compiler = compiler(&engine, Path::new(&path));
        for _ in 0..20 {
            drop(compiler.compile(&wasm).unwrap());
        }
        return;
    }
    let mut process = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "several_writers_of_one_artifact_do_not_disturb_each_other"])
        .env("ORAMA_TEST_WRITE_ARTIFACTS_IN", dir.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                for _ in 0..10 {
                    // Opening cleans up, which must not take away what another one writes.
                    let compiler = compiler(&engine, dir.path());
                    assert!(echoes(&compiler, &compiler.compile(&wasm).unwrap()));
                    assert!(echoes(&compiler, &compiler.load(&hash).unwrap().unwrap()));
                }
            });
        }
    });
    assert!(process.wait().unwrap().success());
    only_file(&dir);
}

#[test]
fn several_loaders_of_a_damaged_artifact_all_find_nothing() {
    let (dir, compiler) = fresh();
    let wasm = guests::wat("echo");
    for _ in 0..20 {
        drop(compiler.compile(&wasm).unwrap());
        fs::write(only_file(&dir), b"damaged").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(compiler.load(&WasmHash::of(&wasm)).unwrap().is_none()));
            }
        });
    }
}

#[test]
fn trouble_with_the_disk_names_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let key = || ArtifactKey::open(&dir.path().join("key")).unwrap();
    let occupied = dir.path().join("occupied");
    fs::write(&occupied, b"a file where the folder should be").unwrap();
    let error = ArtifactStore::open(&occupied, key()).err().unwrap().to_string();
    assert!(error.contains(occupied.to_str().unwrap()), "{error}");

    let gone = dir.path().join("gone");
    let store = ArtifactStore::open(&gone, key()).unwrap();
    let compiler = Compiler::new(engine("native"), store, std::num::NonZeroUsize::MIN).unwrap();
    fs::remove_dir(&gone).unwrap();
    let wasm = guests::wat("echo");
    assert!(compiler.load(&WasmHash::of(&wasm)).unwrap().is_none());
    let error = compiler.compile(&wasm).err().unwrap();
    assert!(
        matches!(&error, CompileError::Store(why) if why.to_string().contains(gone.to_str().unwrap())),
        "{error}"
    );

    // A folder under the artifact's name can be neither read nor replaced.
    let (dir, compiler) = fresh();
    drop(compiler.compile(&wasm).unwrap());
    let file = only_file(&dir);
    fs::remove_file(&file).unwrap();
    fs::create_dir_all(file.join("full")).unwrap();
    let error = compiler.load(&WasmHash::of(&wasm)).err().unwrap().to_string();
    assert!(error.contains(file.to_str().unwrap()), "{error}");
}

#[test]
fn the_key_is_made_once_and_kept_from_others() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(ArtifactKey::open(&path).is_ok()));
        }
    });
    let key = fs::read(&path).unwrap();
    assert_eq!(key.len(), 32);
    assert_ne!(key, [0; 32]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(ArtifactKey::open(&path).is_ok());
    assert_eq!(fs::read(&path).unwrap(), key);
    fs::write(&path, b"short").unwrap();
    let error = ArtifactKey::open(&path).err().unwrap().to_string();
    assert!(error.contains("5 bytes") && error.contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn a_module_that_the_engine_cannot_take_is_the_modules_fault() {
    let (dir, compiler) = fresh();
    for (what, text) in [
        ("no _start", "(module)"),
        ("a huge table", "(module (table 100000000 funcref) (func (export \"_start\")))"),
        ("an unknown import", "(module (import \"a\" \"b\" (func)) (func (export \"_start\")))"),
        ("too much memory", "(module (memory 5000) (func (export \"_start\")))"),
    ] {
        // As if validation were forgotten.
        let error = compiler.compile(&wat::parse_str(text).unwrap()).err().unwrap();
        assert!(matches!(error, CompileError::Module(_)), "{what}: {error}");
    }
    let error = compiler.compile(b"\0asm\x01\0\0\0\x01\xff").err().unwrap();
    assert!(matches!(error, CompileError::Module(_)), "{error}");
    assert_eq!(files(&dir), Vec::<PathBuf>::new());
}

/// A compiler with a code cache beside its artifacts.
fn caching(dir: &Path) -> Compiler {
    let key = ArtifactKey::open(&dir.join("key")).unwrap();
    let cache = std::sync::Arc::new(CodeCache::new(dir.join("code"), &key, 16 << 20));
    let config = EngineConfig { instance_slots: 4, cpu: "native".parse().unwrap(), code_cache: Some(cache) };
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
    // Without the number of pages, the tag over it, and the mark.
    let code_of = |file: &Path| {
        let mut bytes = fs::read(file).unwrap();
        bytes.truncate(bytes.len() - 44);
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

fn tells(compiler: &Compiler, module: &orama_runtime::LoadedModule, memory_mb: u32) -> u32 {
    let function = std::sync::Arc::new(function(memory_mb, 20));
    let host = common::host(orama_runtime::services::ThreadScheduler);
    let run = compiler.engine().run(module, &function, common::invocation("id", b""), &host);
    u32::from(common::block_on(run).outcome.output[0]) - 48
}

#[test]
fn a_module_starts_with_the_pages_that_suit_it_also_after_a_restart() {
    let (dir, first) = fresh();
    // What fits every function's limit is compiled in; the rest is grown as far as a function may have it.
    for (declared, wanted, grown) in [(2, 3, false), (15, 20, true)] {
        let wasm = wants_pages(declared, wanted);
        let module = first.compile(&wasm).unwrap();
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
    assert_ne!(first.compile(&wasm).unwrap().extra_pages(), 0);
    let file = only_file(&dir);
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() - 44;
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
