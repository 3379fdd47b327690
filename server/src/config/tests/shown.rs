//! What a configuration shows of itself: values, bounds, what differs from another one, and a file that is not there.

use super::*;
use crate::config::given::Given;
use crate::config::key::Takes;

/// The bounds of a key are those of its setting, and so is its default. What a configuration shows can be said in a file again
/// and means the same.
#[test]
fn a_key_shows_what_it_was_given() {
    let mut config = Config::defaults();
    for key in keys() {
        if let Takes::Number(setting, _) | Takes::Seconds(setting, _) = &key.takes {
            assert_eq!(key.value(&mut config), Some(setting.default.to_string()), "{}", key.name);
            for (value, fits) in [(setting.min, true), (setting.max, true), (setting.max + 1, false)] {
                let given = Given::Integer(value.into());
                assert_eq!(key.set(&mut config.clone(), &given).is_ok(), fits, "{} = {value}", key.name);
            }
        }
        assert!(key.about.ends_with('.') && !key.about.contains('\n'), "{}", key.about);
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("every.toml");
    std::fs::write(&file, EVERY_KEY).unwrap();
    let read = |file: &Path| {
        let overrides = Overrides { config_file: Some(file.to_owned()), ..Overrides::default() };
        Loaded::read_with(&overrides, &|_| None).unwrap()
    };
    let first = read(&file);
    let keys: Vec<_> = keys().map(|key| key.name).collect();
    let shown = first.entries().into_iter().filter(|entry| keys.contains(&entry.key.as_str()));
    let text: String = shown
        .inspect(|entry| assert!(matches!(entry.origin, Some(Place::File(..))), "{entry:?}"))
        .map(|entry| format!("{} = {}\n", entry.key, entry.value.unwrap()))
        .collect();
    std::fs::write(&file, text).unwrap();
    let second = read(&file);
    assert_eq!(second.config, first.config);
    assert_eq!(first.needs_restart(&second), Vec::<String>::new());
}

#[test]
fn a_restart_is_needed_for_what_a_reload_does_not_take_over() {
    let read = |variables: &[(&str, &str)]| {
        let variables: HashMap<_, _> = variables.iter().copied().chain([("HOME", "/home/u")]).collect();
        Loaded::read_with(&Overrides::default(), &|name| variables.get(name).map(ToString::to_string))
            .unwrap()
    };
    let (before, after) = (
        read(&[("ORAMA_CACHE_KIND", "memory")]),
        read(&[
            ("ORAMA_LOG", "debug"),
            ("ORAMA_LOG_ACCESS", "true"),
            ("ORAMA_AUTH_JWT", "/k"),
            ("ORAMA_CONNECTIONS", "77"),
            ("ORAMA_CACHE_KIND", "olric"),
            ("ORAMA_CACHE_ADDRESSES", "a:1"),
        ]),
    );
    assert_eq!(before.needs_restart(&after), ["cache.addresses", "cache.kind", "connections"]);
    assert_eq!(before.needs_restart(&before), Vec::<String>::new());
}

#[test]
fn a_missing_file_is_an_error() {
    let overrides = Overrides { config_file: Some("/no/such.toml".into()), ..Overrides::default() };
    let message = Config::load_with(&overrides, &|_| None).unwrap_err().to_string();
    assert!(message.contains("/no/such.toml"), "{message}");
}
