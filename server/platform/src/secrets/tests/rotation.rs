//! The exchange of the master key: with others at work, with crashes at each step, and with damage.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_rotation_exchanges_the_key_and_changes_no_value() {
    let home = Home::new();
    let store = home.start();
    let secrets = 2 * SECRETS_RESEALED_AT_ONCE + 1;
    for n in 0..secrets {
        store.put(if n % 2 == 0 { "a" } else { "b" }, &format!("s{n}"), &format!("value {n}"));
    }
    let (before, old) = (home.keys().0, store.key_ids());
    let generation = store.generation.load(Ordering::Acquire);
    let rotation = store.rotate().unwrap();
    assert_eq!(rotation.reencrypted, u64::from(secrets));
    assert_eq!(rotation.unneeded, Vec::<String>::new());
    assert_eq!(store.key_ids(), [&*rotation.key_id]);
    assert_ne!(store.key_ids(), old);
    assert_eq!(store.generation.load(Ordering::Acquire), generation, "nobody has to forget anything");
    let (after, rotating) = home.keys();
    assert!(after.len() == 1 && after != before && !rotating);
    assert_eq!(fs::metadata(home.file()).unwrap().permissions().mode() & 0o777, 0o600);
    let again = store.rotate().unwrap();
    assert_ne!(again.key_id, rotation.key_id);
    drop(store);
    let store = home.start();
    for n in 0..secrets {
        let value = store.value(if n % 2 == 0 { "a" } else { "b" }, &format!("s{n}"));
        assert_eq!(value, Some(format!("value {n}")));
    }
}

#[test]
fn a_crash_at_any_point_of_a_rotation_loses_nothing_and_the_next_start_ends_it() {
    // How many of four secrets were encrypted anew when the crash came: the first step is the file, the last the file.
    for done in 0..=4 {
        let home = Home::new();
        let store = home.start();
        for n in 0..4 {
            store.put("a", &format!("s{n}"), &format!("value {n}"));
        }
        // What `rotate` does, up to the crash.
        let new = MasterKey::generate().unwrap();
        let file = KeyFile { keys: store.keys().with_first(new.clone()), rotating: true };
        key_file::write(&home.file(), &file).unwrap();
        store.replace_keys(file.keys);
        let keys = store.keys();
        if done > 0 {
            let reseal = |of: &str, secret: &str, stored: &_| {
                let stored: &crate::registry::secrets::StoredSecret = stored;
                let value =
                    keys.find(&stored.sealed.key_id).unwrap().open(of, secret, stored.clone()).unwrap();
                let place = Place { namespace: of, name: secret, version: stored.version };
                Ok(Some(new.seal(place, value.reveal())?))
            };
            store.registry.reseal_secrets(&mut Walk::default(), done, new.id(), reseal).unwrap();
        }
        drop(store);

        let store = home.start();
        let all_there = |store: &SecretStore| {
            for n in 0..4 {
                assert_eq!(store.value("a", &format!("s{n}")), Some(format!("value {n}")), "{done}");
            }
        };
        all_there(&store);
        assert_eq!(home.keys().0.len(), 2);
        store.put("a", "new", "under the new key");
        store.finish_rotation_at_start();
        assert_eq!(home.keys(), (vec![new.to_hex().to_string()], false));
        assert_eq!(store.key_ids(), [new.id()]);
        all_there(&store);
        drop(store);
        let store = home.start();
        all_there(&store);
        assert_eq!(store.value("a", "new").as_deref(), Some("under the new key"));
    }
}

#[test]
fn a_rotation_that_failed_is_gone_on_with() {
    let home = Home::new();
    let store = home.start();
    store.put("a", "s", "v");
    let file = KeyFile { keys: store.keys().with_first(MasterKey::generate().unwrap()), rotating: true };
    key_file::write(&home.file(), &file).unwrap();
    drop(store);
    let store = home.start();
    let rotation = store.rotate().unwrap();
    assert_eq!(rotation.key_id, file.keys.current().id(), "no third key is made");
    assert_eq!(home.keys().0.len(), 1);
}

#[test]
fn keys_that_the_operator_put_into_the_file_stay_there() {
    let home = Home::new();
    home.start().put("a", "s", "v");
    let mut keys = home.keys().0;
    keys.insert(0, new_key());
    let text = keys.join("\n");
    fs::write(home.file(), &text).unwrap();
    let store = home.start();
    store.finish_rotation_at_start();
    assert_eq!(store.value("a", "s").as_deref(), Some("v"));
    assert_eq!(fs::read_to_string(home.file()).unwrap(), text);
    store.rotate().unwrap();
    let after = home.keys().0;
    assert!(after.len() == 1 && !keys.contains(&after[0]));
}

