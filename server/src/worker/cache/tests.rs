use super::*;
use crate::shares::{Rates, ShareSettings, Shares};
use crate::worker::callers::Callers;
use crate::worker::keeper::Keeper;
use orama_platform::auth::{Credential, Role};
use orama_runtime::function::StartMode;
use orama_runtime::names::FunctionName;
use orama_runtime::{ArtifactKey, ArtifactStore, Compiler, Engine, EngineConfig};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;

fn callers() -> Callers {
    let limits = ShareSettings::default().limits(1024, 16);
    Callers::new(Shares::new(limits, Rates::default()))
}

#[test]
fn a_namespace_is_used_for_as_long_as_someone_holds_it() {
    let (a, b) = (Namespace::new("a").unwrap(), Namespace::new("b").unwrap());
    let mut users = Users::default();
    let kept = users.enter(&a);
    for _ in 0..1000 {
        users.enter(&b);
    }
    assert!(users.is_in(&a) && !users.is_in(&b));
    assert!(users.all.len() < 200, "those that are gone are taken out");
    drop(kept);
    assert!(!users.is_in(&a));
}

/// Some code that could run.
fn code() -> Arc<LoadedModule> {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::new(&EngineConfig { instance_slots: 1, ..EngineConfig::default() }).unwrap();
    let key = ArtifactKey::open(&dir.path().join("key")).unwrap();
    let store = ArtifactStore::open(&dir.path().join("artifacts"), key).unwrap();
    let compiler = Compiler::new(engine, store, NonZeroUsize::MIN).unwrap();
    let wasm = wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\")))").unwrap();
    Arc::new(compiler.compile(&wasm).unwrap())
}

fn function(namespace: &str, name: &str, wasm_hash: WasmHash, module: &Arc<LoadedModule>) -> Rc<Ready> {
    let namespace = Namespace::new(namespace).unwrap();
    let function = Arc::new(FunctionVersion {
        id: String::new(),
        namespace: namespace.clone(),
        name: FunctionName::new(name).unwrap(),
        version: 1,
        wasm_hash,
        wasm_cid: String::new(),
        memory_limit_mb: 64,
        timeout_seconds: 1,
        is_public: false,
        retry_count: 0,
        retry_delay_seconds: 0,
        start: StartMode::Command,
        concurrency: 0,
        keep_versions: 0,
        is_enabled: true,
        web: Default::default(),
        env: BTreeMap::new(),
        created_at_ms: 0,
        updated_at_ms: 0,
    });
    let kept = Keeper::new(0, Arc::default(), Arc::default()).pool(&function, module);
    let (module, noted_at) = (Arc::clone(module), Cell::new(0));
    let recorded = Arc::new(records::Function { namespace: namespace.clone(), name: function.name.clone() });
    let tenant = callers().namespace(&namespace);
    let _user = Rc::new(namespace);
    Rc::new(Ready {
        function,
        recorded,
        module,
        kept,
        noted_at,
        tenant,
        cors: None,
        places: None,
        traffic: None,
        _user,
    })
}

#[test]
fn code_that_was_thrown_out_takes_its_functions_along_and_no_others() {
    let (module, mut cache) = (code(), CoreCache::default());
    let (gone, kept) = (WasmHash::from_bytes([1; 32]), WasmHash::from_bytes([2; 32]));
    let (a, b) = (Namespace::new("a").unwrap(), Namespace::new("b").unwrap());
    for (name, hash) in [("f", gone), ("f@1", gone), ("g", kept)] {
        cache.keep_function(0, name, function("a", name.split('@').next().unwrap(), hash, &module));
    }
    cache.keep_function(0, "f", function("b", "f", kept, &module));
    assert_eq!(cache.remove_code(&[gone, gone, WasmHash::from_bytes([3; 32])]).len(), 2);
    assert!(cache.function(&a, "f").is_none() && cache.function(&a, "f@1").is_none());
    assert!(cache.function(&a, "g").is_some() && cache.function(&b, "f").is_some());
    assert!(cache.function(&b, "g").is_none());
    // A function that got other code belongs to that alone.
    cache.keep_function(0, "g", function("a", "g", gone, &module));
    assert_eq!(cache.remove_code(&[kept]).len(), 1);
    assert!(cache.function(&a, "g").is_some());
    assert_eq!(cache.remove_code(&[gone]).len(), 1);
    assert!(cache.by_code.is_empty() && cache.functions.is_empty());
}

#[test]
fn the_function_not_used_for_longest_is_forgotten_first() {
    let (module, mut cache) = (code(), CoreCache::default());
    let (namespace, hash) = (Namespace::new("a").unwrap(), WasmHash::from_bytes([1; 32]));
    let ready = function("a", "f", hash, &module);
    for n in 0..ENTRIES_MAX {
        cache.keep_function(0, &format!("f@{n}"), Rc::clone(&ready));
    }
    assert!(cache.function(&namespace, "f@0").is_some());
    cache.keep_function(0, "f@new", Rc::clone(&ready));
    assert!(cache.function(&namespace, "f@0").is_some() && cache.function(&namespace, "f@1").is_none());
    assert_eq!(cache.remove_code(&[hash]).len(), ENTRIES_MAX);
    drop(cache);
    assert_eq!(Rc::strong_count(&ready), 1);
}

#[test]
fn an_unknown_function_is_asked_for_again_after_a_moment_and_after_a_change() {
    let registry = AtomicU64::new(0);
    let mut cache = CoreCache::default();
    let generation = cache.refresh(&registry);
    let namespace = Namespace::new("a").unwrap();
    let (now, later) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(1));
    let keep = |cache: &mut CoreCache, generation| {
        cache.keep_unknown_function(generation, (&namespace, "f"), ApiError::not_found("/"), later);
    };
    let known = |cache: &mut CoreCache, at| {
        cache.unknown_function(&namespace, "f", at).map(|error| error.status.as_u16())
    };
    keep(&mut cache, generation);
    assert_eq!(known(&mut cache, now), Some(404));
    assert!(cache.unknown_function(&namespace, "g", now).is_none());
    assert_eq!(known(&mut cache, later), None);
    registry.fetch_add(1, Ordering::Release);
    cache.refresh(&registry);
    assert_eq!(known(&mut cache, now), None);
    keep(&mut cache, generation);
    assert_eq!(known(&mut cache, now), None, "looked up before the change");
}

#[test]
fn a_change_of_the_registry_empties_the_cache() {
    let registry = AtomicU64::new(0);
    let (module, mut cache) = (code(), CoreCache::default());
    let (namespace, hash) = (Namespace::new("a").unwrap(), WasmHash::from_bytes([1; 32]));
    let callers = callers();
    let credential = Credential {
        namespace: namespace.clone(),
        role: Role::Admin,
        key_id: "k".into(),
        caller: None,
        functions: None,
        shown: "k".into(),
    };
    let generation = cache.refresh(&registry);
    cache.credentials.keep(generation, [1; 32], callers.recognise([1; 32], &credential), u64::MAX);
    cache.keep_function(generation, "f", function("a", "f", hash, &module));
    cache.refresh(&registry);
    assert!(cache.credentials.find(&[1; 32]).is_some() && cache.function(&namespace, "f").is_some());
    registry.fetch_add(1, Ordering::Release);
    cache.refresh(&registry);
    assert!(cache.credentials.find(&[1; 32]).is_none() && cache.function(&namespace, "f").is_none());
    assert!(cache.remove_code(&[hash]).is_empty());
}
