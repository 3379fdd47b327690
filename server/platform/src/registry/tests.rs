//! What the registry promises: numbers, order, durability, isolation.

use super::*;
use crate::quotas::Quota;
use crate::test_database::Change as _;
mod bounds;
mod in_use;
mod shared;
use crate::auth::{Role, key_hash};
use crate::limits::KEYS_MAX;
use orama_runtime::function::StartMode;
use std::collections::{BTreeMap, HashSet};
use std::thread;

/// Public function `f` of namespace `a`, as it was stored before functions had bounds.
const OLD_ROWS: &str = "
INSERT INTO namespaces (name, created_at_ms) VALUES ('a', 1);
INSERT INTO functions VALUES ('a', 'f', 1, 1);
INSERT INTO function_versions (id, namespace, name, version, wasm_hash, wasm_cid, memory_limit_mb,
    timeout_seconds, is_public, retry_count, retry_delay_seconds, env, deployed_at_ms)
VALUES ('i', 'a', 'f', 1, zeroblob(32), 'cid-x', 64, 30, 1, 0, 5, '{}', 1);
";

fn namespace(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

fn function(name: &str) -> FunctionName {
    FunctionName::new(name).unwrap()
}

fn new_version(ns: &str, name: &str, wasm: &str) -> NewVersion {
    NewVersion {
        namespace: namespace(ns),
        name: function(name),
        wasm_hash: WasmHash::of(wasm.as_bytes()),
        wasm_cid: format!("cid-{wasm}"),
        wasm_bytes: 8,
        settings: VersionSettings {
            memory_limit_mb: 64,
            timeout_seconds: 30,
            is_public: false,
            retry_count: 2,
            retry_delay_seconds: 5,
            start: StartMode::default(),
            concurrency: 0,
            keep_versions: 0,
            web: Default::default(),
            env: BTreeMap::from([("KEY".to_owned(), "välue\n\"".to_owned())]),
        },
        triggers: None,
        alias: None,
        origin: Origin::default(),
    }
}

fn open(dir: &Path) -> Registry {
    let registry = Registry::open(dir).unwrap();
    registry.create_namespace(&namespace("a")).unwrap();
    registry.create_namespace(&namespace("b")).unwrap();
    registry
}

fn numbers(versions: &[Arc<FunctionVersion>]) -> Vec<u32> {
    versions.iter().map(|v| v.version).collect()
}

#[test]
fn concurrent_deploys_get_distinct_consecutive_versions() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let mut got: Vec<u32> = thread::scope(|scope| {
        let deploy = || {
            (0..10)
                .map(|_| registry.deploy(new_version("a", "f", "w")).unwrap().function.version)
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(deploy)).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    got.sort_unstable();
    assert_eq!(got, (1..=80).collect::<Vec<_>>());
    let listed = registry.versions(&namespace("a"), &function("f"), None, 100).unwrap();
    assert_eq!(numbers(&listed), (1..=80).rev().collect::<Vec<_>>(), "newest first");
}

#[test]
fn a_version_is_read_back_as_it_was_deployed() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let deployed = registry.deploy(new_version("a", "f", "w")).unwrap().function;
    let read = registry.function(&namespace("a"), &function("f"), Some(1)).unwrap().unwrap();
    assert_eq!((&deployed.id, &deployed.wasm_cid, &deployed.env), (&read.id, &read.wasm_cid, &read.env));
    assert_eq!((deployed.wasm_hash, deployed.created_at_ms), (read.wasm_hash, read.created_at_ms));
    assert_eq!((deployed.updated_at_ms, deployed.retry_count), (read.updated_at_ms, read.retry_count));
    assert_eq!((read.memory_limit_mb, read.timeout_seconds, read.retry_delay_seconds), (64, 30, 5));
    assert!(!read.is_public);
}

#[test]
fn every_version_stays_and_none_means_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    for wasm in ["x", "y", "z"] {
        registry.deploy(new_version("a", "f", wasm)).unwrap();
    }
    let get = |v| registry.function(&namespace("a"), &function("f"), v).unwrap().map(|f| f.wasm_cid.clone());
    assert_eq!(get(None).unwrap(), "cid-z");
    assert_eq!(get(Some(2)).unwrap(), "cid-y");
    assert_eq!(get(Some(4)), None);
    registry.delete(&namespace("a"), &function("f"), Some(3)).unwrap();
    assert_eq!(get(None).unwrap(), "cid-y", "the newest that is left");
}