#[test]
fn a_file_that_was_changed_meanwhile_is_not_overwritten() {
    let home = Home::new();
    let store = home.start();
    store.put("a", "s", "v");
    let text = format!("{}\n{}\n", home.keys().0[0], new_key());
    fs::write(home.file(), &text).unwrap();
    let message = store.rotate().unwrap_err().to_string();
    assert!(message.contains("secrets.key: the file was changed"), "{message}");
    assert_eq!(fs::read_to_string(home.file()).unwrap(), text);
    fs::remove_file(home.file()).unwrap();
    store.rotate().unwrap();
    drop(store);
    assert_eq!(home.start().value("a", "s").as_deref(), Some("v"), "a lost file is written again");
}

#[test]
fn one_rotation_at_a_time() {
    let home = Home::new();
    let store = home.start();
    let under_way = store.rotation.lock();
    assert!(matches!(store.rotate(), Err(SecretsError::Rotating)));
    drop(under_way);
    store.rotate().unwrap();
}

#[test]
fn others_read_and_write_during_rotations() {
    let home = Home::new();
    let store = home.start();
    for n in 0..50 {
        store.put("a", &format!("s{n}"), "0");
    }
    let read_all = || {
        for n in 0..50 {
            store.value("a", &format!("s{n}")).unwrap();
        }
    };
    let stop = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        read_all();
                    }
                })
            })
            .collect();
        let writer = scope.spawn(|| {
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                written += 1;
                store.put("a", &format!("s{}", written % 50), &written.to_string());
            }
            written
        });
        for _ in 0..10 {
            store.rotate().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        writer.join().unwrap()
    });
    assert!(written > 0);
    let newest = store.value("a", &format!("s{}", written % 50));
    assert_eq!(newest, Some(written.to_string()));
    assert_eq!(store.key_ids(), [store.keys().current().id()]);
    assert_eq!(home.keys().0.len(), 1);
}

#[test]
fn a_damaged_secret_is_named_and_keeps_the_old_key() {
    let home = Home::new();
    let store = home.start();
    for secret in ["s1", "s2", "s3"] {
        store.put("a", secret, "v");
    }
    let flip = |_: &str, secret: &str, stored: &crate::registry::secrets::StoredSecret| {
        let mut sealed = stored.sealed.clone();
        sealed.ciphertext[0] ^= 1;
        Ok((secret == "s2").then_some(sealed))
    };
    store.registry.reseal_secrets(&mut Walk::default(), 9, "none", flip).unwrap();
    let message = store.get(&namespace("a"), &name("s2")).unwrap_err().to_string();
    assert!(message.contains("\"s2\" of namespace \"a\" is damaged"), "{message}");

    let message = store.rotate().unwrap_err().to_string();
    assert!(message.contains("damaged secrets (1)") && message.contains("a/s2;"), "{message}");
    assert_eq!(home.keys().0.len(), 2);
    assert_eq!(store.value("a", "s3").as_deref(), Some("v"));
    drop(store);
    let store = home.start();
    store.put("a", "s2", "new");
    store.rotate().unwrap();
    assert_eq!(home.keys().0.len(), 1);
    assert_eq!(store.value("a", "s2").as_deref(), Some("new"));
}

#[test]
fn a_shared_key_file_is_only_read_and_its_keys_are_taken_while_the_node_runs() {
    let home = Home::new();
    let shared = home.dir.path().join("shared.key");
    let hex = |n: &str| n.repeat(32);
    let (old, new) = (hex("0a"), hex("0b"));
    fs::write(&shared, &old).unwrap();
    let home = home
        .with("ORAMA_SECRETS_KEY_FILE", shared.display().to_string())
        .with("ORAMA_DATABASE_PLATFORM_URLS", "http://127.0.0.1:1");
    let store = home.start();
    assert!(!store.makes_keys());
    store.put("a", "s", "value");
    // Another node with the same registry, which does not see the file yet.
    let behind = home.start();
    fs::write(&shared, format!("{new}\n{old}\n")).unwrap();
    let rotation = store.rotate().unwrap();
    assert_eq!((rotation.reencrypted, rotation.unneeded.len()), (1, 1));
    assert_eq!(behind.value("a", "s"), Some("value".to_owned()), "it looks at the file when it lacks a key");
    behind.put("a", "t", "other");
    assert_eq!(store.key_ids(), [&*rotation.key_id], "from then on it encrypts with the new key");
    assert_eq!(fs::read_to_string(&shared).unwrap(), format!("{new}\n{old}\n"));
    fs::write(&shared, &old).unwrap();
    let error = store.reload().unwrap_err().to_string();
    assert!(error.contains("lacks the key") && error.contains(&rotation.key_id), "{error}");
    assert_eq!(store.value("a", "s"), Some("value".to_owned()));
    fs::write(&shared, &new).unwrap();
    store.reload().unwrap();
    assert_eq!(home.start().value("a", "t"), Some("other".to_owned()));
}

#[test]
fn a_secret_under_a_key_of_another_node_is_no_damage() {
    let home = Home::new();
    let store = home.start();
    store.put("a", "s", "value");
    store.replace_keys(MasterKeys::only(MasterKey::generate().unwrap()));
    let error = store.get(&namespace("a"), &SecretName::new("s").unwrap()).err().unwrap().to_string();
    assert!(error.contains("which this node lacks"), "{error}");
}
