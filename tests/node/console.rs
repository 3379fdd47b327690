//! The console, as its users see it: in a browser, by keyboard, on a phone, in the dark; and what it may not do.

use crate::chromium::Browser;
use crate::harness::{Node, Options, eventually, new_dir};
use orama_test_support::{guests, tools};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A folder that gets the pictures that the test makes: `docs/images` for those of the pages.
const PICTURES: &str = "ORAMA_SCREENSHOTS";

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// What would run if a page took it for HTML.
const HOSTILE: &str = "<img src=x onerror=window.pwned=1>";

/// Finds elements by what they say.
const FIND: &str = "const find = (selector, text) => [...document.querySelectorAll(selector)].find(element => \
                    element.textContent.includes(text) && element.checkVisibility());";

#[track_caller]
fn until_said(browser: &mut Browser, selector: &str, text: &str) {
    browser.until(&format!("(() => {{ {FIND} return find({}, {}) }})()", json!(selector), json!(text)));
}

#[track_caller]
fn click(browser: &mut Browser, selector: &str, text: &str) {
    until_said(browser, selector, text);
    browser.run(&format!("{FIND} find({}, {}).click()", json!(selector), json!(text)));
}

/// Types into the control that has this label, instead of what is there.
#[track_caller]
fn write(browser: &mut Browser, label: &str, text: &str) {
    until_said(browser, "main label", label);
    browser.run(&format!(
        "{FIND} const control = find('main label', {}).control; control.focus(); control.select()",
        json!(label)
    ));
    browser.write(text);
}

/// Goes to a view and waits until it shows what the node said.
#[track_caller]
fn go(browser: &mut Browser, view: &str, title: &str) {
    browser.run(&format!("location.hash = {}", json!(format!("#/{view}"))));
    browser.until(&format!(
        "document.title.startsWith({}) && document.querySelector('main:not([aria-busy]) h1')",
        json!(title)
    ));
}

fn visit(browser: &mut Browser, node: &Node) {
    browser.ask("Network.enable", json!({}));
    browser.ask("Runtime.enable", json!({}));
    let watch = "window.violations = []; addEventListener('securitypolicyviolation', \
                 event => violations.push(`${event.violatedDirective} ${event.blockedURI}`))";
    browser.ask("Page.addScriptToEvaluateOnNewDocument", json!({ "source": watch }));
    browser.visit(&format!("http://{}/console", node.address()));
}

#[track_caller]
fn sign_in(browser: &mut Browser, key: &str) {
    write(browser, "API key", key);
    browser.press("Enter");
    until_said(browser, "header", "Sign out");
    browser.until("document.querySelector('main:not([aria-busy]) h1')");
}

/// Nothing was stopped by the page's policy, nothing broke, and nobody else was asked.
#[track_caller]
fn kept_to_itself(browser: &mut Browser, node: &Node) {
    assert_eq!(browser.run("return violations"), json!([]), "the page's own policy stops nothing of it");
    let broken = browser.said("Runtime.exceptionThrown");
    assert!(broken.is_empty(), "{broken:?}");
    let own = format!("http://{}/", node.address());
    let asked = browser.said("Network.requestWillBeSent");
    let urls: Vec<_> = asked.iter().map(|asked| asked["request"]["url"].as_str().unwrap()).collect();
    assert!(urls.len() > 10, "{urls:?}");
    let foreign: Vec<_> =
        urls.iter().filter(|url| !url.starts_with(&own) && !url.starts_with("data:")).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert!(!urls.iter().any(|url| url.contains("orama_")), "no key stands in an address: {urls:?}");
}

/// A module as a file that a browser uploads.
fn module(guest: &str) -> PathBuf {
    let file = new_dir("modules").join(format!("{guest}.wasm"));
    fs::write(&file, guests::wat(guest)).unwrap();
    file
}

