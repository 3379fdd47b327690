//! A public checker of HTTP, REDbot, looks at what functions answer.

use crate::harness::{Node, Options};
use orama_test_support::{guests, tools};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What REDbot says of an address, and the status that it saw.
fn checked(redbot: &Path, url: &str) -> (i64, Vec<Value>) {
    let output = Command::new(redbot).args(["-o", "har", url]).output().unwrap();
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let entry = &said["log"]["entries"][0];
    let status = entry["response"]["status"].as_i64().unwrap_or_else(|| panic!("{url}: no answer: {said}"));
    (status, entry["_red_messages"].as_array().unwrap().clone())
}

#[test]
fn answers_of_functions_conform_to_http() {
    let Ok(redbot) = tools::require_or_report("redbot") else { return };
    let Ok(site) = guests::go("site", &[]) else { return };
    let node = Node::start(Options::default());
    let cors = json!({"cors": {"origins": ["https://app.example"]}}).to_string();
    let site = fs::read(site).unwrap();
    node.deploy("site", &site, &[("is_public", "true"), ("metadata", &cors)]);
    node.deploy("output", &guests::wat("ignores_stdin"), &[("is_public", "true")]);
    let mut all = BTreeSet::new();
    for (path, status, is_whole) in [
        ("site/hello/x", 200, true),
        ("site/request?a=b", 200, true),
        ("site/cookie", 200, true),
        ("site/away", 302, true),
        ("site/status/404", 404, true),
        ("site/status/204", 204, false),
        ("site/status/304", 304, false),
        ("site/bytes/300000", 200, true),
        ("site/bytes/3000000", 200, false),
        ("site/events", 200, false),
        ("site/fails", 500, true),
        ("output", 200, true),
        ("unknown", 401, true),
    ] {
        let (seen, said) = checked(&redbot, &format!("http://{}/fn/default/{path}", node.address()));
        let levels = |level: &str| said.iter().filter(|note| note["level"] == level).collect::<Vec<_>>();
        assert_eq!(seen, status, "{path}: {said:?}");
        assert!(levels("BAD").is_empty(), "{path}: {:#?}", levels("BAD"));
        let ids: BTreeSet<_> = said.iter().map(|note| note["note_id"].as_str().unwrap().to_owned()).collect();
        assert!(ids.contains("DATE_CORRECT"), "{path}: {ids:?}");
        assert_eq!(ids.contains("CL_CORRECT"), is_whole, "{path}: {ids:?}");
        all.extend(ids);
    }
    assert!(all.len() > 5, "it has looked: {all:?}");
}
