//! A real browser visits functions.

use crate::chromium::Browser;
use crate::harness::{Node, Options};
use orama_test_support::guests;
use serde_json::{Value, json};
use std::fs;

/// What the page says of a fetch.
const FETCH: &str = "const told = async (url, options) => { try { const answer = await fetch(url, options); \
                     return [answer.status, await answer.text(), answer.headers.get('x-request-id') !== null]; } \
                     catch (error) { return String(error); } };";

#[test]
fn a_browser_uses_functions_across_origins() {
    let node = Node::start(Options::default());
    let Ok(site) = guests::go("site", &[]) else { return };
    let site = fs::read(site).unwrap();
    let own = format!("http://{}", node.address());
    // The same node is another origin under another name.
    let other = format!("http://localhost:{}", node.address().port());
    node.deploy("page", &site, &[("is_public", "true")]);
    node.deploy("closed", &site, &[("is_public", "true")]);
    let cors = json!({"cors": {"origins": [own], "methods": ["PUT"], "headers": ["x-own"]}}).to_string();
    node.deploy("api", &site, &[("is_public", "true"), ("metadata", &cors)]);
    node.deploy("closed-echo", &guests::wat("echo"), &[("is_public", "true")]);
    node.deploy("api-echo", &guests::wat("echo"), &[("is_public", "true"), ("metadata", &cors)]);
    let Some(mut browser) = Browser::start() else { return };
    browser.visit(&format!("{own}/fn/default/page/hello/Browser"));
    assert_eq!(browser.run("return document.body.innerText"), "Hello, Browser!");

    // Its cookie is kept, and out of reach of scripts.
    let cookie = format!("{FETCH} return await told('/fn/default/page/cookie')");
    assert_eq!(browser.run(&cookie), json!([200, "none", true]));
    assert_eq!(browser.run(&cookie), json!([200, "abc", true]));
    browser.visit(&format!("{own}/fn/default/page/hello/again"));
    assert_eq!(browser.run(&cookie), json!([200, "abc", true]));
    assert_eq!(browser.run("return document.cookie.includes('session')"), false);

    // Another origin's function is open to the page where its `cors` says so, also after a preflight, and errors are readable.
    let call = |path: &str, options: &str| format!("{FETCH} return await told('{other}{path}', {options})");
    assert_eq!(browser.run(&call("/fn/default/api/hello/x", "{}"))[0], 200);
    let put = browser
        .run(&call("/fn/default/api/request", "{method: 'PUT', headers: {'x-own': 'yes'}, body: 'hi'}"));
    assert!(put[0] == 200 && put[2] == true, "{put}");
    let seen: Value = serde_json::from_str(put[1].as_str().unwrap()).unwrap();
    assert_eq!((&seen["method"], &seen["body"]), (&json!("PUT"), &json!("hi")));
    assert_eq!((&seen["headers"]["X-Own"], &seen["headers"]["Origin"]), (&json!(["yes"]), &json!([own])));
    let failed = browser.run(&call("/fn/default/api/fails", "{}"));
    assert!(failed[0] == 500 && failed[1].as_str().unwrap().contains("FUNCTION_EXIT"), "{failed}");
    for (path, options) in [
        ("/fn/default/closed/hello/x", "{}"),
        ("/fn/default/api/request", "{method: 'DELETE'}"),
        ("/fn/default/api/request", "{method: 'PUT', headers: {'x-other': 'no'}}"),
        ("/fn/default/api/cookie", "{credentials: 'include'}"),
    ] {
        assert_eq!(browser.run(&call(path, options)), "TypeError: Failed to fetch", "{path} {options}");
    }

    // Events of both origins, as they are written.
    for origin in [&own, &other] {
        let events = browser.run(&format!(
            "const source = new EventSource('{origin}/fn/default/api/events'); const seen = []; \
             return await new Promise((done, fail) => {{ \
               source.onmessage = event => {{ seen.push([event.lastEventId, Number(event.data), Date.now() * 1000]); \
                 if (seen.length === 3) {{ source.close(); done(seen); }} }}; \
               source.onerror = () => fail(new Error('broken after ' + seen.length)); }});"
        ));
        let ids: Vec<_> = (0..3).map(|at| events[at][0].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids, ["0", "1", "2"]);
        assert!(
            events[0][2].as_f64() < events[2][1].as_f64(),
            "the first was here before the last was written: {events}"
        );
    }

    // WebSockets ask for the same permission.
    let socket = |origin: &str, name: &str| {
        format!(
            "const socket = new WebSocket('{}/v1/functions/{name}/ws?namespace=default'); \
             return await new Promise(done => {{ socket.onopen = () => socket.send('1'); \
               socket.onmessage = event => done(JSON.parse(event.data).status); socket.onerror = () => done('refused'); }});",
            origin.replacen("http", "ws", 1)
        )
    };
    assert_eq!(browser.run(&socket(&own, "closed-echo")), "success");
    assert_eq!(browser.run(&socket(&other, "api-echo")), "success");
    assert_eq!(browser.run(&socket(&other, "closed-echo")), "refused");
}