#[test]
fn the_console_is_files_that_may_do_little() {
    let node = Node::start(Options::default());
    let paths: Vec<_> =
        orama_server::routes::paths().into_iter().filter(|path| path.starts_with("/console")).collect();
    assert!(paths.len() > 3, "{paths:?}");
    for path in paths {
        let answer = node.anonymous("GET", path).send().expect(200);
        for (name, value) in [
            ("content-security-policy", POLICY),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
            ("cross-origin-opener-policy", "noopener-allow-popups"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path} {name}");
        }
        let kind = answer.header("content-type").unwrap();
        let expected = match path.rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(kind, expected, "{path}");
        let tag = answer.header("etag").unwrap();
        let mut connection = node.connect();
        connection.write(node.anonymous("GET", path).header("if-none-match", tag).bytes());
        let again = connection.answer_without_body();
        assert_eq!((again.status, again.header("etag")), (304, Some(tag)), "{path}");
        connection.write(node.anonymous("GET", path).header("if-none-match", "\"other\"").bytes());
        assert_eq!(connection.answer().expect(200).body, answer.body, "{path}");
    }
    node.anonymous("POST", "/console").send().refusal(405, "METHOD_NOT_ALLOWED");
    node.anonymous("GET", "/console/other.js").send().refusal(404, "NOT_FOUND");
}

#[test]
fn a_key_is_checked_and_kept_only_where_its_user_asks_for_it() {
    let node = Node::start(Options::default());
    let Some(mut browser) = Browser::start() else { return };
    visit(&mut browser, &node);
    let wrong = format!("orama_{}", "A".repeat(43));
    write(&mut browser, "API key", &wrong);
    browser.press("Enter");
    let told = node.request_as(&wrong, "GET", "/v1/whoami").send().refusal(401, "UNAUTHORIZED");
    until_said(&mut browser, "[role=alert]", &told);
    until_said(&mut browser, "[role=alert]", "request");
    assert_eq!(browser.run("return document.querySelector('header').hidden"), true);

    // Not asked for: gone with the page.
    sign_in(&mut browser, &node.key());
    let kept = "return JSON.stringify([sessionStorage, localStorage, document.cookie])";
    let nothing = json!("[{},{},\"\"]");
    assert_eq!(browser.run(kept), nothing);
    browser.reload();
    until_said(&mut browser, "main h1", "Orama Functions");

    // Asked for: there until the user signs out.
    click(&mut browser, "main label", "Keep it");
    sign_in(&mut browser, &node.key());
    browser.reload();
    until_said(&mut browser, "main h1", "Functions");
    until_said(&mut browser, "header", "Sign out");
    click(&mut browser, "header button", "Sign out");
    until_said(&mut browser, "main label", "API key");
    assert_eq!(browser.run(kept), nothing);

    // A smaller role sees what it may, and one that is deleted meanwhile is told.
    let body = json!({"namespace": "default", "role": "deploy"}).to_string();
    let made = node.request("POST", "/v1/keys").body(body).send().expect(201).json();
    sign_in(&mut browser, made["api_key"].as_str().unwrap());
    let links = "return [...document.querySelectorAll('header nav a')].map(link => link.textContent)";
    assert_eq!(browser.run(links), json!(["Functions", "Database", "Secrets"]));
    node.delete(&format!("/v1/keys/{}", made["id"].as_str().unwrap())).expect(200);
    let gone = node.request_as(made["api_key"].as_str().unwrap(), "GET", "/v1/whoami").send();
    browser.run("location.hash = '#/secrets'");
    until_said(&mut browser, "[role=alert]", &gone.refusal(401, "UNAUTHORIZED"));
    until_said(&mut browser, "main label", "API key");
    kept_to_itself(&mut browser, &node);
}

/// Uploads a module as a new version, in the form that is shown.
#[track_caller]
fn upload(browser: &mut Browser, guest: &str, version: u32) {
    browser.choose(&module(guest));
    click(browser, "main form button", "Deploy");
    until_said(browser, "[role=status]", &format!("Version {version} of"));
}

