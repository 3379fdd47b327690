//! Which versions are in use, and what that protects.

use super::*;
use crate::registry::{LIVE, Sticky, Traffic, Which};

fn alias(name: &str) -> AliasName {
    AliasName::new(name).unwrap()
}

fn deployed(registry: &Registry, named: Option<&str>) -> Added {
    registry.deploy(NewVersion { alias: named.map(alias), ..new_version("a", "f", "w") }).unwrap()
}

fn number(registry: &Registry, which: &str) -> Option<u32> {
    let which = if which.is_empty() { Which::Live } else { Which::parse(which).unwrap() };
    let found = registry.find(&namespace("a"), &function("f"), &which).unwrap();
    assert_eq!(
        found.as_ref().map(|found| found.function.version),
        registry.number_of(&namespace("a"), &function("f"), &which).unwrap()
    );
    found.map(|found| found.function.version)
}

fn spread(registry: &Registry, weights: &[(u32, u32)]) -> Result<bool, RegistryError> {
    let traffic =
        Traffic::new(&weights.iter().copied().collect(), Some(Sticky::Header("x-user".to_owned()))).unwrap();
    registry.set_traffic(&namespace("a"), &function("f"), Some(&traffic))
}

#[test]
fn live_is_the_newest_version_unless_it_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let (a, f) = (namespace("a"), function("f"));
    assert_eq!((number(&registry, ""), registry.aliases(&a, &f).unwrap()), (None, None));
    assert_eq!(deployed(&registry, None).live, 1);
    assert_eq!(deployed(&registry, None).live, 2);
    let before = registry.generation().load(Ordering::Acquire);
    registry.set_alias(&a, &f, &alias(LIVE), 1).unwrap();
    assert!(registry.generation().load(Ordering::Acquire) > before, "cores hear of it");
    assert_eq!(number(&registry, ""), Some(1));
    let listed = registry.functions(&a, "", 10).unwrap();
    assert_eq!(numbers(&listed), [1]);
    assert_eq!(deployed(&registry, None).live, 1, "a deploy leaves it");
    assert_eq!(deployed(&registry, Some(LIVE)).live, 4, "unless it says so");
    assert!(registry.delete_alias(&a, &f, &alias(LIVE)).unwrap());
    assert!(!registry.delete_alias(&a, &f, &alias(LIVE)).unwrap());
    assert_eq!(deployed(&registry, None).live, 5);
    let aliases = registry.aliases(&a, &f).unwrap().unwrap();
    assert_eq!((aliases.len(), aliases[0].version, aliases[0].set_at_ms), (1, 5, None));
    assert!(matches!(registry.set_alias(&a, &f, &alias("x"), 9), Err(RegistryError::NoVersion(_, 9))));
}

#[test]
fn another_alias_leaves_live_what_was_live() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let first = deployed(&registry, Some("canary"));
    assert_eq!((first.live, number(&registry, "canary")), (1, Some(1)), "nothing was live before");
    let second = deployed(&registry, Some("canary"));
    assert_eq!((second.live, number(&registry, ""), number(&registry, "canary")), (1, Some(1), Some(2)));
    assert_eq!(number(&registry, "other"), None);
}

#[test]
fn versions_in_use_are_neither_deleted_nor_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let (a, f) = (namespace("a"), function("f"));
    for _ in 0..4 {
        deployed(&registry, None);
    }
    registry.set_alias(&a, &f, &alias("kept"), 1).unwrap();
    spread(&registry, &[(2, 1), (4, 9)]).unwrap();
    for used in [1, 2] {
        assert!(
            matches!(registry.delete(&a, &f, Some(used)), Err(RegistryError::VersionInUse(..))),
            "{used}"
        );
        assert!(registry.is_in_use(&a, &f, used).unwrap());
    }
    assert!(!registry.is_in_use(&a, &f, 3).unwrap());
    let mut new = new_version("a", "f", "w");
    new.settings.keep_versions = 1;
    registry.deploy(new).unwrap();
    let left = registry.versions(&a, &f, None, 10).unwrap();
    assert_eq!(numbers(&left), [5, 4, 2, 1]);
    // The function as a whole goes with all that named its versions.
    assert_eq!(registry.delete(&a, &f, None).unwrap().versions, 4);
    let again = deployed(&registry, None);
    assert_eq!((again.live, again.is_spread, number(&registry, "kept")), (6, false, None));
    // So does its last version.
    registry.set_alias(&a, &f, &alias(LIVE), 6).unwrap();
    assert!(registry.delete(&a, &f, Some(6)).unwrap().whole);
}

