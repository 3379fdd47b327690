//! Two tenants under load: nothing of one ever reaches the other, and no two requests are mixed up.

use crate::harness::{Node, Options, eventually};
use crate::http::Answer;
use orama_test_support::guests;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TENANTS: [&str; 2] = ["left", "right"];
/// Threads of each tenant, and requests of each thread.
const THREADS: usize = 4;
const REQUESTS: usize = 300;

/// What a tenant has, and its key to all of it.
struct Tenant {
    name: &'static str,
    other: &'static str,
    key: String,
}

/// A web service that both tenants call. It answers after a moment with what it was sent.
struct Service {
    address: SocketAddr,
    /// Each request's path with the tenant that its header named.
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let kept = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(stream.unwrap(), &kept));
            }
        });
        Self { address, seen }
    }
}

/// Serves one kept connection. All of its requests must be of one tenant.
fn serve(stream: TcpStream, seen: &Mutex<Vec<(String, String)>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    let mut of_connection = None;
    loop {
        let mut line = String::new();
        if !matches!(reader.read_line(&mut line), Ok(1..)) {
            return;
        }
        let path = line.split(' ').nth(1).unwrap().to_owned();
        let (mut tenant, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "x-tenant" => value.trim().clone_into(&mut tenant),
                "content-length" => length = value.trim().parse().unwrap(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let first = of_connection.get_or_insert_with(|| tenant.clone());
        // Told in the answer, where the test sees it.
        let shared = if *first == tenant { "" } else { " over a connection of another tenant" };
        seen.lock().unwrap().push((path.clone(), tenant));
        std::thread::sleep(Duration::from_millis(path.len() as u64 % 5));
        let body = format!("{path} {}{shared}", String::from_utf8_lossy(&body));
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

impl Tenant {
    fn request(&self, node: &Node, method: &str, path: &str, body: &Value) -> Answer {
        node.request_as(&self.key, method, path).body(body.to_string()).send()
    }

    fn invoke(&self, node: &Node, body: &Value) -> Answer {
        self.request(node, "POST", "/v1/functions/worker/invoke", body).expect(200)
    }

    /// Gives the tenant the same things under the same names as the other one, each with its own content.
    fn set_up(node: &Node, name: &'static str, other: &'static str, wasm: &[u8]) -> Self {
        node.request("POST", "/v1/namespaces").body(json!({ "name": name }).to_string()).send().expect(201);
        let body = json!({ "namespace": name, "role": "admin" }).to_string();
        let key = node.request("POST", "/v1/keys").body(body).send().expect(201).json();
        let tenant = Self { name, other, key: key["api_key"].as_str().unwrap().to_owned() };
        let metadata = json!({ "env_vars": { "MARK": format!("{name}-env") } }).to_string();
        for function in ["worker", "listener"] {
            let parts = [("name", function.as_bytes()), ("metadata", metadata.as_bytes()), ("wasm", wasm)];
            node.request_as(&tenant.key, "POST", "/v1/functions").form(&parts).send().expect(201);
        }
        let secret = json!({ "name": "TOKEN", "value": format!("{name}-secret") });
        tenant.request(node, "PUT", "/v1/functions/secrets", &secret).expect(200);
        let trigger = json!({ "topic": "news" });
        tenant.request(node, "POST", "/v1/functions/listener/triggers", &trigger).expect(201);
        let steps = json!({ "do": "steps", "steps": [
            { "do": "execute", "sql": "CREATE TABLE items (text TEXT)" },
            { "do": "execute", "sql": "INSERT INTO items VALUES (?)", "args": [format!("{name}-row")] },
            { "do": "cache_set", "key": "shared", "value": format!("{name}-cached") },
        ] });
        tenant.invoke(node, &steps);
        tenant
    }

    /// One request that uses everything, and all that can be seen of it at once.
    fn use_all(&self, node: &Node, service: SocketAddr, tag: &str) -> (String, Value) {
        let name = self.name;
        let publish = tag.ends_with('0');
        let mut steps = vec![
            json!({ "do": "secret", "name": "TOKEN" }),
            json!({ "do": "context", "key": "MARK", "text": tag }),
            json!({ "do": "sleep", "ms": tag.len() % 3 }),
            json!({ "do": "query", "sql": "SELECT text FROM items" }),
            json!({ "do": "cache_get", "key": "shared" }),
            json!({ "do": "fetch", "method": "POST", "url": format!("http://{service}/{tag}"),
                    "headers": { "x-tenant": name }, "body": tag }),
            json!({ "do": "cache_incr", "key": "count" }),
        ];
        if publish {
            steps.push(
                json!({ "do": "publish", "topic": "news", "data": { "do": "log_input", "text": tag } }),
            );
        }
        let answer = self.invoke(node, &json!({ "do": "steps", "steps": steps }));
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert!(!answer.text().contains(self.other), "{name} was answered {}", answer.text());
        let json = answer.json();
        assert_eq!(json[0]["value"], format!("{name}-secret"), "{json}");
        assert_eq!(json[1]["env"], format!("{name}-env"), "{json}");
        assert_eq!(json[1]["request_id"], id, "{json}");
        assert_eq!(json[3]["rows"], json!([{ "text": format!("{name}-row") }]), "{json}");
        assert_eq!(json[4]["value"], format!("{name}-cached"), "{json}");
        assert_eq!(json[5]["status"], 200, "{json}");
        assert_eq!(json[5]["body"], format!("/{tag} {tag}"), "{json}");
        if publish {
            assert_eq!(json[7]["published"], true, "{json}");
        }
        (id, json[6]["value"].clone())
    }

    /// The requests of one thread: the id, the tag and the count of each.
    fn requests(&self, node: &Node, service: SocketAddr, thread: usize) -> Vec<(String, String, i64)> {
        let one = |n| {
            let tag = format!("{}-{thread}-{n}", self.name);
            let (id, count) = self.use_all(node, service, &tag);
            (id, tag, count.as_i64().unwrap())
        };
        (0..REQUESTS).map(one).collect()
    }
}

#[test]
fn two_tenants_under_load_never_see_each_other() {
    let Ok(wasm) = guests::tinygo("misc", &[]) else { return };
    let wasm = std::fs::read(wasm).unwrap();
    let service = Service::start();
    let config = format!("[egress]\nallow = [\"{}\"]\n", service.address);
    let Ok(node) = Node::try_start(Options { config, databases: &TENANTS, ..Options::default() }) else {
        return;
    };
    let [left, right] = TENANTS;
    let tenants = [Tenant::set_up(&node, left, right, &wasm), Tenant::set_up(&node, right, left, &wasm)];

    // By tenant: the tag of each request by its id, and every value of its counter.
    let results: Vec<(HashMap<String, String>, Vec<i64>)> = std::thread::scope(|scope| {
        let threads: Vec<Vec<_>> = tenants
            .iter()
            .map(|tenant| {
                let (node, address) = (&node, service.address);
                let of_thread = |thread| move || tenant.requests(node, address, thread);
                (0..THREADS).map(|thread| scope.spawn(of_thread(thread))).collect()
            })
            .collect();
        let join = |threads: Vec<std::thread::ScopedJoinHandle<'_, Vec<(String, String, i64)>>>| {
            let all = threads.into_iter().flat_map(|thread| thread.join().unwrap());
            let (mut tags, mut counts) = (HashMap::new(), Vec::new());
            for (id, tag, count) in all {
                assert!(tags.insert(id, tag).is_none(), "an id was given twice");
                counts.push(count);
            }
            (tags, counts)
        };
        threads.into_iter().map(join).collect()
    });

    let ids: HashSet<&String> = results.iter().flat_map(|(tags, _)| tags.keys()).collect();
    assert_eq!(ids.len(), TENANTS.len() * THREADS * REQUESTS, "ids are unique over all tenants");
    for (path, tenant) in service.seen.lock().unwrap().iter() {
        assert!(path.starts_with(&format!("/{tenant}-")), "{path} came from {tenant}");
    }
    for (tenant, (tags, mut counts)) in tenants.iter().zip(results) {
        // Had a counter been shared, or an increment been lost, there would be others.
        counts.sort_unstable();
        assert_eq!(counts, (1..=(THREADS * REQUESTS) as i64).collect::<Vec<_>>(), "{}", tenant.name);
        tenant.check_logs(&node, &tags);
    }
}

impl Tenant {
    /// Each request's record holds its own messages and no others; events came from the tenant's own topic.
    fn check_logs(&self, node: &Node, tags: &HashMap<String, String>) {
        let logs = |function: &str, query: &str| {
            let path = format!("/v1/functions/{function}/logs?limit=1000{query}");
            let answer = node.request_as(&self.key, "GET", &path).send().expect(200);
            assert!(!answer.text().contains(self.other), "in the log of {}: {}", self.name, answer.text());
            answer.json()
        };
        for (id, tag) in tags.iter().take(200) {
            let record = &logs("worker", &format!("&request_id={id}"))["invocations"][0];
            let told: Vec<_> =
                record["messages"].as_array().unwrap().iter().map(|m| m["message"].clone()).collect();
            assert_eq!(told, [json!(format!("info: {tag}")), json!(format!("error: {tag}")), json!("")]);
        }
        logs("worker", "");
        let published: HashSet<String> = tags.values().filter(|tag| tag.ends_with('0')).cloned().collect();
        eventually("every event was handled", || {
            let events = logs("listener", "");
            let events = events["invocations"].as_array().unwrap().iter().map(|record| {
                let event = record["messages"][0]["message"].as_str().unwrap();
                let event: Value = serde_json::from_str(event).unwrap();
                assert_eq!(event["namespace"], self.name);
                event["data"]["text"].as_str().unwrap().to_owned()
            });
            events.collect::<HashSet<_>>() == published
        });
    }
}

#[test]
fn a_tenant_cannot_reach_the_other_by_name() {
    let Ok(wasm) = guests::tinygo("misc", &[]) else { return };
    let wasm = std::fs::read(wasm).unwrap();
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let [left, right] = TENANTS;
    let (left, _right) =
        (Tenant::set_up(&node, left, right, &wasm), Tenant::set_up(&node, right, left, &wasm));
    for (method, path, body) in [
        ("GET", "/v1/functions?namespace=right", Value::Null),
        ("GET", "/v1/functions/worker?namespace=right", Value::Null),
        ("GET", "/v1/functions/worker/versions?namespace=right", Value::Null),
        ("GET", "/v1/functions/worker/logs?namespace=right", Value::Null),
        ("DELETE", "/v1/functions/worker?namespace=right", Value::Null),
        ("POST", "/v1/functions/worker/invoke?namespace=right", json!({})),
        ("POST", "/v1/invoke/right/worker", json!({})),
        ("GET", "/v1/functions/secrets?namespace=right", Value::Null),
        ("PUT", "/v1/functions/secrets?namespace=right", json!({ "name": "TOKEN", "value": "taken over" })),
        ("DELETE", "/v1/functions/secrets/TOKEN?namespace=right", Value::Null),
        ("GET", "/v1/functions/worker/triggers?namespace=right", Value::Null),
        ("POST", "/v1/functions/worker/triggers?namespace=right", json!({ "topic": "t" })),
        ("GET", "/v1/functions/worker/dead-letters?namespace=right", Value::Null),
        ("POST", "/v1/functions/worker/dead-letters/replay?namespace=right", json!({})),
        ("POST", "/v1/pubsub/publish?namespace=right", json!({ "topic": "news", "data": 1 })),
        ("GET", "/v1/keys?namespace=right", Value::Null),
        ("POST", "/v1/keys", json!({ "namespace": "right", "role": "invoke" })),
        ("GET", "/v1/namespaces", Value::Null),
        ("POST", "/v1/namespaces", json!({ "name": "third" })),
        ("DELETE", "/v1/namespaces/right", Value::Null),
        ("POST", "/v1/secrets/rotate-key", json!({})),
    ] {
        let request = node.request_as(&left.key, method, path).header("x-namespace", "right");
        let request = if body.is_null() { request } else { request.body(body.to_string()) };
        let message = request.send().refusal(403, "FORBIDDEN");
        assert!(!message.contains("right-"), "{method} {path}: {message}");
    }
    // Headers choose nothing: the tenant stays its own.
    let answer = left.invoke(&node, &json!({ "do": "context", "key": "MARK" }));
    assert_eq!(answer.json()["env"], "left-env");
}