#[test]
fn a_developer_deploys_looks_and_goes_back_in_the_console() {
    let node = Node::start(Options::default());
    let Some(mut browser) = Browser::start() else { return };
    visit(&mut browser, &node);
    sign_in(&mut browser, &node.key());

    until_said(&mut browser, ".empty", "There is no function yet");
    go(&mut browser, "deploy", "Deploy");
    write(&mut browser, "Name", "greeter");
    upload(&mut browser, "echo", 1);
    go(&mut browser, "deploy/greeter", "Deploy");
    upload(&mut browser, "log_input", 2);

    go(&mut browser, "functions/greeter/invoke", "greeter: Invoke");
    write(&mut browser, "Body", "{\"name\": \"Ann\"}");
    click(&mut browser, "main form button", "Run");
    until_said(&mut browser, ".answer .state", "200");
    until_said(&mut browser, ".answer .log .info", "{\"name\": \"Ann\"}");

    // Another's invocation appears with its log by itself, and one that fails says why.
    go(&mut browser, "functions/greeter/activity", "greeter: Activity");
    node.invoke("greeter", "from elsewhere").expect(200);
    until_said(&mut browser, ".invocation summary", "from elsewhere");
    let failed = node.invoke("greeter", "fails!").refusal(500, "FUNCTION_TRAP");
    until_said(&mut browser, ".invocation .state.bad", "error");
    click(&mut browser, ".invocation summary", &failed);
    until_said(&mut browser, ".invocation[open] .log", "fails!");
    until_said(&mut browser, "figure", "1 failed, 33%");

    // An event that the new version fails to handle, and the way back.
    let post = |path: &str, body: Value| node.request("POST", path).body(body.to_string()).send();
    post("/v1/functions/greeter/triggers", json!({"topic": "orders"})).expect(201);
    post("/v1/pubsub/publish", json!({"topic": "orders", "data": "no!"})).expect(202);
    let letters = || node.get("/v1/functions/greeter/dead-letters").expect(200).json()["count"].clone();
    eventually("a dead letter", || letters() == 1);
    go(&mut browser, "functions/greeter", "greeter: Versions");
    click(&mut browser, "main button", "Roll back to v1");
    until_said(&mut browser, "#said", "Version 1 of greeter is live");
    until_said(&mut browser, "tr", "v1100%");
    assert_eq!(node.get("/v1/functions/greeter/aliases/live").expect(200).json()["version"], 1);
    go(&mut browser, "functions/greeter/dead-letters", "greeter: Dead letters");
    click(&mut browser, "td button", "Replay");
    until_said(&mut browser, "#said", "1 event will run again");
    until_said(&mut browser, ".empty", "No event has failed for good");
    let runs = || node.logs("greeter", "?limit=1")["invocations"][0].clone();
    eventually("the event is handled", || runs()["trigger_type"] == "pubsub" && runs()["version"] == 1);
    assert_eq!(letters(), 0);

    // Both: as a rule, and as a share.
    click(&mut browser, "nav a", "Triggers");
    click(&mut browser, "td button", "Pause");
    until_said(&mut browser, "td", "paused");
    assert_eq!(node.get("/v1/functions/greeter/triggers").json()["triggers"][0]["enabled"], false);
    kept_to_itself(&mut browser, &node);
}

#[test]
fn the_console_asks_the_database_and_sets_secrets_and_keys() {
    let node = Node::start(Options::default());
    let Some(mut browser) = Browser::start() else { return };
    visit(&mut browser, &node);
    sign_in(&mut browser, &node.key());
    go(&mut browser, "database", "Database");
    until_said(&mut browser, ".empty", "no table yet");
    let mut query = |sql: &str, args: &str, told: &str| {
        write(&mut browser, "SQL", sql);
        write(&mut browser, "Arguments", args);
        click(&mut browser, "main form button", "Run");
        until_said(&mut browser, ".result", told);
    };
    query("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)", "", "0 rows changed");
    query("INSERT INTO notes (text) VALUES (?), ('tea')", "[\"buy bread\"]", "2 rows changed");
    query("SELECT text FROM notes WHERE id = ?", "[1]", "buy bread");
    query("SELEKT 1", "", "SQL_REFUSED");
    click(&mut browser, ".chips button", "notes");
    until_said(&mut browser, ".result tbody", "tea");

    go(&mut browser, "secrets", "Secrets");
    write(&mut browser, "Name", "TOKEN");
    write(&mut browser, "Value", "s3cret");
    click(&mut browser, "main form button", "Set secret");
    until_said(&mut browser, "td, th", "TOKEN");
    assert_eq!(node.get("/v1/functions/secrets").json()["secrets"], json!(["TOKEN"]));
    assert_eq!(browser.run("return document.querySelector('textarea').value"), "");
    click(&mut browser, "td button", "Delete");
    click(&mut browser, "dialog button", "Delete");
    until_said(&mut browser, ".empty", "There is no secret");

    go(&mut browser, "usage", "Usage");
    until_said(&mut browser, "th", "module bytes");
    go(&mut browser, "keys", "Keys");
    write(&mut browser, "Name", "for the shop");
    click(&mut browser, "main form button", "Create key");
    until_said(&mut browser, ".success", "shown only now");
    let made = browser.run("return document.querySelector('.success input').value");
    let who = node.request_as(made.as_str().unwrap(), "GET", "/v1/whoami").send().expect(200).json();
    assert_eq!((&who["role"], &who["key"]["name"]), (&json!("invoke"), &json!("for the shop")));
    kept_to_itself(&mut browser, &node);
}