#[test]
fn a_number_is_never_given_twice_also_after_a_delete() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    registry.deploy(new_version("a", "f", "w")).unwrap();
    registry.deploy(new_version("a", "f", "w")).unwrap();
    let deleted = registry.delete(&namespace("a"), &function("f"), None).unwrap();
    assert_eq!((deleted.versions, deleted.modules.len()), (2, 1), "the shared module is named once");
    assert!(registry.function(&namespace("a"), &function("f"), None).unwrap().is_none());
    assert!(registry.functions(&namespace("a"), "", 100).unwrap().is_empty());
    assert_eq!(registry.deploy(new_version("a", "f", "w")).unwrap().function.version, 3);
    registry.delete(&namespace("a"), &function("f"), Some(3)).unwrap();
    assert_eq!(registry.deploy(new_version("a", "f", "w")).unwrap().function.version, 4);
}

#[test]
fn a_functions_creation_is_its_first_deploy_and_the_first_after_it_was_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let deploy = || {
        thread::sleep(std::time::Duration::from_millis(3));
        registry.deploy(new_version("a", "f", "w")).unwrap().function
    };
    let (first, second) = (deploy(), deploy());
    assert_eq!(first.created_at_ms, second.created_at_ms);
    assert!(second.updated_at_ms > first.updated_at_ms);
    registry.delete(&namespace("a"), &function("f"), None).unwrap();
    let again = deploy();
    assert!(again.created_at_ms > second.updated_at_ms);
}

#[test]
fn namespaces_do_not_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    registry.deploy(new_version("a", "f", "w")).unwrap();
    registry.deploy(new_version("a", "g", "w")).unwrap();
    assert!(registry.function(&namespace("b"), &function("f"), None).unwrap().is_none());
    assert_eq!(registry.delete(&namespace("b"), &function("f"), None).unwrap().versions, 0);
    assert_eq!(registry.deploy(new_version("b", "f", "v")).unwrap().function.version, 1);
    let names: Vec<_> =
        registry.functions(&namespace("a"), "", 100).unwrap().iter().map(|f| f.name.to_string()).collect();
    assert_eq!(names, ["f", "g"]);
    let missing = registry.deploy(new_version("nobody", "f", "w")).unwrap_err();
    assert!(matches!(missing, RegistryError::NoNamespace(name) if name == "nobody"));
}

#[test]
fn a_module_is_referenced_until_its_last_version_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    registry.deploy(new_version("a", "f", "w")).unwrap();
    registry.deploy(new_version("b", "g", "w")).unwrap();
    registry.delete(&namespace("a"), &function("f"), None).unwrap();
    assert!(registry.is_wasm_referenced("cid-w").unwrap());
    assert_eq!(registry.wasm_cids_in_use().unwrap(), HashSet::from(["cid-w".to_owned()]));
    registry.delete(&namespace("b"), &function("g"), None).unwrap();
    assert!(!registry.is_wasm_referenced("cid-w").unwrap());
    assert!(registry.wasm_cids_in_use().unwrap().is_empty());
}

#[test]
fn keys_are_found_by_hash_and_stored_only_so() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let (id, key) = registry.create_key(&namespace("b"), Role::Deploy).unwrap();
    let credential = registry.key_of_hash(&key_hash(key.reveal())).unwrap().unwrap();
    assert_eq!(
        (&credential.namespace, credential.role, &credential.id),
        (&namespace("b"), Role::Deploy, &id)
    );
    assert!(registry.key_of_hash(&key_hash("orama_other")).unwrap().is_none());
    let none = registry.create_key(&namespace("nobody"), Role::Admin).unwrap_err();
    assert!(matches!(none, RegistryError::NoNamespace(_)));
    drop(registry);
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let key = key.reveal().as_bytes();
        assert!(!bytes.windows(key.len()).any(|window| window == key), "the key itself is on the disk");
    }
}

