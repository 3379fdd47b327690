//! What a configuration accepts, what wins, and what a refused one says.

use super::keys::keys;
use super::*;
use crate::shares::{OfScopes, Rates, TrustedProxies};
use orama_platform::settings::KeySource;
use orama_runtime::names::Namespace;
use orama_runtime::web::CorsFields;
use orama_store::settings::{IpfsAt, NamespaceDatabase, OlricAt, Password, RqliteAt};
use std::collections::HashMap;
use std::path::Path;

mod shown;

fn load(file: Option<&str>, variables: &[(&str, &str)], overrides: Overrides) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orama.toml");
    let config_file = file.map(|text| {
        std::fs::write(&path, text).unwrap();
        path.clone()
    });
    let variables: HashMap<_, _> = variables.iter().copied().chain([("HOME", "/home/u")]).collect();
    let overrides = Overrides { config_file, ..overrides };
    Config::load_with(&overrides, &|name| variables.get(name).map(ToString::to_string))
        .map_err(|e| e.to_string().replace(&path.display().to_string(), "orama.toml"))
}

#[test]
fn nothing_said_gives_the_documented_defaults() {
    let config = load(None, &[], Overrides::default()).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:6001");
    assert_eq!(config.home, Path::new("/home/u/.orama"));
    assert_eq!(config.workers, std::thread::available_parallelism().unwrap());
    assert_eq!(config.drain_grace, Duration::from_secs(30));
    assert_eq!((config.io_driver, config.cpu_level.as_str()), (IoDriver::Auto, "native"));
    assert_eq!(
        (config.module_cache_mb, config.code_cache_mb, config.idle_timeout.as_secs()),
        (1024, 256, 75)
    );
}

/// Every key but those of backends and issuers, each in a line.
const EVERY_KEY: &str = "listen = \"[::1]:0\"\nhome = \"/srv/orama\"\nworkers = 3\nio_driver = \"epoll\"\n\
                instance_slots = 0x40\ncpu_level = \"x86-64-v3\"\nmodule_cache_mb = 99\nparked_memory_mb = 44\n\
                code_cache_mb = 98\ncompile_memory_mb = 512\ncompile_seconds = 99\ndisk_reserve_mb = 97\nsend_timeout_seconds = 7\n\
                guest_memory_mb = 101\nbody_memory_mb = 201\nanswer_memory_mb = 102\nconnections = 103\nwebsockets = 104\n\
                namespace_share_percent = 60\ntrusted_proxies = [\"10.0.0.1\"]\ndrain_grace_seconds = 1\n\
                header_timeout_seconds = 2\nbody_timeout_seconds = 3\nidle_timeout_seconds = 4\ncache.memory_mb = 77\ncache.near_seconds = 6\n\
                egress.allow = [\"10.0.0.0/8\", \"push.internal:90\"]\negress.deny = [\"10.1.0.0/16\"]\nsecrets.key_file = \"/key\"\n\
                cluster = \"blue\"\naudit.keep_days = 8\nmetrics_listen = \"127.0.0.1:0\"\nlog.filter = \"warn\"\n\
                log.format = \"json\"\nlog.access = true\n\
                cors.origins = [\"https://b.example\"]\ncors.methods = [\"GET\"]\ncors.headers = [\"x-a\"]\n\
                cors.credentials = true\ncors.max_age = 7\n\
                [auth]\njwt = \"/jwks.json\"\n\
                [websocket]\nallowed_origins = [\"https://a.example\"]\nping_seconds = 5\n\
                [telemetry]\nendpoint = \"http://127.0.0.1:4318\"\nsample = 0.5\nmetrics_seconds = 9\n\
                [rates]\nrequests_per_namespace = \"1/s\"\nrequests_per_key = \"2/s\"\n\
                requests_per_address = \"off\"\ndeploys_per_namespace = \"3/min\"\n\
                deploys_per_key = \"4/h burst 9\"\npublishes_per_namespace = \"5/s\"\n\
                publishes_per_key = \"6/s\"\nfailed_credentials_per_address = \"7/s\"\n";

