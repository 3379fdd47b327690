//! Tests of which manifests are accepted, and of the place that each error names.

use super::*;

fn good(text: &str) -> Manifest {
    parse(text).unwrap_or_else(|error| panic!("{text:?} was refused: {error}"))
}

#[test]
fn a_missing_key_has_its_default() {
    let manifest = good("name: hello\n");
    assert_eq!(manifest.name.as_str(), "hello");
    assert_eq!(
        (
            manifest.public,
            manifest.memory_mb,
            manifest.timeout_seconds,
            manifest.retry_count,
            manifest.retry_delay_seconds
        ),
        (false, 64, 30, 0, 5)
    );
    assert_eq!((manifest.concurrency, manifest.keep_versions), (0, 0));
    assert_eq!(manifest.web, WebSettings::default());
    assert!(manifest.env.is_empty());
}

#[test]
fn every_key_is_read() {
    let manifest = good(
        "name: my-function       # Required.\npublic: true\nmemory: 256\ntimeout: 300\n\
         retry:\n  count: 5\n  delay: 0\nconcurrency: 2\nkeep_versions: 3\nenv:\n  MY_VAR: \"value\"\n  PORT: 8080\n  VERSION: 1.10\n  ON: true\n  EMPTY: ''\n",
    );
    assert_eq!(
        (
            manifest.public,
            manifest.memory_mb,
            manifest.timeout_seconds,
            manifest.retry_count,
            manifest.retry_delay_seconds
        ),
        (true, 256, 300, 5, 0)
    );
    assert_eq!((manifest.concurrency, manifest.keep_versions), (2, 3));
    let env: Vec<_> = manifest.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        env,
        [("EMPTY", ""), ("MY_VAR", "value"), ("ON", "true"), ("PORT", "8080"), ("VERSION", "1.10")]
    );
}

#[test]
fn how_the_web_reaches_it_is_read() {
    let manifest = good(
        "name: api\ninternal: true\nmax_body: 32\ncors:\n  origins: [\"https://App.example\"]\n  methods: [GET]\n  \
         headers:\n    - x-one\n  credentials: true\n  max_age: 5\n",
    );
    assert_eq!((manifest.web.is_internal, manifest.web.max_body_mb), (true, 32));
    let cors = manifest.web.cors.unwrap();
    assert_eq!(
        (cors.origins(), cors.methods()),
        (&["https://app.example".to_owned()][..], &["GET".to_owned()][..])
    );
    assert_eq!(
        (cors.headers(), cors.credentials(), cors.max_age_seconds()),
        (&["x-one".to_owned()][..], true, 5)
    );
    assert_eq!(good("name: api\ncors:\n").web.cors, None);
}