#[test]
fn the_generation_moves_with_every_change_and_only_then() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let generation = registry.generation();
    let mut last = generation.load(Ordering::Acquire);
    let mut moved = || {
        let now = generation.load(Ordering::Acquire);
        std::mem::replace(&mut last, now) != now
    };
    assert!(registry.create_namespace(&namespace("a")).unwrap().is_none() && !moved());
    registry.deploy(new_version("a", "f", "w")).unwrap();
    assert!(moved());
    registry.create_key(&namespace("a"), Role::Invoke).unwrap();
    assert!(moved());
    registry.functions(&namespace("a"), "", 100).unwrap();
    registry.delete(&namespace("a"), &function("none"), None).unwrap();
    assert!(!moved());
    registry.delete(&namespace("a"), &function("f"), None).unwrap();
    assert!(moved());
}

/// What a kill -9 leaves is the file as it is and a write-ahead log that was never folded in, perhaps with a torn
/// end: here copied away from under the open registry.
#[test]
fn everything_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    for _ in 0..5 {
        registry.deploy(new_version("a", "f", "w")).unwrap();
    }
    let (_, key) = registry.create_key(&namespace("a"), Role::Admin).unwrap();
    registry.delete(&namespace("a"), &function("f"), Some(5)).unwrap();

    let killed = tempfile::tempdir().unwrap();
    for file in ["registry.db", "registry.db-wal"] {
        std::fs::copy(dir.path().join(file), killed.path().join(file)).unwrap();
    }
    assert!(killed.path().join("registry.db-wal").metadata().unwrap().len() > 0, "the log holds the changes");
    let mut log = std::fs::File::options().append(true).open(killed.path().join("registry.db-wal")).unwrap();
    std::io::Write::write_all(&mut log, &[7; 3000]).unwrap();
    drop(log);

    let again = Registry::open(killed.path()).unwrap();
    let listed = again.versions(&namespace("a"), &function("f"), None, 100).unwrap();
    assert_eq!(numbers(&listed), [4, 3, 2, 1]);
    assert!(again.key_of_hash(&key_hash(key.reveal())).unwrap().is_some());
    assert_eq!(again.deploy(new_version("a", "f", "w")).unwrap().function.version, 6);
}

#[test]
fn readers_see_a_write_that_was_acknowledged_while_others_write() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    thread::scope(|scope| {
        for ns in ["a", "b"] {
            let registry = &registry;
            scope.spawn(move || {
                for _ in 0..20 {
                    let deployed = registry.deploy(new_version(ns, "f", "w")).unwrap().function;
                    let newest =
                        registry.function(&deployed.namespace, &deployed.name, None).unwrap().unwrap();
                    assert_eq!(newest.version, deployed.version);
                }
            });
        }
    });
}

#[test]
fn the_migrations_are_sound() {
    schema::migrations().validate().unwrap();
}

#[test]
fn keys_are_listed_and_deleted_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let generation = registry.generation();
    let (first, key) = registry.create_key(&namespace("a"), Role::Deploy).unwrap();
    let (second, _) = registry.create_key(&namespace("a"), Role::Invoke).unwrap();
    registry.create_key(&namespace("b"), Role::Admin).unwrap();
    let listed = registry.keys(&namespace("a")).unwrap();
    let listed: Vec<_> = listed.iter().map(|key| (key.id.as_str(), key.role)).collect();
    assert_eq!(listed, [(first.as_str(), Role::Deploy), (second.as_str(), Role::Invoke)]);
    let before = generation.load(Ordering::Acquire);
    assert!(registry.delete_key(&first).unwrap() && generation.load(Ordering::Acquire) > before);
    assert!(!registry.delete_key(&first).unwrap());
    assert!(registry.key_of_hash(&key_hash(key.reveal())).unwrap().is_none());
    assert_eq!(registry.key(&first).unwrap(), None);
    assert_eq!(registry.key(&second).unwrap().unwrap().role, Role::Invoke);
}

#[test]
fn a_namespace_has_a_bounded_number_of_keys() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    registry
        .database
        .change(|t| {
            t.execute(
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                 INSERT INTO api_keys (id, key_hash, namespace, role, created_at_ms)
                 SELECT 'k' || i, CAST('h' || i AS BLOB), 'a', 'invoke', 1 FROM n",
                [KEYS_MAX - 1],
            )
        })
        .unwrap();
    registry.create_key(&namespace("a"), Role::Invoke).unwrap();
    let full = registry.create_key(&namespace("a"), Role::Invoke).unwrap_err();
    assert!(matches!(full, RegistryError::TooManyKeys(_)), "{full}");
    registry.create_key(&namespace("a"), Role::Operator).unwrap();
    registry.create_key(&namespace("b"), Role::Invoke).unwrap();
}