#[test]
fn every_key_of_the_file_is_taken() {
    let lines = EVERY_KEY.lines().filter(|line| line.contains('=')).count();
    assert_eq!(lines, keys().count(), "the test covers every key");
    let config = load(Some(EVERY_KEY), &[], Overrides::default()).unwrap();
    let scopes = |namespace: &str, key: Option<&str>| OfScopes {
        namespace: Some(namespace.parse().unwrap()),
        key: key.map(|rate| rate.parse().unwrap()),
        address: None,
    };
    let expected = Config {
        listen: "[::1]:0".parse().unwrap(),
        metrics_listen: "127.0.0.1:0".parse().ok(),
        home: "/srv/orama".into(),
        workers: NonZeroUsize::new(3).unwrap(),
        io_driver: IoDriver::Epoll,
        instance_slots: 64,
        cpu_level: "x86-64-v3".into(),
        module_cache_mb: 99,
        parked_memory_mb: 44,
        code_cache_mb: 98,
        compile_memory_mb: 512,
        compile_time: Duration::from_secs(99),
        effort: Effort::Full,
        disk_reserve_mb: 97,
        audit_keep_days: 8,
        drain_grace: Duration::from_secs(1),
        header_timeout: Duration::from_secs(2),
        body_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(4),
        send_timeout: Duration::from_secs(7),
        shares: ShareSettings {
            guest_memory_mb: Some(101),
            body_memory_mb: 201,
            answer_memory_mb: 102,
            connections: 103,
            websockets: 104,
            namespace_percent: 60,
            trusted_proxies: TrustedProxies::parse(&["10.0.0.1".to_owned()]).unwrap(),
            rates: Rates {
                requests: scopes("1/s", Some("2/s")),
                deploys: scopes("3/min", Some("4/h burst 9")),
                publishes: scopes("5/s", Some("6/s")),
                failed_credentials: OfScopes { address: "7/s".parse().ok(), ..OfScopes::default() },
            },
        },
        cache_memory_mb: 77,
        cache_near: Duration::from_secs(6),
        egress_allow: vec!["10.0.0.0/8".parse().unwrap(), "push.internal:90".parse().unwrap()],
        egress_deny: vec!["10.1.0.0/16".parse().unwrap()],
        secrets_keys: None,
        secrets_key_file: Some("/key".into()),
        issuers: vec![TokenIssuer::file("/jwks.json".into())],
        websocket_origins: vec!["https://a.example".into()],
        cors: Some(CorsFields {
            origins: vec!["https://b.example".into()],
            methods: vec!["GET".into()],
            headers: vec!["x-a".into()],
            credentials: true,
            max_age: 7,
        }),
        websocket_ping: Duration::from_secs(5),
        telemetry: TelemetrySettings {
            endpoint: Some("http://127.0.0.1:4318".parse().unwrap()),
            sample: 0.5,
            metrics_every: Duration::from_secs(9),
        },
        log: LogSettings { filter: "warn".into(), format: LogFormat::Json, access: true },
        backends: Backends { cluster: "blue".into(), ..Backends::default() },
    };
    assert_eq!(config, expected);
}

#[test]
fn issuers_of_tokens_are_a_list() {
    let file = "[auth]\njwt = \"/a.pem\"\n\n[[auth.issuers]]\nkeys = \"https://idp.example/jwks\"\n\
                issuer = \"https://idp.example\"\naudience = \"orama\"\nnamespaces = [\"a\", \"b\"]\n\
                [[auth.issuers]]\nkeys = \"/b.pem\"\nissuer = \"b\"\nnamespaces = \"*\"\n";
    let config = load(Some(file), &[("ORAMA_AUTH_JWT", "/c.pem")], Overrides::default()).unwrap();
    let names = ["a", "b"].map(|name| Namespace::new(name).unwrap());
    let expected = [
        TokenIssuer::file("/c.pem".into()),
        TokenIssuer {
            keys: KeySource::Url("https://idp.example/jwks".parse().unwrap()),
            issuer: Some("https://idp.example".to_owned()),
            audience: Some("orama".to_owned()),
            namespaces: Some(names.into()),
        },
        TokenIssuer { issuer: Some("b".to_owned()), ..TokenIssuer::file("/b.pem".into()) },
    ];
    assert_eq!(config.issuers, expected);
}

