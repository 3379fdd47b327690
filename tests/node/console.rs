//! The console in a browser: what its users do there, and what its files may do.

use crate::chromium::Browser;
use crate::harness::{Node, Options, eventually, new_dir};
use orama_test_support::guests;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

mod everybody;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

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
    query("SELECT FROM", "", "SQL_REFUSED");
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

#[test]
fn one_fault_and_one_slow_version_among_fifty_functions_are_found_in_the_console() {
    let node = Node::start(Options::default());
    let (echo, strict) = (guests::wat("echo"), guests::wat("log_input"));
    for at in 0..48 {
        let name = format!("healthy-{at}");
        node.deploy(&name, &echo, &[]);
        for _ in 0..4 {
            node.invoke(&name, "{}").expect(200);
        }
    }
    node.deploy("faulty", &strict, &[]);
    node.deploy("slowed", &echo, &[]);
    for customer in 0..200 {
        let body =
            if customer % 100 == 77 { "customer 77!".to_owned() } else { format!("customer {customer}") };
        node.invoke("faulty", body);
        node.invoke("slowed", "{}").expect(200);
    }
    node.deploy("slowed", &guests::wat("sleep_100_ms"), &[]);
    for _ in 0..20 {
        node.invoke("slowed", "{}").expect(200);
    }
    let Some(mut browser) = Browser::start() else { return };
    visit(&mut browser, &node);
    sign_in(&mut browser, &node.key());
    click(&mut browser, "main button", "Compare");
    until_said(&mut browser, "main [role=status]", "50 functions");

    // The one that fails for one customer in a hundred is first, and its log names the customer.
    let first = "return document.querySelector('tbody tr').textContent";
    assert!(browser.run(first).as_str().unwrap().starts_with("faulty 2002 (1%)"), "{}", browser.run(first));
    click(&mut browser, "tbody a", "faulty");
    until_said(&mut browser, "figure", "2 failed, 1%");
    browser.run(
        "const status = document.querySelector('[aria-label=Status]'); status.value = 'failed'; \
                 status.dispatchEvent(new Event('change'))",
    );
    browser.until("document.querySelectorAll('.invocation').length === 2");
    click(&mut browser, ".invocation summary", "unreachable");
    until_said(&mut browser, ".invocation[open] .log", "customer 77!");

    // The slow version stands out among the versions of its function.
    go(&mut browser, "functions/slowed/activity", "slowed: Activity");
    let medians = "return [...document.querySelectorAll('tbody tr')].map(row => [row.cells[0], row.cells[3]].map(cell => cell.textContent))";
    let medians = browser.run(medians);
    assert_eq!((&medians[0][0], &medians[1][0]), (&json!("v2"), &json!("v1")));
    let median = |at: usize| {
        let text = medians[at][1].as_str().unwrap();
        let (value, unit) = text.split_once(' ').unwrap();
        let ms = [("µs", 0.001), ("ms", 1.0), ("s", 1000.0)]
            .into_iter()
            .find(|(name, _)| *name == unit)
            .unwrap()
            .1;
        value.parse::<f64>().unwrap() * ms
    };
    assert!(median(0) >= 100.0 && median(0) > median(1), "a sleep of 100 ms takes no less: {medians}");
    kept_to_itself(&mut browser, &node);
}