#[test]
fn a_deleted_namespace_takes_everything_along_and_its_name_is_free_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let (a, b) = (namespace("a"), namespace("b"));
    for (name, wasm) in [("f", "w"), ("f", "x"), ("g", "w")] {
        registry.deploy(new_version("a", name, wasm)).unwrap();
    }
    registry.deploy(new_version("b", "f", "w")).unwrap();
    let (_, key) = registry.create_key(&a, Role::Admin).unwrap();
    let modules = registry.begin_namespace_deletion(&a).unwrap().unwrap();
    assert_eq!(modules.len(), 2, "{modules:?}");
    assert_eq!(registry.begin_namespace_deletion(&a).unwrap(), None);
    assert!(!registry.namespace_exists(&a).unwrap());
    assert!(registry.key_of_hash(&key_hash(key.reveal())).unwrap().is_none());
    assert!(registry.functions(&a, "", 100).unwrap().is_empty());
    let names = |registry: &Registry| -> Vec<String> {
        registry.namespaces("", 100).unwrap().iter().map(|entry| entry.name.to_string()).collect()
    };
    assert_eq!(names(&registry), ["b"]);
    // As after a crash.
    drop(registry);
    let registry = Registry::open(dir.path()).unwrap();
    assert!(matches!(registry.create_namespace(&a), Err(RegistryError::BeingDeleted(_))));
    assert!(matches!(registry.deploy(new_version("a", "f", "w")), Err(RegistryError::NoNamespace(_))));
    assert!(matches!(registry.create_key(&a, Role::Admin), Err(RegistryError::NoNamespace(_))));
    assert_eq!(registry.namespaces_being_deleted().unwrap(), vec![a.clone()]);
    registry.finish_namespace_deletion(&a).unwrap();
    registry.finish_namespace_deletion(&b).unwrap();
    assert_eq!(names(&registry), ["b"], "one that lives is not ended");
    registry.create_namespace(&a).unwrap().unwrap();
    assert_eq!(registry.deploy(new_version("a", "f", "w")).unwrap().function.version, 1);
    assert_eq!(registry.functions(&b, "", 100).unwrap().len(), 1);
}

/// A trigger on a topic.
fn on(topic: &str) -> Source {
    Source::Topic(topic.to_owned())
}

fn topic(trigger: &Trigger) -> String {
    match &trigger.source {
        Source::Topic(topic) => topic.clone(),
        Source::Schedule { .. } => panic!("it has a schedule"),
    }
}

fn topics(registry: &Registry, ns: &str, name: &str) -> Vec<String> {
    let triggers = registry.triggers(&namespace(ns), &function(name)).unwrap();
    triggers.unwrap_or_default().into_iter().map(|trigger| topic(&trigger)).collect()
}

#[test]
fn a_trigger_is_added_once_found_by_its_topic_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let (a, f) = (namespace("a"), function("f"));
    assert_eq!(registry.add_trigger(&a, &f, &on("t")).unwrap(), AddedTrigger::NoFunction);
    assert_eq!(registry.triggers(&a, &f).unwrap(), None);
    for (ns, name) in [("a", "f"), ("a", "g"), ("b", "f")] {
        registry.deploy(new_version(ns, name, "w")).unwrap();
    }
    let AddedTrigger::New(first) = registry.add_trigger(&a, &f, &on("t")).unwrap() else { panic!("not new") };
    assert_eq!(registry.add_trigger(&a, &f, &on("t")).unwrap(), AddedTrigger::Known(first.clone()));
    registry.add_trigger(&a, &f, &on("u")).unwrap();
    registry.add_trigger(&a, &function("g"), &on("t")).unwrap();
    registry.add_trigger(&namespace("b"), &f, &on("t")).unwrap();
    assert_eq!(topics(&registry, "a", "f"), ["t", "u"]);
    let on = |ns, topic| {
        let triggers = registry.triggers_on(&namespace(ns), topic).unwrap();
        triggers.into_iter().map(|trigger| trigger.function.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        (on("a", "t"), on("b", "t"), on("b", "u")),
        (vec!["f".into(), "g".into()], vec!["f".into()], vec![])
    );
    // An id is no use under another function or in another namespace.
    assert!(!registry.delete_trigger(&a, &function("g"), &first.id).unwrap());
    assert!(!registry.delete_trigger(&namespace("b"), &f, &first.id).unwrap());
    assert!(registry.delete_trigger(&a, &f, &first.id).unwrap());
    assert!(!registry.delete_trigger(&a, &f, &first.id).unwrap());
    assert_eq!(topics(&registry, "a", "f"), ["u"]);
}

