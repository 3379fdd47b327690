//! Artifacts on disk: a damaged, forged or foreign one is not run but compiled again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod compilation;

use common::{compiler, function, text};
use orama_runtime::function::WasmHash;
use orama_runtime::{ArtifactKey, ArtifactStore, CompileError, Compiler, Engine, EngineConfig};
use orama_test_support::guests;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn engine(cpu: &str) -> Engine {
    Engine::new(&EngineConfig { instance_slots: 4, cpu: cpu.parse().unwrap(), ..EngineConfig::default() })
        .unwrap()
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
    // Its memory cannot grow, so no measurement decides how large it starts.
    let text = include_str!("../../../tests/guests/wat/echo.wat");
    let memory = "(memory (export \"memory\") 2";
    assert!(text.contains(memory));
    let wasm = wat::parse_str(text.replace(memory, &format!("{memory} 2"))).unwrap();
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
