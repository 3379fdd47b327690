//! Where keys come from, what a start refuses, rotation and its crashes, and what the disk shows.

use super::*;
use crate::Overrides;
use orama_runtime::services::Secrets;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// A data folder, and what a node that starts on it is told.
struct Home {
    dir: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Home {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.retain(|(name, _)| *name != variable);
        self.variables.push((variable, value.into()));
        self
    }

    fn try_start(&self) -> Result<SecretStore, String> {
        let config = Config::load_with(&Overrides::default(), &|name| {
            let given = self.variables.iter().find(|(given, _)| *given == name);
            given.map(|(_, value)| value.clone()).or_else(|| (name == "HOME").then(|| "/".to_owned()))
        });
        let registry = Registry::open(self.dir.path()).unwrap();
        for name in ["a", "b"] {
            registry.create_namespace(&namespace(name)).unwrap();
        }
        SecretStore::open(&registry, &config.unwrap(), self.dir.path()).map_err(|error| error.to_string())
    }

    fn start(&self) -> SecretStore {
        self.try_start().unwrap()
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join(KEY_FILE)
    }

    /// The keys in the file, as hex, and whether it says that a rotation is under way.
    fn keys(&self) -> (Vec<String>, bool) {
        let file = key_file::read(&self.file()).unwrap().unwrap();
        (file.keys.all().map(|key| key.to_hex().to_string()).collect(), file.rotating)
    }
}

