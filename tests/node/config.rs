//! What `orama serve --check` says of a configuration, and that docs/CONFIG.md says the same.

use crate::harness::{new_dir, orama};
use crate::process::run;
use orama_server::config::page;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PAGE: &str = "../../docs/CONFIG.md";

/// A config file in a folder of its own, and a home beside it.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn with(text: &str) -> Self {
        let dir = new_dir("config");
        fs::write(dir.join("orama.toml"), text).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn command(&self, variables: &[(&str, &str)], flags: &[&str]) -> Command {
        let mut command = orama(&["serve", "--check", "--config"]);
        command.arg(self.dir.join("orama.toml")).args(flags).envs(variables.iter().copied());
        command.env("HOME", &self.dir);
        command
    }

    /// The report of a configuration that is good or not.
    #[track_caller]
    fn report(&self, code: i32, variables: &[(&str, &str)], flags: &[&str]) -> Value {
        let (stdout, _) = run(code, self.command(variables, &[flags, &["--json"]].concat()));
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[track_caller]
fn key<'r>(report: &'r Value, name: &str) -> &'r Value {
    let keys = report["keys"].as_array().unwrap();
    keys.iter().find(|key| key["key"] == name).unwrap_or_else(|| panic!("{name} is not in {report}"))
}

#[test]
fn the_check_prints_every_key_with_its_value_and_its_origin() {
    let place = Place::with(
        "workers = 2\nheader_timeout_seconds = 7\n\n[cache]\nkind = \"olric\"\naddresses = [\"10.0.0.1:3320\"]\n\
         password_env = \"OLRIC_PASSWORD\"\n\n[[auth.issuers]]\nkeys = \"https://idp.example/jwks\"\nissuer = \"idp\"\n\
         namespaces = \"*\"\n",
    );
    let secret = "0123456789abcdef".repeat(4);
    let variables = [
        ("ORAMA_HEADER_TIMEOUT_SECONDS", "8"),
        ("ORAMA_PUBSUB_KIND", "memory"),
        ("ORAMA_SECRETS_KEY", &secret),
        ("OLRIC_PASSWORD", "s3cret"),
        ("ORAMA_LOG", "warn"),
        ("ORAMA_WORKERS", ""),
    ];
    let report = place.report(0, &variables, &["--listen", "127.0.0.1:7"]);
    let file = place.path("orama.toml");
    for (name, value, kind, rest) in [
        ("listen", "\"127.0.0.1:7\"", "flag", None),
        ("workers", "2", "file", Some(("line", Value::from(1)))),
        (
            "header_timeout_seconds",
            "8",
            "variable",
            Some(("variable", "ORAMA_HEADER_TIMEOUT_SECONDS".into())),
        ),
        ("body_timeout_seconds", "30", "default", None),
        ("rates.requests_per_key", "\"1000000/s burst 2000000\"", "default", None),
        ("log.filter", "\"warn\"", "variable", Some(("variable", "ORAMA_LOG".into()))),
        ("cache.kind", "\"olric\"", "file", Some(("file", file.into()))),
        ("cache.addresses", "[\"10.0.0.1:3320\"]", "file", Some(("line", Value::from(6)))),
        ("cache.password_env", "\"OLRIC_PASSWORD\"", "file", Some(("line", Value::from(7)))),
        ("pubsub.kind", "\"memory\"", "variable", Some(("variable", "ORAMA_PUBSUB_KIND".into()))),
        ("blobs.kind", "\"local\"", "default", None),
        ("ORAMA_SECRETS_KEY", "(set)", "variable", None),
    ] {
        let found = key(&report, name);
        assert_eq!((&found["value"], &found["origin"]["kind"]), (&value.into(), &kind.into()), "{found}");
        if let Some((field, expected)) = rest {
            assert_eq!(found["origin"][field], expected, "{found}");
        }
    }
    let home = key(&report, "home");
    assert_eq!(
        (&home["value"], &home["origin"]["kind"]),
        (&format!("{:?}", place.path(".orama")).into(), &"default".into())
    );
    let issuer = key(&report, "auth.issuers[1]");
    assert!(issuer["value"].as_str().unwrap().contains("idp.example"), "{issuer}");
    assert_eq!((&issuer["origin"]["line"], &issuer["reloads"]), (&9.into(), &true.into()));
    for secret in [&secret, "s3cret"] {
        assert!(!report.to_string().contains(secret), "{report}");
    }

    // The same for people; nothing is made.
    let (stdout, stderr) = run(0, place.command(&variables, &[]));
    let line = |name: &str| stdout.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
    let words = |name: &str| line(name).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(line("workers").ends_with("orama.toml:1"), "{stdout}");
    assert_eq!(
        words("header_timeout_seconds"),
        "header_timeout_seconds 8 variable ORAMA_HEADER_TIMEOUT_SECONDS"
    );
    assert_eq!(words("idle_timeout_seconds"), "idle_timeout_seconds 75 default");
    assert!(!stdout.contains("s3cret") && !stdout.contains(&secret), "{stdout}");
    assert_eq!(stderr, "");
    assert!(!Path::new(&place.path(".orama")).exists());
}

