//! A browser for tests: Chromium without a window, told what to do over its debugging protocol.

use crate::harness::{eventually, new_dir};
use crate::http::Request;
use crate::process::InFolder;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orama_test_support::tools;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio_tungstenite::tungstenite;
use tungstenite::{Message, WebSocket};

/// A browser and its one page.
pub struct Browser {
    _process: InFolder,
    page: WebSocket<TcpStream>,
    asked: u64,
    /// What the browser said by itself.
    events: Vec<Value>,
}

impl Browser {
    /// Starts a browser; `None` when there is none, which was reported.
    pub fn start() -> Option<Self> {
        let program = tools::require_or_report("chromium-headless-shell").ok()?;
        let dir = new_dir("browser");
        let port_file = dir.join("DevToolsActivePort");
        let mut command = Command::new(program);
        // The sandbox does not work for root, and the pages are the test's own.
        command.args(["--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]);
        command.arg(format!("--user-data-dir={}", dir.display())).arg("about:blank");
        let process = InFolder::start(command, dir);
        // The port stands in the first line, and the file is written at once.
        let port = || fs::read_to_string(&port_file).ok()?.lines().next()?.parse::<u16>().ok();
        eventually("the browser listens", || {
            process.must_run();
            port().is_some()
        });
        let address = ([127, 0, 0, 1], port().unwrap()).into();
        let pages = Request::to_host(address, "localhost", "GET", "/json/list").send().expect(200);
        let url = pages.json()[0]["webSocketDebuggerUrl"].as_str().unwrap().to_owned();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let (page, _) = tungstenite::client(url, stream).unwrap();
        Some(Self { _process: process, page, asked: 0, events: Vec::new() })
    }

    #[track_caller]
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let asked = json!({"id": self.asked, "method": method, "params": params}).to_string();
        self.page.send(Message::text(asked)).unwrap();
        loop {
            let answer = self.next();
            if answer["id"] == self.asked {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn next(&mut self) -> Value {
        let message = self.page.read().unwrap();
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }

    /// The parameters of everything of one kind that the browser said so far.
    pub fn said(&self, method: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["method"] == method).map(|event| &event["params"]).collect()
    }

    /// Visits a page and waits until it has loaded.
    #[track_caller]
    pub fn visit(&mut self, url: &str) {
        self.ask("Page.enable", json!({}));
        let result = self.ask("Page.navigate", json!({ "url": url }));
        assert!(result["errorText"].is_null(), "{url}: {result}");
        self.loaded();
    }

    #[track_caller]
    pub fn reload(&mut self) {
        self.ask("Page.reload", json!({}));
        self.loaded();
    }

    fn loaded(&mut self) {
        loop {
            let event = self.next();
            let is_loaded = event["method"] == "Page.loadEventFired";
            self.events.push(event);
            if is_loaded {
                return;
            }
        }
    }

    /// The value of the body of an async function that runs in the page.
    #[track_caller]
    pub fn run(&mut self, body: &str) -> Value {
        let expression = format!("(async () => {{ {body} }})()");
        self.evaluate(&expression, json!({}))
    }

    #[track_caller]
    fn evaluate(&mut self, expression: &str, place: Value) -> Value {
        let mut asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        asked.as_object_mut().unwrap().extend(place.as_object().unwrap().clone());
        let result = self.ask("Runtime.evaluate", asked);
        let shown: String = expression.chars().take(500).collect();
        assert!(result["exceptionDetails"].is_null(), "{shown}: {result}");
        result["result"]["value"].clone()
    }

    /// Runs a library in the page beside its scripts and policy, and then an expression that uses it.
    #[track_caller]
    pub fn run_apart(&mut self, library: &str, expression: &str) -> Value {
        let tree = self.ask("Page.getFrameTree", json!({}));
        let frame = &tree["frameTree"]["frame"]["id"];
        let world = self.ask("Page.createIsolatedWorld", json!({ "frameId": frame }));
        let place = json!({"contextId": world["executionContextId"]});
        self.evaluate(&format!("{library}; null"), place.clone());
        self.evaluate(expression, place)
    }

    /// Waits until an expression is true in the page.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        let body = format!("return Boolean({expression})");
        let page = RefCell::new(self);
        eventually(expression, || page.borrow_mut().run(&body) == true);
    }

    /// The size of the page in CSS pixels, and whether the reader's system is dark.
    pub fn resize(&mut self, width: u32, height: u32, is_dark: bool) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", size);
        // They would hide a page that is a little too wide.
        self.ask("Emulation.setScrollbarsHidden", json!({"hidden": true}));
        let scheme = if is_dark { "dark" } else { "light" };
        // A colour that is on its way to another one has no contrast of its own.
        let features = json!({"features": [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]});
        self.ask("Emulation.setEmulatedMedia", features);
    }

    /// A picture of the page as it is seen, as PNG.
    pub fn picture(&mut self) -> Vec<u8> {
        let shot = self.ask("Page.captureScreenshot", json!({"format": "png"}));
        STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()
    }

    /// Types into what has the focus.
    pub fn write(&mut self, text: &str) {
        self.ask("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key that is named as in `KeyboardEvent.key`.
    pub fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, None),
            "Enter" => (13, Some("\r")),
            "Escape" => (27, None),
            _ => panic!("the number of {key} is not known here"),
        };
        let event =
            |kind: &str| json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
        let mut down = event("keyDown");
        if let Some(text) = text {
            down["text"] = text.into();
        }
        self.ask("Input.dispatchKeyEvent", down);
        self.ask("Input.dispatchKeyEvent", event("keyUp"));
    }

    /// Chooses a file in the page's one input of files.
    pub fn choose(&mut self, file: &Path) {
        let document = self.ask("DOM.getDocument", json!({}));
        let of = json!({"nodeId": document["root"]["nodeId"], "selector": "input[type=file]"});
        let input = self.ask("DOM.querySelector", of);
        self.ask("DOM.setFileInputFiles", json!({"nodeId": input["nodeId"], "files": [file]}));
    }
}