#[test]
fn triggers_go_with_the_whole_function_and_not_with_a_version() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let (a, f) = (namespace("a"), function("f"));
    for _ in 0..3 {
        registry.deploy(new_version("a", "f", "w")).unwrap();
    }
    registry.add_trigger(&a, &f, &on("t")).unwrap();
    assert!(!registry.delete(&a, &f, Some(1)).unwrap().whole);
    assert_eq!(topics(&registry, "a", "f"), ["t"]);
    assert!(!registry.delete(&a, &f, Some(1)).unwrap().whole);
    registry.delete(&a, &f, Some(2)).unwrap();
    assert!(registry.delete(&a, &f, Some(3)).unwrap().whole, "the last version is the whole function");
    registry.deploy(new_version("a", "f", "w")).unwrap();
    assert!(topics(&registry, "a", "f").is_empty(), "a function of the same name is another one");
    registry.add_trigger(&a, &f, &on("t")).unwrap();
    assert!(registry.delete(&a, &f, None).unwrap().whole);
    assert!(registry.triggers_on(&a, "t").unwrap().is_empty());
}

#[test]
fn a_function_has_so_many_triggers_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let (a, f) = (namespace("a"), function("f"));
    registry.deploy(new_version("a", "f", "w")).unwrap();
    for n in 0..crate::limits::TRIGGERS_MAX {
        assert!(matches!(registry.add_trigger(&a, &f, &on(&n.to_string())).unwrap(), AddedTrigger::New(_)));
    }
    assert_eq!(registry.add_trigger(&a, &f, &on("one more")).unwrap(), AddedTrigger::TooMany);
    assert!(matches!(registry.add_trigger(&a, &f, &on("7")).unwrap(), AddedTrigger::Known(_)));
}

#[test]
fn every_change_of_triggers_moves_the_generation() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let (a, f) = (namespace("a"), function("f"));
    registry.deploy(new_version("a", "f", "w")).unwrap();
    let generation = registry.generation();
    let moved = |what: &dyn Fn() -> bool| {
        let before = generation.load(Ordering::Acquire);
        assert!(what());
        generation.load(Ordering::Acquire) != before
    };
    assert!(moved(&|| matches!(registry.add_trigger(&a, &f, &on("t")), Ok(AddedTrigger::New(_)))));
    assert!(!moved(&|| matches!(registry.add_trigger(&a, &f, &on("t")), Ok(AddedTrigger::Known(_)))));
    let id = registry.triggers(&a, &f).unwrap().unwrap()[0].id.clone();
    assert!(moved(&|| registry.delete_trigger(&a, &f, &id).unwrap()));
}