#[test]
fn the_check_finds_files_that_a_node_could_not_use() {
    let place = Place::with("[auth]\njwt = \"KEYS\"\n[secrets]\nkey_file = \"MASTER\"\n");
    let text = fs::read_to_string(place.dir.join("orama.toml")).unwrap();
    let text = text.replace("KEYS", &place.path("keys.json")).replace("MASTER", &place.path("master.key"));
    fs::write(place.dir.join("orama.toml"), text).unwrap();
    let check = |named: &[&[&str]]| {
        let code = i32::from(!named.is_empty());
        let findings = place.report(code, &[], &[])["findings"].clone();
        let findings = findings.as_array().unwrap();
        assert_eq!(findings.len(), named.len(), "{findings:?}");
        for (finding, words) in findings.iter().zip(named) {
            let finding = finding.as_str().unwrap();
            assert!(words.iter().all(|word| finding.contains(word)), "{words:?}: {finding}");
        }
        let (_, stderr) = run(code, place.command(&[], &[]));
        assert_eq!(
            stderr.lines().filter(|line| line.starts_with("error: ")).count(),
            named.len() + named.len().min(1)
        );
    };
    check(&[
        &["auth.jwt", "keys.json", "No such file"],
        &["secrets.key_file", "master.key", "does not exist"],
    ]);
    fs::write(place.path("keys.json"), "{\"keys\": 1}").unwrap();
    fs::write(place.path("master.key"), "s3cret").unwrap();
    check(&[&["auth.jwt", "keys.json"], &["secrets.key_file", "master.key", "64 hex digits"]]);
    fs::copy(
        orama_test_support::guests::dir().join("../fixtures/jwt/ed25519.pub.pem"),
        place.path("keys.json"),
    )
    .unwrap();
    fs::write(place.path("master.key"), "0123456789abcdef".repeat(4)).unwrap();
    check(&[]);
    // A home that is a file, and one with somebody else's credentials file.
    fs::write(place.path(".orama"), "").unwrap();
    check(&[&["home", ".orama", "not a folder"]]);
    fs::remove_file(place.path(".orama")).unwrap();
    fs::create_dir(place.path(".orama")).unwrap();
    fs::write(place.path(".orama/credentials.json"), "mine").unwrap();
    check(&[&["home", "credentials.json"]]);
}

#[test]
fn a_misspelt_variable_is_told_with_the_name_that_was_meant() {
    let place = Place::with(
        "[cache]\nkind = \"olric\"\naddresses = [\"a:1\"]\npassword_env = \"ORAMA_OLRIC_PASSWORD\"\n",
    );
    let variables = [
        ("ORAMA_LISTN", "127.0.0.1:1"),
        ("ORAMA_RATES_DEPLOYS_PER_KEYS", "1/s"),
        ("ORAMA_XQZ", "s3cret"),
        // These are known: of the command line, of the configuration, of tests.
        ("ORAMA_API_KEY", "k"),
        ("ORAMA_OLRIC_PASSWORD", "p"),
        ("ORAMA_TOOLS", "/t"),
    ];
    let (_, stderr) = run(0, place.command(&variables, &[]));
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(
        lines,
        [
            "warning: nothing reads the variable ORAMA_LISTN; did you mean ORAMA_LISTEN?",
            "warning: nothing reads the variable ORAMA_RATES_DEPLOYS_PER_KEYS; did you mean ORAMA_RATES_DEPLOYS_PER_KEY?",
            "warning: nothing reads the variable ORAMA_XQZ",
        ]
    );
    let report = place.report(0, &variables, &[]);
    assert_eq!(report["warnings"].as_array().unwrap().len(), 3, "{report}");
}

/// Every variable that the code or the pages name is known, so that no user of one is warned.
#[test]
fn variables_that_the_product_names_are_known() {
    let mut names = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    for folder in ["cli/src", "server", "docs", "dist"] {
        collect(&root.join(folder), &mut names);
    }
    names.sort();
    names.dedup();
    assert!(names.len() > 10, "{names:?}");
    let place = Place::with("");
    let mut command = place.command(&[], &[]);
    // Empty counts as unset, so that no value has to be good.
    command.envs(names.iter().map(|name| (name, "")));
    let (_, stderr) = run(0, command);
    assert_eq!(stderr, "", "unknown variables are named in the code or in pages");
}

/// The names of variables in the files below a folder.
fn collect(folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tests"));
        if is_test {
            continue;
        }
        if path.is_dir() {
            collect(&path, names);
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for rest in text.split("ORAMA_").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
            // What ends so is the beginning of several.
            if !name.is_empty() && !name.ends_with('_') {
                names.push(format!("ORAMA_{name}"));
            }
        }
    }
}

#[test]
fn the_page_of_the_config_is_made_from_its_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if std::env::var_os("ORAMA_WRITE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/CONFIG.md is not what the keys say; run this test with ORAMA_WRITE_DOCS=1"
    );
    // And it has every key that a report has.
    let report = Place::with("").report(0, &[], &[]);
    for key in report["keys"].as_array().unwrap() {
        let name = key["key"].as_str().unwrap();
        assert!(written.contains(&format!("`{name}`")), "{name}");
    }
}