#[test]
fn an_issuer_that_is_not_right_is_named_with_its_line() {
    let good = [("keys", "\"/k\""), ("issuer", "\"i\""), ("audience", "\"a\""), ("namespaces", "\"*\"")];
    let with = |field: &str, value: Option<&str>| {
        let lines = good.iter().filter_map(|(name, kept)| {
            let value = if *name == field { value? } else { kept };
            Some(format!("{name} = {value}\n"))
        });
        format!("[[auth.issuers]]\n{}", lines.collect::<String>())
    };
    for (field, line, value, word) in [
        ("keys", 1, None, "is missing"),
        ("keys", 2, Some("1"), "expected a text in quotes, got integer"),
        ("keys", 2, Some("\"\""), "is empty"),
        ("keys", 2, Some("\"http://idp.example/jwks\""), "expected an https URL"),
        ("keys", 2, Some("\"ftp://idp.example/jwks\""), "expected an https URL"),
        ("keys", 2, Some("\"https://u:s3cret@idp.example/\""), "neither user nor password"),
        ("issuer", 1, None, "is missing"),
        ("audience", 4, Some("[]"), "expected a text in quotes, got array"),
        ("namespaces", 1, None, "is missing; expected a list of namespaces"),
        ("namespaces", 5, Some("[]"), "expected a list of namespaces"),
        ("namespaces", 5, Some("\"a\""), "expected a list of namespaces"),
        ("namespaces", 5, Some("[\"../a\"]"), "name"),
    ] {
        let error = load(Some(&with(field, value)), &[], Overrides::default()).unwrap_err();
        let place = format!(":{line}: bad value for `auth.issuers.{field}`: ");
        assert!(error.contains(&place) && error.contains(word), "{field} = {value:?}: {error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    assert!(load(Some(&with("", None)), &[], Overrides::default()).is_ok());
    assert!(load(Some(&with("keys", Some("\"http://127.0.0.1:1/k\""))), &[], Overrides::default()).is_ok());
    for (file, word) in [
        ("auth.issuers = 1", "expected tables"),
        ("auth.issuers = [1]", "expected tables"),
        ("[[auth.issuers]]\nkey = \"x\"", ":2: unknown key `auth.issuers.key`"),
    ] {
        let error = load(Some(file), &[], Overrides::default()).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn the_code_cache_can_be_switched_off_and_is_else_of_some_size() {
    let of = |value: &str| load(Some(&format!("code_cache_mb = {value}")), &[], Overrides::default());
    assert_eq!(of("0").unwrap().code_cache_mb, 0);
    assert_eq!(of("16").unwrap().code_cache_mb, 16);
    let error = of("15").unwrap_err();
    assert!(error.contains("between 16 and 16384 MB, got 15 (0 switches it off)"), "{error}");
}

#[test]
fn a_flag_wins_over_a_variable_and_that_over_the_file() {
    let file = Some("listen = \"127.0.0.1:1\"\nworkers = 1\nhome = \"/file\"");
    let variables = [("ORAMA_LISTEN", "127.0.0.1:2"), ("ORAMA_HOME", "/variable"), ("ORAMA_WORKERS", "")];
    let flags = Overrides { home: Some("/flag".into()), ..Overrides::default() };
    let config = load(file, &variables, flags).unwrap();
    assert_eq!(config.listen.port(), 2);
    assert_eq!(config.home, Path::new("/flag"));
    assert_eq!(config.workers.get(), 1, "an empty variable counts as unset");
}

#[test]
fn the_file_can_be_named_by_a_variable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    std::fs::write(&path, "workers = 2").unwrap();
    let path = path.display().to_string();
    let config = load(None, &[("ORAMA_CONFIG", &path)], Overrides::default()).unwrap();
    assert_eq!(config.workers.get(), 2);
}

#[test]
fn mistakes_name_the_file_the_line_and_the_key() {
    for (file, expected) in [
        (
            "workers = 2\n\nlissten = \"x\"",
            "orama.toml:3: unknown key `lissten`; the keys are listen, metrics_listen, home,",
        ),
        ("[ingress]\nallow = []", "orama.toml:1: unknown key `ingress`"),
        ("\nworkers = 0", "orama.toml:2: bad value for `workers`: workers must be between 1 and 1024"),
        ("workers = \"2\"", "orama.toml:1: bad value for `workers`: expected a whole number without quotes"),
        ("workers = 1.5", "bad value for `workers`: expected a whole number, got 1.5"),
        ("workers = 99999999999999999999", "`workers`: the number 99999999999999999999 is too large"),
        (
            "listen = 6001",
            "orama.toml:1: bad value for `listen`: expected a text in quotes, got the number 6001",
        ),
        (
            "listen = \"localhost\"",
            "expected an IP address and a port, such as 127.0.0.1:6001, got \"localhost\"",
        ),
        (
            "io_driver = \"kqueue\"",
            "`io_driver`: expected \"auto\", \"io_uring\" or \"epoll\", got \"kqueue\"",
        ),
        ("cpu_level = \"i386\"", "orama.toml:1: bad value for `cpu_level`: unknown CPU level \"i386\""),
        ("home = \"\"", "bad value for `home`: the path is empty"),
        ("workers = 1\nworkers = 2", "orama.toml:2: not valid TOML: duplicate key"),
        ("workers = 1\nlisten = ", "orama.toml:2: not valid TOML"),
    ] {
        let message = load(Some(file), &[], Overrides::default()).unwrap_err();
        assert!(message.contains(expected), "{file:?} gave {message:?}, not {expected:?}");
        assert!(!message.contains('\n'), "{message:?} is one line");
    }
}

#[test]
fn a_bad_variable_is_named() {
    let message = load(None, &[("ORAMA_DRAIN_GRACE_SECONDS", "soon")], Overrides::default()).unwrap_err();
    assert!(message.contains("environment variable ORAMA_DRAIN_GRACE_SECONDS"), "{message}");
    assert!(message.contains("`drain_grace_seconds`: expected a whole number, got \"soon\""), "{message}");
}

#[test]
fn mistakes_in_tables_are_told_with_the_whole_key() {
    let told = |file: &str| load(Some(file), &[], Overrides::default()).unwrap_err().to_string();
    for (file, expected) in [
        ("[egress]\n\nallowed = []", ":3: unknown key `egress.allowed`"),
        ("[egres]\nallow = []", ":1: unknown key `egres`"),
        ("listen.port = 1", ":1: bad value for `listen`: expected a text in quotes, got table"),
        ("[egress]\nallow = \"10.0.0.1\"", ":2: bad value for `egress.allow`: expected a list"),
        (
            "[cors]\norigins = [\"a\"]",
            ":2: bad value for `cors.origins`: cors.origins: expected an origin such as",
        ),
        (
            "[cors]\norigins = [\"*\"]\ncredentials = true",
            ":3: bad value for `cors.credentials`: cors.origins: \"*\"",
        ),
        ("[cors]\ncredentials = \"true\"", ":2: bad value for `cors.credentials`: expected true or false"),
        (
            "[cors]\nmax_age = 90000",
            ":2: bad value for `cors.max_age`: cors.max_age must be between 0 and 86400",
        ),
        ("[cors]\nmax_age = 1", "cors.origins must list at least one origin"),
        ("[egress]\ndeny = [\"a b\"]", ":2: bad value for `egress.deny`: \"a b\" is no target"),
        ("egress = { allow = [1] }", "bad value for `egress.allow`: expected texts in the list, got integer"),
        ("egress = 1", ":1: unknown key `egress`"),
    ] {
        let message = told(file);
        assert!(message.contains(expected), "{file}: {message}");
    }
    let variables = [("ORAMA_EGRESS_ALLOW", "10.0.0.1, push.internal")];
    let config = load(None, &variables, Overrides::default()).unwrap();
    assert_eq!(config.egress_allow, ["10.0.0.1", "push.internal"].map(|entry| entry.parse().unwrap()));
    let message = told("[egress]\nallow = [\"10.0.0.1\", \"http://push.internal\"]");
    assert!(
        message.contains(":2: bad value for `egress.allow`: \"http://push.internal\" is no target"),
        "{message}"
    );
}

#[test]
fn keys_of_secrets_come_from_their_variable_and_are_never_shown() {
    let (one, two) = ("0123456789abcdef".repeat(4), "fedcba9876543210".repeat(4));
    let both = format!("{one}, {two}");
    let config = load(None, &[("ORAMA_SECRETS_KEY", &both)], Overrides::default()).unwrap();
    assert_eq!(config.secrets_keys, Some(MasterKeys::parse([&*one, &*two]).unwrap()));
    let shown = format!("{config:?} {config:#?}");
    assert!(!shown.contains("01234567") && !shown.contains("fedcba98"), "{shown}");
    let bad = format!("{one},{}", &two[1..]);
    let message = load(None, &[("ORAMA_SECRETS_KEY", &bad)], Overrides::default()).unwrap_err();
    assert_eq!(
        message,
        "environment variable ORAMA_SECRETS_KEY: key 2 is not 64 hex digits (it has 63 characters)"
    );
    let message = load(Some("secrets.key = \"x\""), &[], Overrides::default()).unwrap_err();
    assert!(message.contains("unknown key `secrets.key`"), "{message}");
}

#[test]
fn every_backend_can_be_servers() {
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "s3cret\n").unwrap();
    let file = format!(
        "[database]\nplatform = {{ kind = \"rqlite\", urls = [\"http://127.0.0.1:24001\", \"https://b.internal\"] }}\n\
         [database.namespaces]\ndefault = {{ kind = \"rqlite\", urls = [\"http://127.0.0.1:24101\"], user = \"orama\", password_env = \"DB_PW\" }}\n\
         local = {{ kind = \"sqlite\" }}\n\
         [cache]\nkind = \"olric\"\naddresses = [\"127.0.0.1:23320\"]\npassword_file = {password:?}\nmemory_mb = 64\n\
         [blobs]\nkind = \"ipfs\"\napi_url = \"http://127.0.0.1:25001\"\n\
         [pubsub]\nkind = \"olric\"\naddresses = [\"127.0.0.1:23320\", \"[::1]:1\"]\n"
    );
    let config = load(Some(&file), &[("DB_PW", "other")], Overrides::default()).unwrap();
    let url = |text: &str| url::Url::parse(text).unwrap();
    let rqlite = |urls: &[&str]| RqliteAt {
        urls: urls.iter().map(|text| url(text)).collect(),
        user: None,
        password: None,
    };
    let default = RqliteAt {
        user: Some("orama".into()),
        password: Some(Password::new("other".into())),
        ..rqlite(&["http://127.0.0.1:24101"])
    };
    let olric = |addresses: &[&str]| OlricAt {
        addresses: addresses.iter().map(ToString::to_string).collect(),
        password: None,
    };
    let expected = Backends {
        cluster: "orama".into(),
        platform: Some(rqlite(&["http://127.0.0.1:24001", "https://b.internal"])),
        namespaces: [
            (Namespace::new("default").unwrap(), NamespaceDatabase::Rqlite(default)),
            (Namespace::new("local").unwrap(), NamespaceDatabase::Sqlite),
        ]
        .into(),
        cache: Some(OlricAt {
            password: Some(Password::new("s3cret".into())),
            ..olric(&["127.0.0.1:23320"])
        }),
        pubsub: Some(olric(&["127.0.0.1:23320", "[::1]:1"])),
        blobs: Some(IpfsAt { api_url: url("http://127.0.0.1:25001") }),
    };
    assert_eq!(config.backends, expected);
    assert_eq!(config.cache_memory_mb, 64);
    assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
}

#[test]
fn variables_choose_backends_too() {
    let variables = [
        ("ORAMA_DATABASE_PLATFORM_KIND", "rqlite"),
        ("ORAMA_DATABASE_PLATFORM_URLS", "http://a:1, http://b:2"),
        ("ORAMA_CACHE_KIND", "olric"),
        ("ORAMA_CACHE_ADDRESSES", "a:1"),
    ];
    let config = load(Some("[cache]\nkind = \"memory\"\n"), &variables, Overrides::default()).unwrap();
    assert_eq!(config.backends.platform.unwrap().urls.len(), 2);
    assert_eq!(config.backends.cache.unwrap().addresses, ["a:1"]);
}

#[test]
fn what_is_wrong_with_a_backend_is_told_by_its_key() {
    for (file, message) in [
        (
            "[cache]\nkind = \"redis\"",
            "orama.toml:2: bad value for `cache.kind`: expected \"memory\" or \"olric\", got \"redis\"",
        ),
        ("[cache]\nkind = \"olric\"", "orama.toml:2: bad value for `cache.addresses`: is missing"),
        (
            "[cache]\nkind = \"olric\"\naddresses = []",
            "orama.toml:3: bad value for `cache.addresses`: is missing",
        ),
        ("[cache]\nkind = \"olric\"\naddresses = [\"a\"]", "expected a host and a port"),
        (
            "[cache]\nkind = \"olric\"\naddresses = [\"u:p4ss@a:1\"]",
            "orama.toml:3: bad value for `cache.addresses`: a host and a port without user",
        ),
        (
            "[cache]\naddresses = [\"a:1\"]",
            "orama.toml:2: bad value for `cache.addresses`: only where `cache.kind` is \"olric\"",
        ),
        ("[cache]\nport = 1", "unknown key `cache.port`"),
        ("[blobs]\nkind = \"ipfs\"", "`blobs.api_url`: is missing"),
        (
            "[blobs]\nkind = \"ipfs\"\napi_url = \"ftp://a\"",
            "orama.toml:3: bad value for `blobs.api_url`: expected http or https",
        ),
        ("[blobs]\nkind = \"ipfs\"\napi_url = \"http://u:p4ss@a\"", "without user and password"),
        ("[blobs]\nkind = \"ipfs\"\napi_url = \"http://a/api\"", "without path"),
        (
            "[database]\nplatform = { kind = \"rqlite\", urls = [\"http://a:1\"], user = \"u\" }",
            "orama.toml:2: bad value for `database.platform.user`: a user needs a password",
        ),
        (
            "[database]\nplatform = { kind = \"rqlite\", urls = [\"http://a:1\"], password_env = \"X\" }",
            "the variable X is not set",
        ),
        (
            "[database]\nplatform = { kind = \"rqlite\", urls = [\"http://a:1\"], user = \"u\", password_file = \"/no\" }",
            "`database.platform.password_file`: cannot read /no",
        ),
        ("[database]\nplatform = \"rqlite\"", "unknown key `database.platform`"),
        (
            "[database.namespaces]\n\"a b\" = { kind = \"sqlite\" }",
            "orama.toml:2: bad value for `database.namespaces.a b.kind`: the namespace's name",
        ),
        (
            "[database.namespaces]\na = { kind = \"rqlite\", urls = [\"http://a:1\"] }\nb = { kind = \"rqlite\", urls = [\"http://a:1/\"] }",
            "`database.namespaces.b.urls`: http://a:1/ is that of database.namespaces.a already",
        ),
        (
            "[database]\nplatform = { kind = \"rqlite\", urls = [\"http://a:1\"] }\n[database.namespaces]\na = { kind = \"rqlite\", urls = [\"http://a:1\"] }",
            "is that of database.platform already",
        ),
        (
            "[database.namespaces]\na = { kind = \"rqlite\", uris = [] }",
            "unknown key `database.namespaces.a.uris`",
        ),
        ("cluster = \"Not a name\"", "orama.toml:1: bad value for `cluster`"),
    ] {
        let error = load(Some(file), &[], Overrides::default()).unwrap_err();
        assert!(error.contains(message), "{file}\n{error}");
        assert!(!error.contains("p4ss"), "{error}");
    }
}