fn namespace(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

fn name(name: &str) -> SecretName {
    SecretName::new(name).unwrap()
}

impl SecretStore {
    fn put(&self, of: &str, secret: &str, value: &str) {
        self.set(&namespace(of), &name(secret), value).unwrap();
    }

    fn value(&self, of: &str, secret: &str) -> Option<String> {
        self.get(&namespace(of), &name(secret)).unwrap().map(|value| value.reveal().to_owned())
    }

    fn key_ids(&self) -> Vec<String> {
        self.registry.secret_key_ids().unwrap().into_iter().map(|(id, _)| id).collect()
    }
}

fn new_key() -> String {
    MasterKey::generate().unwrap().to_hex().to_string()
}

#[test]
fn values_are_kept_for_their_namespace_alone() {
    let home = Home::new();
    let store = home.start();
    store.put("a", "TOKEN", "one");
    store.put("b", "TOKEN", "two");
    store.put("a", "TOKEN", "three");
    store.put("a", "empty", "");
    drop(store);
    let store = home.start();
    assert_eq!(store.value("a", "TOKEN").as_deref(), Some("three"));
    assert_eq!(store.value("b", "TOKEN").as_deref(), Some("two"));
    assert_eq!(store.value("a", "empty").as_deref(), Some(""));
    assert_eq!(store.value("b", "empty"), None);
    assert_eq!(store.names(&namespace("a")).unwrap(), ["TOKEN", "empty"]);
    assert!(store.delete(&namespace("a"), &name("TOKEN")).unwrap());
    assert!(!store.delete(&namespace("a"), &name("TOKEN")).unwrap());
    assert_eq!(store.value("a", "TOKEN"), None);
    assert_eq!(store.value("b", "TOKEN").as_deref(), Some("two"));
    let nobody = store.set(&namespace("nobody"), &name("x"), "x").unwrap_err();
    assert!(matches!(nobody, RegistryError::NoNamespace(_)), "{nobody}");
}

#[test]
fn the_first_start_makes_a_key_that_only_the_owner_can_read() {
    let home = Home::new();
    home.start().put("a", "s", "v");
    let first = fs::read(home.file()).unwrap();
    assert_eq!(fs::metadata(home.file()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(home.start().value("a", "s").as_deref(), Some("v"));
    assert_eq!(fs::read(home.file()).unwrap(), first);
}

#[test]
fn a_start_without_the_right_key_is_refused_and_makes_none() {
    let home = Home::new();
    let store = home.start();
    store.put("a", "s", "v");
    let id = store.key_ids().remove(0);
    drop(store);
    let right = fs::read(home.file()).unwrap();

    fs::remove_file(home.file()).unwrap();
    let message = home.try_start().err().unwrap();
    assert!(message.contains("secrets.key") && message.contains(&id), "{message}");
    assert!(message.contains("stored secrets (1)") && message.contains("backup"), "{message}");
    assert!(!home.file().exists());

    let wrong = new_key();
    fs::write(home.file(), &wrong).unwrap();
    let message = home.try_start().err().unwrap();
    assert!(message.contains("secrets.key") && message.contains(&id), "{message}");
    assert!(!message.contains(&wrong[..8]), "{message}");
    assert_eq!(fs::read_to_string(home.file()).unwrap(), wrong);

    for (content, expected) in [
        (&b""[..], "it holds no key"),
        (b"# only a comment\n", "it holds no key"),
        (b"s3cret", "key 1 is not 64 hex digits"),
        (b"\xff\xfe", "it is not text"),
    ] {
        fs::write(home.file(), content).unwrap();
        let message = home.try_start().err().unwrap();
        assert!(message.contains("secrets.key") && message.contains(expected), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
    }
    fs::write(home.file(), right).unwrap();
    assert_eq!(home.start().value("a", "s").as_deref(), Some("v"));
}

#[test]
fn keys_of_the_variable_win_and_the_others_only_decrypt() {
    let (one, two) = (new_key(), new_key());
    let home = Home::new().with(KEY_VARIABLE, &one);
    home.start().put("a", "s", "v");
    assert!(!home.file().exists());

    let home = home.with(KEY_VARIABLE, &two);
    let message = home.try_start().err().unwrap();
    assert!(message.contains(KEY_VARIABLE) && !message.contains(&one[..8]), "{message}");
    assert!(!message.contains(&two[..8]), "{message}");

    let home = home.with(KEY_VARIABLE, format!("{two}, {one}"));
    let store = home.start();
    let old = store.key_ids();
    assert_eq!(store.value("a", "s").as_deref(), Some("v"));
    store.put("b", "t", "w");
    let rotation = store.rotate().unwrap();
    assert_eq!((rotation.reencrypted, &rotation.unneeded), (1, &old));
    assert_eq!(store.key_ids(), [rotation.key_id]);
    assert_eq!(store.rotate().unwrap().reencrypted, 0);
    drop(store);

    let store = home.with(KEY_VARIABLE, two).start();
    assert_eq!((store.value("a", "s").as_deref(), store.value("b", "t").as_deref()), (Some("v"), Some("w")));
}

#[test]
fn a_file_that_the_config_names_must_be_there_and_a_link_stays_one() {
    let home = Home::new();
    let (link, file) = (home.dir.path().join("link"), home.dir.path().join("mounted"));
    let home = home.with("ORAMA_SECRETS_KEY_FILE", link.display().to_string());
    let message = home.try_start().err().unwrap();
    assert!(message.contains("link: there is no such file"), "{message}");
    fs::write(&file, format!("# ours\n{}\n\n", new_key())).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let store = home.start();
    store.put("a", "s", "v");
    store.rotate().unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    drop(store);
    assert_eq!(home.start().value("a", "s").as_deref(), Some("v"));
    assert!(!home.file().exists());
}

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
    assert!(message.contains("secrets.key: it was changed"), "{message}");
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
    let under_way = store.rotation.lock().unwrap();
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
    let stop = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        for n in 0..50 {
                            store.value("a", &format!("s{n}")).unwrap();
                        }
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
fn the_disk_holds_no_value() {
    let value = "a value that is easily found s3cret-9f8e7d";
    let home = Home::new();
    let store = home.start();
    store.put("a", "s", value);
    store.put("a", "s", &format!("{value} again"));
    store.rotate().unwrap();
    store.put("b", "deleted", value);
    store.delete(&namespace("b"), &name("deleted")).unwrap();
    let (mut files, mut names) = (0, Vec::new());
    for entry in fs::read_dir(home.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let found = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
        assert!(!found(b"s3cret-9f8e7d"), "{}", path.display());
        files += 1;
        names.push((path.display().to_string(), found(b"secrets_by_key")));
    }
    assert!(files >= 3 && names.iter().any(|(_, found)| *found), "the database was looked at: {names:?}");
}

#[test]
fn a_namespace_has_a_bounded_number_of_secrets() {
    let home = Home::new();
    let store = home.start();
    let sealed = store.keys().current().seal(Place { namespace: "a", name: "s0", version: 1 }, "v").unwrap();
    for n in 0..orama_runtime::limits::SECRETS_MAX {
        let sealed = sealed.clone();
        store.registry.set_secret(&namespace("a"), &name(&format!("s{n}")), |_| Ok(sealed)).unwrap();
    }
    let message = store.set(&namespace("a"), &name("more"), "v").unwrap_err().to_string();
    assert!(message.contains("namespace \"a\" has 1000 secrets"), "{message}");
    store.put("a", "s7", "replaced");
    store.put("b", "more", "v");
    store.delete(&namespace("a"), &name("s8")).unwrap();
    store.put("a", "more", "v");
}

#[tokio::test]
async fn a_core_remembers_until_something_changes() {
    let home = Home::new();
    let store = Arc::new(home.start());
    store.put("a", "s", "one");
    let core = CoreSecrets::new(Arc::clone(&store), tokio::runtime::Handle::current());
    let (a, b) = (namespace("a"), namespace("b"));
    let first = core.get(&a, "s").await.unwrap().unwrap();
    assert_eq!(first.reveal(), "one");
    assert!(core.get(&a, "missing").await.unwrap().is_none());
    assert!(core.get(&a, "not a name").await.unwrap().is_none());
    assert!(core.get(&b, "s").await.unwrap().is_none());
    assert!(Arc::ptr_eq(&first, &core.get(&a, "s").await.unwrap().unwrap()));
    // What is remembered is there when it is first asked for.
    for (of, secret) in [(&a, "s"), (&a, "missing"), (&b, "s")] {
        let mut answer = core.get(of, secret);
        let answer = std::future::poll_fn(|cx| std::task::Poll::Ready(answer.as_mut().poll(cx))).await;
        assert!(answer.is_ready(), "{secret}");
    }
    store.put("a", "missing", "here");
    assert_eq!(core.get(&a, "missing").await.unwrap().unwrap().reveal(), "here");
    store.put("a", "s", "two");
    assert_eq!(core.get(&a, "s").await.unwrap().unwrap().reveal(), "two");
    store.rotate().unwrap();
    assert_eq!(core.get(&a, "s").await.unwrap().unwrap().reveal(), "two");
    store.delete(&a, &name("s")).unwrap();
    assert!(core.get(&a, "s").await.unwrap().is_none());
}
