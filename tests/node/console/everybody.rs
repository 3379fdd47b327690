//! Every view of the console, on a past with hostile text: nothing of it runs, and everybody can use it, by keyboard, on a phone
//! and in the dark.

use super::{FIND, click, go, kept_to_itself, sign_in, until_said, visit};
use crate::chromium::Browser;
use crate::harness::{Node, Options, eventually};
use orama_test_support::{guests, tools};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A folder that gets the pictures that the test makes: `docs/images` for those of the pages.
const PICTURES: &str = "ORAMA_SCREENSHOTS";

/// What would run if a page took it for HTML.
const HOSTILE: &str = "<img src=x onerror=window.pwned=1>";

/// Leaves a text wherever a tenant may leave one, and a past to look at.
fn with_a_past(node: &Node, text: &str) {
    let post = |path: &str, body: Value| {
        let answer = node.request("POST", path).body(body.to_string()).send();
        assert!((200..300).contains(&answer.status), "{path}: {}", answer.text());
        answer.json()
    };
    let source =
        |message: &str| json!({"source": {"commit": "4f1c9a0be2d1", "branch": "main", "message": message}});
    for (name, guest, message) in [
        ("greeter", "echo", "Greet by name"),
        ("greeter", "log_input", text),
        ("greeter", "log_input", "Log what comes"),
        ("orders", "log_input", "Take orders"),
        ("thumbnails", "sleep_100_ms", "Wait for the picture"),
    ] {
        node.deploy(name, &guests::wat(guest), &[("metadata", &source(message).to_string())]);
    }
    for turn in 0..60 {
        let body = json!({"name": if turn % 7 == 0 { text } else { "Ann" }, "wish": if turn % 20 == 9 { "!" } else { "." }});
        node.invoke("greeter", body.to_string());
        if turn % 20 == 0 {
            node.invoke("thumbnails", "").expect(200);
        }
    }
    let aliases =
        node.request("PUT", "/v1/functions/greeter/traffic").body(r#"{"weights": {"2": 90, "3": 10}}"#);
    aliases.send().expect(200);
    post("/v1/functions/orders/triggers", json!({"topic": "orders"}));
    post(
        "/v1/functions/orders/triggers",
        json!({"cron_expression": "0 6 * * 1", "timezone": "Europe/Berlin"}),
    );
    for data in [json!({"order": 17, "note": "no!"}), json!(format!("{text}!"))] {
        post("/v1/pubsub/publish", json!({"topic": "orders", "data": data}));
    }
    let letters = || node.get("/v1/functions/orders/dead-letters").expect(200).json()["count"].clone();
    eventually("dead letters", || letters() == 2);
    let exec = |sql: &str, args: Value| json!({"kind": "exec", "sql": sql, "args": args});
    let quoted = format!("CREATE TABLE \"{text}\" (\"{text}\" TEXT)");
    post(
        "/v1/db/query",
        json!({"ops": [
            exec("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT, done INTEGER)", json!([])),
            exec("INSERT INTO notes (text, done) VALUES ('Buy bread', 0), ('Call Ann', 1), (?, 0)", json!([text])),
            exec(&quoted, json!([])),
            exec(&format!("INSERT INTO \"{text}\" VALUES (?)"), json!([text])),
        ]}),
    );
    post("/v1/keys", json!({"role": "deploy", "name": text}));
    post("/v1/keys", json!({"role": "invoke", "name": "the shop's site", "functions": ["greeter"]}));
    node.request("PUT", "/v1/functions/secrets")
        .body(r#"{"name": "APNS_KEY_ID", "value": "x"}"#)
        .send()
        .expect(200);
}

/// Every view, with its title.
const VIEWS: [(&str, &str); 13] = [
    ("functions", "Functions"),
    ("functions/greeter", "greeter: Versions"),
    ("functions/greeter/invoke", "greeter: Invoke"),
    ("functions/greeter/activity", "greeter: Activity"),
    ("functions/orders/triggers", "orders: Triggers"),
    ("functions/orders/dead-letters", "orders: Dead letters"),
    ("functions/unknown", "unknown: Versions"),
    ("deploy", "Deploy"),
    ("database", "Database"),
    ("secrets", "Secrets"),
    ("audit", "Audit"),
    ("usage", "Usage"),
    ("keys", "Keys"),
];

/// Opens what a view hides and asks for what it shows only then.
#[track_caller]
fn unfold(browser: &mut Browser, view: &str, text: &str) {
    match view {
        "functions" => {
            click(browser, "main button", "Compare");
            until_said(browser, "thead", "p99");
        }
        "functions/greeter/invoke" => {
            click(browser, "main form button", "Run");
            until_said(browser, ".answer .log", "{}");
        }
        "database" => {
            click(browser, ".chips button", text);
            until_said(browser, ".result tbody", text);
        }
        "functions/unknown" => until_said(browser, "[role=alert]", "there is no function"),
        _ => {}
    }
    browser.run("document.querySelectorAll('main details').forEach(details => { details.open = true })");
}

#[test]
fn what_a_tenant_writes_is_text_in_the_console() {
    let node = Node::start(Options::default());
    with_a_past(&node, HOSTILE);
    let Some(mut browser) = Browser::start() else { return };
    visit(&mut browser, &node);
    sign_in(&mut browser, &node.key());
    let mut seen = 0;
    for (view, title) in VIEWS {
        go(&mut browser, view, title);
        unfold(&mut browser, view, HOSTILE);
        let text = browser.run("return document.querySelector('main').textContent");
        seen += usize::from(text.as_str().unwrap().contains(HOSTILE));
        assert_eq!(
            browser.run("return document.querySelectorAll('img, iframe, object, style, body script').length"),
            0,
            "{view}"
        );
    }
    // A view's name is no path of another.
    go(&mut browser, "functions/..%2F..%2Fready", "..%2F..%2Fready: Versions".replace("%2F", "/").as_str());
    until_said(&mut browser, "[role=alert]", "INVALID_NAME");
    go(&mut browser, "functions/..", "Functions");
    // Of a version, an invocation, a dead letter, a row and its table, and a key.
    assert!(seen >= 5, "hostile text was seen in {seen} views");
    assert_eq!(browser.run("return window.pwned === undefined"), true);
    kept_to_itself(&mut browser, &node);

    // A page of a function, which has the same origin, keeps no hold of a console that it opens.
    browser.visit(&format!("http://{}/health", node.address()));
    let opened = "const opened = open('/console'); await new Promise(done => setTimeout(done, 500)); return opened.closed";
    assert_eq!(browser.run(opened), true);
}

/// Fails where axe finds something, or where the page is wider than the window.
#[track_caller]
fn is_fit(browser: &mut Browser, axe: &str, what: &str) {
    let found = browser.run_apart(
        axe,
        "axe.run(document).then(({violations, passes}) => ({passes: passes.length, violations: violations.map(({id, impact, nodes}) => \
         [id, impact, nodes.map(node => node.html.slice(0, 200))])}))",
    );
    assert!(found["passes"].as_u64().unwrap() > 10, "axe looked at the page: {found}");
    assert_eq!(found["violations"], json!([]), "{what}");
    let wide = browser.run("return document.documentElement.scrollWidth - innerWidth");
    assert!(wide.as_i64().unwrap() <= 0, "{what} is wider than its window by {wide}");
}

/// Keeps a picture where someone asked for it.
fn picture(browser: &mut Browser, name: &str) {
    // What was told is no part of a view, and neither is the mark of the focus.
    browser.run("document.getElementById('said').replaceChildren(); document.activeElement.blur()");
    let picture = browser.picture();
    assert!(picture.starts_with(b"\x89PNG"), "{name}");
    if let Some(folder) = std::env::var_os(PICTURES) {
        fs::write(PathBuf::from(folder).join(format!("console-{name}.png")), picture).unwrap();
    }
}

#[test]
fn everybody_can_use_the_console() {
    let Ok(axe) = tools::require_or_report("axe-core") else { return };
    let axe = String::from_utf8(Command::new(axe).output().unwrap().stdout).unwrap();
    let node = Node::start(Options::default());
    with_a_past(&node, "greetings");
    let Some(mut browser) = Browser::start() else { return };
    visit(&mut browser, &node);
    // It finds what is wrong.
    let planted = "document.querySelector('main').append(document.createElement('select')); return null";
    browser.run(planted);
    let found =
        browser.run_apart(&axe, "axe.run(document).then(({violations}) => violations.map(({id}) => id))");
    assert_eq!(found, json!(["select-name"]));
    browser.reload();
    for (width, height, is_dark) in [(1200, 800, false), (1200, 800, true), (320, 640, false)] {
        browser.resize(width, height, is_dark);
        let how = format!("{width} {}", if is_dark { "dark" } else { "light" });
        until_said(&mut browser, "main label", "API key");
        is_fit(&mut browser, &axe, &format!("signing in, {how}"));
        sign_in(&mut browser, &node.key());
        for (view, title) in VIEWS {
            go(&mut browser, view, title);
            unfold(&mut browser, view, "greetings");
            is_fit(&mut browser, &axe, &format!("{view}, {how}"));
            // So that the charts have something to show.
            for turn in 0..4 + 3 * (view.len() % 5) {
                node.invoke("greeter", if turn == 7 { "Bo!" } else { "Ann" });
            }
        }
        click(&mut browser, "header button", "Sign out");
    }
    sign_in(&mut browser, &node.key());
    for (name, view, title, width, is_dark) in [
        ("versions", "functions/greeter", "greeter: Versions", 1200, false),
        ("activity", "functions/greeter/activity", "greeter: Activity", 1200, false),
        ("dark", "functions/orders/dead-letters", "orders: Dead letters", 1200, true),
        ("database", "database", "Database", 1200, false),
        ("phone", "functions/greeter/activity", "greeter: Activity", 360, false),
    ] {
        browser.resize(width, 760, is_dark);
        go(&mut browser, view, title);
        if view == "database" {
            click(&mut browser, ".chips button", "notes");
            until_said(&mut browser, ".result tbody", "Call Ann");
        }
        picture(&mut browser, name);
    }
}

#[test]
fn the_console_is_used_by_keyboard_alone() {
    let node = Node::start(Options::default());
    with_a_past(&node, "greetings");
    let Some(mut browser) = Browser::start() else { return };
    visit(&mut browser, &node);
    sign_in(&mut browser, &node.key());
    for (view, title) in VIEWS {
        go(&mut browser, view, title);
        assert_eq!(
            browser.run("return document.activeElement.tagName"),
            "H1",
            "{view}: focus is at its beginning"
        );
        // All that can be focused is numbered, and what the key reaches is marked.
        let count = browser.run(
            "const all = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex=\"0\"]')] \
               .filter(element => element.checkVisibility()); \
             all.forEach((element, at) => element.dataset.at = at); document.body.tabIndex = -1; document.body.focus(); return all.length",
        );
        let count = count.as_u64().unwrap();
        let mut reached = BTreeSet::new();
        for _ in 0..count + 8 {
            browser.press("Tab");
            let seen = browser.run(
                "const at = document.activeElement; const {outlineStyle, boxShadow} = getComputedStyle(at); return [at.dataset.at ?? null, outlineStyle + boxShadow !== 'nonenone']",
            );
            if let Some(at) = seen[0].as_str() {
                assert_eq!(seen[1], true, "{view}: the focus on element {at} is seen");
                reached.insert(at.to_owned());
            }
        }
        let missed = (0..count).filter(|at| !reached.contains(&at.to_string())).map(|at| {
            let html =
                format!("return document.querySelector('[data-at=\"{at}\"]')?.outerHTML.slice(0, 200)");
            browser.run(&html).to_string()
        });
        assert_eq!(missed.collect::<Vec<_>>(), Vec::<String>::new(), "{view}: not reached by Tab");
    }
    // A question is answered by keyboard, and focus returns to where it was.
    go(&mut browser, "secrets", "Secrets");
    browser.run(&format!("{FIND} find('td button', 'Delete').focus()"));
    browser.press("Enter");
    until_said(&mut browser, "dialog[open]", "Delete the secret APNS_KEY_ID?");
    browser.press("Escape");
    browser.until("!document.querySelector('dialog')");
    assert_eq!(browser.run("return document.activeElement.textContent"), "Delete");
    assert_eq!(node.get("/v1/functions/secrets").json()["count"], 1);
}