#[test]
fn sections_whose_lines_are_all_commented_out_are_empty() {
    let manifest = good("---\nname: hello\nretry:\n#  count: 1\nenv:\n#  A: b\n");
    assert_eq!(manifest, good("{name: 'hello'}"));
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_fine() {
    assert_eq!(good("\u{feff}name: hello\r\nmemory: 8\r\n").memory_mb, 8);
}

#[test]
fn each_error_names_its_line_and_column() {
    let many: String = (0..=limits::ENV_MAX_ENTRIES).map(|i| format!("  V{i}: x\n")).collect();
    let cases = [
        ("", 1, 1, "\"name\" is missing"),
        ("# nothing\n", 1, 1, "\"name\" is missing"),
        ("memory: 64\n", 1, 1, "\"name\" is missing"),
        ("name: hello\nmemroy: 64\n", 2, 1, "unknown key \"memroy\""),
        ("name: hello\nretry:\n  times: 3\n", 3, 3, "unknown key \"times\""),
        ("name: hello\nmemory: 64\n\nmemory: 65\n", 4, 1, "the first one is in line 2"),
        ("name: hello\nenv:\n  A: 1\n  A: 2\n", 4, 3, "the first one is in line 3"),
        ("name: hello\nconcurrency: -1\n", 2, 14, "between 0 and 10000 invocations, got -1"),
        ("name: hello\nkeep_versions: all\n", 2, 16, "must be a whole number of versions, found \"all\""),
        ("name: hello\npublic: true\ninternal: true\n", 3, 1, "cannot be internal and public"),
        ("name: hello\nmax_body: 33\n", 2, 11, "max_body must be between 1 and 32 MB, got 33"),
        ("name: hello\ncors: yes\n", 2, 7, "cors must be a mapping"),
        ("name: hello\ncors:\n  origin: [a]\n", 3, 3, "the keys are origins, methods"),
        ("name: hello\ncors:\n  origins: https://a.b\n", 3, 12, "cors.origins must be a list of texts"),
        ("name: hello\ncors:\n  origins: [[a]]\n", 3, 13, "cors.origins must be a list of texts"),
        ("name: hello\ncors:\n  origins: [app]\n", 3, 3, "such as https://app.example, or *, got \"app\""),
        ("name: hello\ncors:\n  max_age: 90000\n", 3, 12, "between 0 and 86400 seconds"),
        ("name: 9lives\n", 1, 7, "must start with a letter"),
        ("name: [a]\n", 1, 7, "name must be text, found a list"),
        ("name:\n", 1, 5, "name must be text, found nothing"),
        ("name: hello\npublic: yes\n", 2, 9, "public must be true or false, found \"yes\""),
        ("name: hello\npublic: \"true\"\n", 2, 9, "found the text \"true\""),
        ("name: hello\nmemory: 0\n", 2, 9, "memory must be between 1 and 256 MB, got 0"),
        ("name: hello\nmemory: 257\n", 2, 9, "between 1 and 256"),
        ("name: hello\nmemory: 64MB\n", 2, 9, "memory must be a whole number of MB, found \"64MB\""),
        ("name: hello\nmemory: \"64\"\n", 2, 9, "found the text \"64\""),
        ("name: hello\nmemory: 64.0\n", 2, 9, "whole number"),
        ("name: hello\nmemory:\n", 2, 7, "found nothing"),
        ("name: hello\ntimeout: 301\n", 2, 10, "timeout must be between 1 and 300 seconds"),
        ("name: hello\ntimeout: 99999999999999999999\n", 2, 10, "between 1 and 300"),
        ("name: hello\ntimeout: -99999999999999999999\n", 2, 10, "between 1 and 300"),
        ("name: hello\nretry:\n  count: 6\n", 3, 10, "retry.count must be between 0 and 5"),
        ("name: hello\nretry:\n  delay: -1\n", 3, 10, "retry.delay must be between 0"),
        ("name: hello\nretry: 3\n", 2, 8, "retry must be a mapping"),
        ("name: hello\nenv:\n  - A=b\n", 3, 3, "env must be a mapping"),
        ("name: hello\nenv:\n  A:\n", 3, 4, "env.A has no value"),
        ("name: hello\nenv:\n  A: {b: c}\n", 3, 6, "env.A must be text"),
        ("name: hello\nenv:\n  \"A=B\": c\n", 3, 3, "is not valid"),
        ("name: hello\nenv:\n  \"\": c\n", 3, 3, "is not valid"),
        ("name: hello\nenv:\n  A: \"b\\0c\"\n", 3, 6, "zero byte"),
        (&format!("name: hello\nenv:\n{many}"), 3, 3, "at most 128"),
        ("- name: hello\n", 1, 1, "the manifest must be a mapping"),
        ("name: &a hello\n", 1, 10, "anchors and aliases"),
        ("name: !!str hello\n", 1, 13, "tags (!)"),
        ("name: hello\n---\nname: other\n", 2, 1, "one YAML document"),
        ("name: hello\n? [a]\n: b\n", 2, 3, "a key must be plain text"),
        ("name: \"hello\n", 1, 0, "not valid YAML"),
        ("name: hello\n\tmemory: 64\n", 2, 0, "not valid YAML"),
    ];
    let mut wrong = Vec::new();
    for (text, line, column, message) in cases {
        let error = parse(text).expect_err(text);
        // The place of a syntax error is the parser's choice: it may be the end of the text.
        let at = if column == 0 { error.at } else { Position { line, column } };
        if error.at != at || !error.message.contains(message) {
            wrong.push(format!("{text:?}: {error}\n  expected {at:?} {message:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_message_repeats_a_value_of_the_environment() {
    let secret = "hunter2hunter2";
    let big = secret.repeat(limits::ENV_MAX_BYTES / secret.len() + 1);
    for text in [
        format!("name: hello\nenv:\n  A: [{secret}]\n"),
        format!("name: hello\nenv:\n  A: \"{secret}\\0\"\n"),
        format!("name: hello\nenv:\n  A: {big}\n"),
    ] {
        let error = parse(&text).expect_err("accepted");
        assert!(!error.to_string().contains(secret), "{error}");
    }
    let shown = format!("{:?}", good(&format!("name: hello\nenv:\n  A: {secret}\n")));
    assert!(shown.contains("\"A\"") && !shown.contains(secret), "{shown}");
}

#[test]
fn hostile_nesting_and_size_are_refused_quickly() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(50_000),
        "- ".repeat(50_000),
        "{---".to_owned(),
        "a".repeat(MAX_BYTES + 1),
    ] {
        assert!(parse(&text).is_err());
    }
}

#[test]
fn no_truncated_or_altered_manifest_causes_a_panic() {
    let text = "name: my-function # ä\npublic: true\nretry: {count: 1, delay: 2}\nenv:\n  A: \"b\\n\"\n  B: |\n    text\n  C: 'it''s'\n  ? D\n  : >-\n    e\n";
    good(text);
    let chars: Vec<char> = text.chars().collect();
    let noise = [
        '\0', '\t', '\n', ':', '-', '?', '[', '{', '}', '&', '*', '!', '|', '>', '"', '\'', '%', '@', '#',
        ' ', '\u{feff}',
    ];
    for cut in 0..chars.len() {
        drop(parse(&chars[..cut].iter().collect::<String>()));
        for c in noise {
            let mut mixed = chars.clone();
            mixed[cut] = c;
            drop(parse(&mixed.iter().collect::<String>()));
            mixed.insert(cut, c);
            drop(parse(&mixed.iter().collect::<String>()));
        }
    }
}

#[test]
fn an_environment_overrides_keys_and_adds_variables() {
    let text = "name: hello\nmemory: 32\nenv: {A: a, B: b}\nenvironments:\n  staging:\n    memory: 64\n    env: {B: c, C: d}\n  empty:\n";
    let plain = parse(text).unwrap();
    assert_eq!((plain.memory_mb, plain.env.len()), (32, 2));
    let staging = parse_for(text, Some("staging")).unwrap();
    assert_eq!((staging.memory_mb, staging.env["A"].as_str(), staging.env["B"].as_str()), (64, "a", "c"));
    assert_eq!(parse_for(text, Some("empty")).unwrap(), plain);
    for (bad, told) in [
        ("name: a\nenvironments: {x: {name: b}}\n", "unknown key \"name\""),
        ("name: a\nenvironments: {x: {memory: 0}}\n", "memory"),
        ("name: a\nenvironments: [x]\n", "must be a mapping"),
        ("name: a\nmigrations: [x]\n", "the path of a folder"),
    ] {
        let error = parse(bad).unwrap_err();
        assert!(error.message.contains(told), "{bad}: {}", error.message);
    }
    assert!(parse_for(text, Some("production")).unwrap_err().message.contains("\"production\""));
}

#[test]
fn every_manifest_in_the_pages_is_valid() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut count = 0;
    for page in std::fs::read_dir(docs).unwrap() {
        let path = page.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for block in text.split("\n```yaml\n").skip(1) {
            let (block, _) = block.split_once("\n```").unwrap();
            // Pages show parts of the file too.
            let name = if block.starts_with("name:") { "" } else { "name: hello\n" };
            if let Err(error) = parse(&format!("{name}{block}\n")) {
                panic!("{}: {error}\n{block}", path.display());
            }
            count += 1;
        }
    }
    assert!(count >= 3, "{count} blocks were found");
}
