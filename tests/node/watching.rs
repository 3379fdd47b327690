//! What those who watch a node find: metrics at an address of their own, the process, and its disk.

use crate::harness::{Node, Options, eventually};
use crate::http::{Connection, Request};
use orama_test_support::guests;
use std::fs;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

#[test]
fn metrics_have_an_address_of_their_own_where_one_is_named() {
    let node = Node::start(Options {
        config: "metrics_listen = \"127.0.0.1:0\"\n".to_owned(),
        ..Options::default()
    });
    eventually("the address is logged", || node.stderr().contains("serving metrics"));
    let stderr = node.stderr();
    let line =
        stderr.lines().find(|line| line.contains("serving metrics")).unwrap_or_else(|| panic!("{stderr}"));
    let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
    let door: SocketAddr = address.parse().unwrap();
    let at_door = |method: &str, path: &str| Request::new(door, method, path).send();

    assert!(at_door("GET", "/metrics").expect(200).text().contains("orama_cores 2"));
    assert_eq!(at_door("GET", "/ready").expect(200).json()["status"], "ready");
    assert_eq!(at_door("GET", "/health").expect(200).json()["status"], "ok");
    // Nothing else is there, whoever asks.
    for path in ["/v1/functions", "/console", "/fn/default/echo", "/v1/invoke/default/echo", "/"] {
        let request =
            Request::new(door, "GET", path).header("authorization", &format!("Bearer {}", node.key()));
        assert_eq!(request.send().status, 404, "{path}");
    }
    at_door("POST", "/metrics").refusal(405, "METHOD_NOT_ALLOWED");

    // The main address keeps them from strangers, and stays good for load balancers.
    node.anonymous("GET", "/metrics").send().refusal(401, "UNAUTHORIZED");
    node.anonymous("GET", "/health").send().expect(200);
    node.anonymous("GET", "/ready").send().expect(200);
    let admin = node
        .request("POST", "/v1/keys")
        .body(r#"{"namespace":"default","role":"admin"}"#)
        .send()
        .expect(201)
        .json();
    node.request_as(admin["api_key"].as_str().unwrap(), "GET", "/metrics").send().refusal(403, "FORBIDDEN");
    assert!(node.get("/metrics").expect(200).text().contains("orama_cores 2"));

    // More connections than it takes are refused; those that are open go on, and the node itself does not notice.
    let mut open: Vec<_> = (0..64).map(|_| Connection::open(door)).collect();
    let scrape = Request::new(door, "GET", "/health").bytes();
    for connection in &mut open {
        connection.write(&scrape);
        assert_eq!(connection.answer().status, 200);
    }
    assert_eq!(Connection::open(door).answer().status, 503);
    node.anonymous("GET", "/health").send().expect(200);
    assert!(node.terminate().success(), "idle readers of metrics do not keep it");
}

#[test]
fn an_address_for_metrics_that_is_taken_is_named() {
    let node = Node::start(Options::default());
    let mut command = crate::harness::orama(&["serve", "--listen", "127.0.0.1:0", "--home"]);
    command.arg(node.home.join("other")).env("ORAMA_METRICS_LISTEN", node.address().to_string());
    let (_, stderr) = crate::process::run(1, command);
    assert!(stderr.contains(&node.address().to_string()) && stderr.contains("in use"), "{stderr}");
}

#[test]
fn the_process_and_its_disk_are_told_by_their_usual_names() {
    let node = Node::start(Options::default());
    node.deploy("echo", &guests::wat("echo"), &[]);
    let before = node.metric("process_cpu_seconds_total");
    for _ in 0..300 {
        node.invoke("echo", "[1]").expect(200);
    }
    assert!(node.metric("process_cpu_seconds_total") > before);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let started = node.metric("process_start_time_seconds");
    assert!((now - 600.0..=now + 2.0).contains(&started), "{started} of {now}");
    let started_node = node.metric("orama_start_time_seconds");
    assert!((started - started_node).abs() < 5.0, "{started} and {started_node}");

    // As the system itself says.
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let of_status = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap()
    };
    let near = |metric: f64, system: f64| metric > system * 0.5 && metric < system * 2.0;
    assert!(near(node.metric("process_resident_memory_bytes"), of_status("VmRSS:") * 1024.0));
    assert!(near(node.metric("process_virtual_memory_bytes"), of_status("VmSize:") * 1024.0));
    assert!(near(node.metric("process_threads"), of_status("Threads:")));
    let files = fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count() as f64;
    assert!(near(node.metric("process_open_fds"), files));
    assert!(node.metric("process_max_fds") >= node.metric("process_open_fds"));

    assert!(node.metric("orama_disk_free_bytes") > 1e6);
    assert!(node.metric("orama_artifacts_bytes") > 1e3);
    for database in ["registry", "events", "records"] {
        assert!(node.metric(&format!("orama_database_bytes{{database=\"{database}\"}}")) > 0.0, "{database}");
    }
    assert!(node.metric("orama_database_bytes{database=\"namespaces\"}") >= 0.0);
}
