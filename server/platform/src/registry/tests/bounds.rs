//! What the author of a function bounds: invocations at once, and versions that are kept.

use super::*;
use rusqlite_migration::{M, Migrations};

/// A version of function `f` in namespace `a` whose deploy leaves so many.
fn keeping(wasm: &str, wasm_bytes: u64, keep_versions: u32) -> NewVersion {
    let mut new = NewVersion { wasm_bytes, ..new_version("a", "f", wasm) };
    new.settings.keep_versions = keep_versions;
    new
}

fn left(registry: &Registry) -> Vec<u32> {
    numbers(&registry.versions(&namespace("a"), &function("f"), None, 100).unwrap())
}

fn names(dropped: &[ModuleRef]) -> Vec<&str> {
    let mut names: Vec<_> = dropped.iter().map(|module| module.wasm_cid.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_deploy_leaves_as_many_versions_as_it_says_and_names_the_modules_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    for wasm in ["x", "y", "y", "z"] {
        assert_eq!(registry.deploy(keeping(wasm, 8, 0)).unwrap().dropped, []);
    }
    registry.deploy(new_version("a", "g", "x")).unwrap();
    assert_eq!(left(&registry), [4, 3, 2, 1], "all stay unless it is set");
    let added = registry.deploy(keeping("w", 8, 2)).unwrap();
    assert_eq!((added.function.version, added.function.keep_versions), (5, 2));
    assert_eq!((left(&registry), names(&added.dropped)), (vec![5, 4], vec!["cid-x", "cid-y"]));
    assert_eq!(registry.functions(&namespace("a"), "", 9).unwrap().len(), 2, "other functions stay");
    let added = registry.deploy(keeping("w", 8, 1)).unwrap();
    assert_eq!((left(&registry), names(&added.dropped)), (vec![6], vec!["cid-w", "cid-z"]));
    assert!(registry.is_wasm_referenced("cid-w").unwrap(), "the new version runs it");
    assert_eq!(added.function.created_at_ms, {
        let kept = registry.function(&namespace("a"), &function("f"), Some(6)).unwrap().unwrap();
        kept.created_at_ms
    });
    registry.deploy(keeping("w", 8, 0)).unwrap();
    assert_eq!(left(&registry), [7, 6], "the setting is that of the deploy");
}

#[test]
fn what_a_deploy_takes_away_is_free_for_what_it_adds() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    registry.deploy(keeping("x", 10, 0)).unwrap();
    registry.deploy(keeping("y", 10, 0)).unwrap();
    let set = |quota, value| registry.set_quotas(&namespace("a"), &BTreeMap::from([(quota, value)])).unwrap();
    set(Quota::Versions, 2);
    assert_eq!(exceeded(&registry, keeping("z", 10, 0)), (Quota::Versions, 2, 2));
    registry.deploy(keeping("z", 10, 2)).unwrap();
    assert_eq!(left(&registry), [3, 2]);
    // y and z are there with 10 bytes each; y goes.
    set(Quota::ModuleBytes, 25);
    assert_eq!(exceeded(&registry, keeping("w", 16, 2)), (Quota::ModuleBytes, 10, 25));
    registry.deploy(keeping("w", 15, 2)).unwrap();
    // z goes, which another function runs too.
    set(Quota::ModuleBytes, 30);
    registry.deploy(NewVersion { wasm_bytes: 10, ..new_version("a", "g", "z") }).unwrap();
    assert_eq!(exceeded(&registry, keeping("v", 6, 2)), (Quota::ModuleBytes, 25, 30));
    let env = serde_json::to_string(&keeping("w", 15, 1).settings.env).unwrap().len() as u64;
    set(Quota::EnvBytes, 2 * env);
    assert_eq!(exceeded(&registry, keeping("w", 15, 3)).0, Quota::EnvBytes);
    registry.deploy(keeping("w", 15, 1)).unwrap();
    assert_eq!(left(&registry), [5]);
}

#[test]
fn how_many_run_at_once_is_the_functions_and_said_by_its_newest_version() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    registry.deploy(new_version("a", "f", "x")).unwrap();
    let mut new = new_version("a", "f", "y");
    new.settings.concurrency = 7;
    assert_eq!(registry.deploy(new).unwrap().function.concurrency, 7);
    let of =
        |version| registry.function(&namespace("a"), &function("f"), version).unwrap().unwrap().concurrency;
    assert_eq!((of(None), of(Some(1)), of(Some(2))), (7, 7, 7));
}

#[test]
fn a_version_that_was_stored_before_there_were_bounds_has_none() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut old = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
        let before: Vec<_> = schema::SHARED.steps.iter().take(4).map(|step| M::up(step)).collect();
        Migrations::new(before).to_latest(&mut old).unwrap();
        old.execute_batch(OLD_ROWS).unwrap();
    }
    let registry = Registry::open(dir.path()).unwrap();
    let read = registry.function(&namespace("a"), &function("f"), None).unwrap().unwrap();
    assert_eq!((read.concurrency, read.keep_versions, read.is_public), (0, 0, true));
    registry.deploy(keeping("y", 8, 1)).unwrap();
    assert_eq!(left(&registry), [2]);
}