/// The quota that a deploy would exceed.
fn exceeded(registry: &Registry, new: NewVersion) -> (Quota, u64, u64) {
    match registry.deploy(new) {
        Err(RegistryError::QuotaExceeded(told)) => (told.quota, told.used, told.limit),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_deploy_that_exceeds_a_quota_is_refused_and_one_that_does_not_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let (a, sized) = (namespace("a"), |name: &str, wasm: &str, wasm_bytes| NewVersion {
        wasm_bytes,
        ..new_version("a", name, wasm)
    });
    let with_env = |bytes: usize| {
        let mut new = sized("f", "one", 10);
        new.settings.env = BTreeMap::from([("K".to_owned(), "x".repeat(bytes))]);
        new
    };
    let set = |quotas: &[(Quota, u64)]| {
        registry.set_quotas(&a, &quotas.iter().copied().collect()).unwrap();
    };
    registry.deploy(sized("f", "one", 10)).unwrap();

    set(&[(Quota::Functions, 1)]);
    assert_eq!(exceeded(&registry, sized("g", "one", 10)), (Quota::Functions, 1, 1));
    registry.deploy(sized("f", "one", 10)).unwrap();
    registry.deploy(new_version("b", "g", "one")).unwrap();

    set(&[(Quota::Versions, 2)]);
    assert_eq!(exceeded(&registry, sized("f", "one", 10)), (Quota::Versions, 2, 2));
    registry.deploy(sized("g", "one", 10)).unwrap();
    registry.delete(&a, &function("f"), Some(1)).unwrap();
    registry.deploy(sized("f", "one", 10)).unwrap();

    set(&[(Quota::ModuleBytes, 25)]);
    assert_eq!(exceeded(&registry, sized("f", "two", 16)), (Quota::ModuleBytes, 10, 25));
    registry.deploy(sized("f", "two", 15)).unwrap();
    registry.deploy(sized("h", "two", 15)).expect("a module that is there already counts once");

    let env =
        registry.usage(&a).unwrap().into_iter().find(|usage| usage.quota == Quota::EnvBytes).unwrap().used;
    set(&[(Quota::EnvBytes, env + 100)]);
    assert_eq!(exceeded(&registry, with_env(100)).0, Quota::EnvBytes, "the JSON around the value counts");
    registry.deploy(with_env(80)).unwrap();

    set(&[(Quota::FunctionNames, 3)]);
    registry.delete(&a, &function("h"), None).unwrap();
    assert_eq!(exceeded(&registry, sized("i", "one", 10)), (Quota::FunctionNames, 3, 3));
    registry.deploy(sized("h", "one", 10)).expect("its name is known");

    set(&[]);
    registry.deploy(sized("i", "three", 1 << 20)).unwrap();
    assert_eq!(registry.quotas(&a).unwrap(), BTreeMap::new());
}

#[test]
fn usage_counts_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    for (name, wasm, wasm_bytes) in
        [("f", "one", 10), ("f", "two", 20), ("f", "two", 20), ("g", "one", 10), ("h", "x", 1)]
    {
        registry.deploy(NewVersion { wasm_bytes, ..new_version("a", name, wasm) }).unwrap();
    }
    registry.delete(&namespace("a"), &function("h"), None).unwrap();
    registry.store_object(&namespace("a"), "o", 7).unwrap();
    registry.set_quotas(&namespace("a"), &BTreeMap::from([(Quota::Versions, 5)])).unwrap();
    let usage = registry.usage(&namespace("a")).unwrap();
    let shown: Vec<_> = usage.iter().map(|u| (u.quota.name(), u.used)).collect();
    let env = serde_json::to_string(&new_version("a", "f", "x").settings.env).unwrap().len() as u64;
    assert_eq!(
        shown,
        [
            ("functions", 2),
            ("function_names", 3),
            ("versions", 3),
            ("module_bytes", 30),
            ("env_bytes", 4 * env),
            ("objects", 1),
            ("object_bytes", 7),
            ("database_bytes", 0)
        ]
    );
    let limits: Vec<_> = usage.iter().map(|u| u.limit).collect();
    assert_eq!((limits[2], limits[0]), (5, Quota::Functions.default_limit()));
    assert!(registry.usage(&namespace("b")).unwrap().iter().all(|usage| usage.used == 0));
    assert!(matches!(registry.usage(&namespace("none")), Err(RegistryError::NoNamespace(_))));
    assert!(matches!(
        registry.set_quotas(&namespace("none"), &BTreeMap::new()),
        Err(RegistryError::NoNamespace(_))
    ));
}

#[test]
fn lists_come_in_pages_and_without_environments() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    for name in ["c", "a", "b", "a", "a"] {
        registry.deploy(new_version("a", name, "one")).unwrap();
    }
    let names = |after: &str, limit| -> Vec<String> {
        let page = registry.functions(&namespace("a"), after, limit).unwrap();
        assert!(page.iter().all(|function| function.env.is_empty()));
        page.iter().map(|function| function.name.to_string()).collect()
    };
    assert_eq!(
        (names("", 2), names("b", 2), names("c", 2)),
        (vec!["a".into(), "b".into()], vec!["c".into()], vec![])
    );
    let versions =
        |before, limit| numbers(&registry.versions(&namespace("a"), &function("a"), before, limit).unwrap());
    assert_eq!((versions(None, 2), versions(Some(2), 2)), (vec![3, 2], vec![1]));
    let namespaces =
        |after: &str| registry.namespaces(after, 1).unwrap().pop().map(|entry| entry.name.to_string());
    assert_eq!(
        (namespaces(""), namespaces("a"), namespaces("b")),
        (Some("a".into()), Some("b".into()), None)
    );
}