#[test]
fn the_quotas_count_versions_that_a_deploy_does_not_drop() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let (a, f) = (namespace("a"), function("f"));
    registry.set_quotas(&a, &[(Quota::Versions, 2)].into()).unwrap();
    let mut new = new_version("a", "f", "w");
    new.settings.keep_versions = 1;
    for _ in 0..3 {
        registry.deploy(new.clone()).unwrap();
    }
    registry.set_alias(&a, &f, &alias("kept"), 3).unwrap();
    registry.deploy(new.clone()).unwrap();
    registry.set_alias(&a, &f, &alias("kept-too"), 4).unwrap();
    assert!(matches!(registry.deploy(new), Err(RegistryError::QuotaExceeded(_))));
}

#[test]
fn traffic_is_spread_until_it_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let (a, f) = (namespace("a"), function("f"));
    for _ in 0..2 {
        deployed(&registry, None);
    }
    assert!(!spread(&registry, &[(1, 1), (2, 3)]).unwrap());
    let found = registry.find(&a, &f, &Which::Live).unwrap().unwrap();
    let traffic = found.traffic.unwrap();
    assert_eq!((traffic.weights().get(&2), traffic.total()), (Some(&3), 4));
    assert_eq!(traffic.sticky, Some(Sticky::Header("x-user".to_owned())));
    let by_number = registry.find(&a, &f, &Which::Number(1)).unwrap().unwrap();
    assert!(by_number.traffic.is_none(), "who names a version gets it");
    assert!(deployed(&registry, None).is_spread);
    assert!(matches!(spread(&registry, &[(1, 1), (9, 1)]), Err(RegistryError::NoVersion(_, 9))));
    assert!(registry.traffic(&a, &f).unwrap().is_some(), "a refusal changes nothing");
    assert!(registry.set_traffic(&a, &f, None).unwrap());
    assert!(registry.traffic(&a, &f).unwrap().is_none());
}

#[test]
fn a_function_may_be_disabled_and_an_origin_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let (a, f) = (namespace("a"), function("f"));
    assert!(!registry.set_enabled(&a, &f, false).unwrap(), "there is no such function");
    let origin = Origin { key_id: Some("k".to_owned()), ..Origin::default() };
    registry.deploy(NewVersion { origin: origin.clone(), ..new_version("a", "f", "w") }).unwrap();
    registry.set_enabled(&a, &f, false).unwrap();
    assert!(!deployed(&registry, None).function.is_enabled, "also for later versions");
    assert!(!registry.find(&a, &f, &Which::Number(1)).unwrap().unwrap().function.is_enabled);
    registry.set_enabled(&a, &f, true).unwrap();
    assert!(registry.find(&a, &f, &Which::Live).unwrap().unwrap().function.is_enabled);
    let origins = registry.origins(&a, &f, (1, 2)).unwrap();
    assert_eq!((origins[&1].clone(), origins[&2].clone()), (origin, Origin::default()));
}

#[test]
fn an_update_counts_the_module_as_large_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    registry.deploy(new_version("a", "f", "w")).unwrap();
    registry.deploy(NewVersion { wasm_bytes: 0, ..new_version("a", "f", "w") }).unwrap();
    registry.delete(&namespace("a"), &function("f"), Some(1)).unwrap();
    let used = registry.usage(&namespace("a")).unwrap();
    let bytes = used.iter().find(|usage| usage.quota == Quota::ModuleBytes).unwrap();
    assert_eq!(bytes.used, 8);
}