/// Leaves hostile text wherever a tenant may leave text, and an ordinary past to look at.
fn with_a_past(node: &Node) {
    let post = |path: &str, body: Value| {
        let answer = node.request("POST", path).body(body.to_string()).send();
        assert!((200..300).contains(&answer.status), "{path}: {}", answer.text());
        answer.json()
    };
    let source =
        |message: &str| json!({"source": {"commit": "4f1c9a0be2d1", "branch": "main", "message": message}});
    for (name, guest, message) in [
        ("greeter", "echo", "Greet by name"),
        ("greeter", "log_input", HOSTILE),
        ("greeter", "log_input", "Log what comes"),
        ("orders", "log_input", "Take orders"),
        ("thumbnails", "sleep_100_ms", "Wait for the picture"),
    ] {
        node.deploy(name, &guests::wat(guest), &[("metadata", &source(message).to_string())]);
    }
    for turn in 0..60 {
        let body = json!({"name": if turn % 7 == 0 { HOSTILE } else { "Ann" }, "wish": if turn % 20 == 9 { "!" } else { "." }});
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
    for data in [json!({"order": 17, "note": "no!"}), json!(format!("{HOSTILE}!"))] {
        post("/v1/pubsub/publish", json!({"topic": "orders", "data": data}));
    }
    let letters = || node.get("/v1/functions/orders/dead-letters").expect(200).json()["count"].clone();
    eventually("dead letters", || letters() == 2);
    let exec = |sql: &str, args: Value| json!({"kind": "exec", "sql": sql, "args": args});
    let quoted = format!("CREATE TABLE \"{HOSTILE}\" (\"{HOSTILE}\" TEXT)");
    post(
        "/v1/db/query",
        json!({"ops": [
            exec("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT, done INTEGER)", json!([])),
            exec("INSERT INTO notes (text, done) VALUES ('Buy bread', 0), ('Call Ann', 1), (?, 0)", json!([HOSTILE])),
            exec(&quoted, json!([])),
            exec(&format!("INSERT INTO \"{HOSTILE}\" VALUES (?)"), json!([HOSTILE])),
        ]}),
    );
    post("/v1/keys", json!({"role": "deploy", "name": HOSTILE}));
    post("/v1/keys", json!({"role": "invoke", "name": "the shop's site", "functions": ["greeter"]}));
    node.request("PUT", "/v1/functions/secrets")
        .body(r#"{"name": "APNS_KEY_ID", "value": "x"}"#)
        .send()
        .expect(200);
}

/// Every view, with its title.
const VIEWS: [(&str, &str); 12] = [
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
    ("usage", "Usage"),
    ("keys", "Keys"),
];

/// Opens what a view hides and asks for what it shows only then.
#[track_caller]
fn unfold(browser: &mut Browser, view: &str) {
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
            click(browser, ".chips button", HOSTILE);
            until_said(browser, ".result tbody", HOSTILE);
        }
        "functions/unknown" => until_said(browser, "[role=alert]", "there is no function"),
        _ => {}
    }
    browser.run("document.querySelectorAll('main details').forEach(details => { details.open = true })");
}

#[test]
fn what_a_tenant_writes_is_text_in_the_console() {
    let node = Node::start(Options::default());
    with_a_past(&node);
    let Some(mut browser) = Browser::start() else { return };
    visit(&mut browser, &node);
    sign_in(&mut browser, &node.key());
    let mut seen = 0;
    for (view, title) in VIEWS {
        go(&mut browser, view, title);
        unfold(&mut browser, view);
        let text = browser.run("return document.querySelector('main').textContent");
        seen += usize::from(text.as_str().unwrap().contains(HOSTILE.trim_matches('"')));
        assert_eq!(
            browser.run("return document.querySelectorAll('img, iframe, object, style, body script').length"),
            0,
            "{view}"
        );
    }
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
    with_a_past(&node);
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
            unfold(&mut browser, view);
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
    with_a_past(&node);
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
        let mut reached = std::collections::BTreeSet::new();
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
