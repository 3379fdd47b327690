//! Where keys come from, what a start refuses, what a core remembers, and what the disk shows.

mod rotation;

use super::*;
use crate::settings::Places;
use orama_runtime::services::Secrets;
use orama_store::settings::{Backends, RqliteAt};
use std::fs;
use std::os::unix::fs::PermissionsExt;

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
        let given = |name| self.variables.iter().find(|(given, _)| *given == name).map(|(_, value)| value);
        let keys =
            given(KEY_VARIABLE).map(|value| MasterKeys::parse(value.split(',').map(str::trim)).unwrap());
        let places = Places {
            home: "/".into(),
            backends: Backends {
                platform: given("ORAMA_DATABASE_PLATFORM_URLS").map(|url| {
                    let urls = vec![url.parse().unwrap()];
                    RqliteAt { urls, user: None, password: None }
                }),
                ..Backends::default()
            },
            secrets_keys: keys,
            secrets_key_file: given("ORAMA_SECRETS_KEY_FILE").map(PathBuf::from),
        };
        let registry = Registry::open(self.dir.path()).unwrap();
        for name in ["a", "b"] {
            registry.create_namespace(&namespace(name)).unwrap();
        }
        SecretStore::open(&registry, &places, self.dir.path()).map_err(|error| error.to_string())
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
        (&b""[..], "it has no key"),
        (b"# only a comment\n", "it has no key"),
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
    assert!(message.contains("link: the configured file does not exist"), "{message}");
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
    for n in 0..crate::limits::SECRETS_MAX {
        let sealed = sealed.clone();
        store.registry.set_secret(&namespace("a"), &name(&format!("s{n}")), |_| Ok(sealed.clone())).unwrap();
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
