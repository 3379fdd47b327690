//! Starting and ending a node: what stands in the way is named, and what was accepted is finished.

use crate::harness::{Node, Options, eventually, new_dir, orama, output};
use orama_test_support::guests;
use rustix::process::Signal;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

#[test]
fn a_drain_finishes_what_was_accepted() {
    let node = Node::start(Options::default());
    node.deploy("slow", &guests::wat("sleep_100_ms"), &[]);
    // Long enough for all to begin on a busy machine.
    node.deploy("slower", &guests::wat("sleep_hour"), &[("timeout_seconds", "4")]);
    let mut idle = node.connect();
    idle.write(node.invoke_bytes("slow", ""));
    idle.answer().expect(200);
    let mut running: Vec<_> = (0..8).map(|_| node.connect()).collect();
    running.iter_mut().for_each(|connection| connection.write(node.invoke_bytes("slower", "")));
    eventually("all have begun", || node.metric("orama_invocations_running") == 8.0);
    let address = node.address();
    node.signal(Signal::TERM);
    // Connections that wait for nothing are closed at once, new ones are refused.
    idle.expect_closed();
    eventually("new connections are refused", || std::net::TcpStream::connect(address).is_err());
    let ids: Vec<String> = running
        .iter_mut()
        .map(|connection| {
            let answer = connection.answer();
            let id = answer.header("x-request-id").unwrap().to_owned();
            answer.refusal(504, "TIMEOUT");
            connection.expect_closed();
            id
        })
        .collect();
    let status = node.wait();
    assert_eq!(status.code(), Some(0), "{status}\n{}", node.stderr());
    // The last record of a drained node is there after the next start.
    node.start_again();
    for id in ids {
        assert_eq!(node.record("slower", &id)["status"], "timeout");
    }
    assert_eq!(node.logs("slow", "")["count"], 1);
}

#[test]
fn the_grace_period_and_a_second_signal_end_a_drain() {
    let options = Options { config: "drain_grace_seconds = 1\n".to_owned(), ..Options::default() };
    let node = Node::start(options);
    node.deploy("slow", &guests::wat("sleep_hour"), &[("timeout_seconds", "300")]);
    let begin = |node: &Node| {
        let mut connection = node.connect();
        connection.write(node.invoke_bytes("slow", ""));
        eventually("it has begun", || node.metric("orama_invocations_running") == 1.0);
        connection
    };
    let running = begin(&node);
    let begun = Instant::now();
    let status = node.terminate();
    assert_eq!(status.code(), Some(0), "{}", node.stderr());
    assert!(begun.elapsed() >= Duration::from_secs(1), "the grace period was not given");
    assert!(node.stderr().contains("still under way"), "{}", node.stderr());
    drop(running);

    let node = Node::start(Options::default());
    node.deploy("slow", &guests::wat("sleep_hour"), &[("timeout_seconds", "300")]);
    let running = begin(&node);
    node.signal(Signal::TERM);
    eventually("it drains", || node.stderr().contains("draining"));
    let begun = Instant::now();
    // Sent until it is heard: the first signal's handler may still be at work.
    let status = loop {
        node.signal(Signal::INT);
        std::thread::sleep(Duration::from_millis(50));
        if !Path::new("/proc").join(node.pid().to_string()).join("exe").exists() {
            break node.wait();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "a second signal was not obeyed");
    };
    assert_ne!(status.code(), Some(0), "{status}");
    drop(running);
}

/// Runs a node that cannot start, to its end.
fn refused(arguments: &[&str], home: &Path, variables: &[(&str, &str)]) -> (Output, String) {
    let mut command = orama(&["serve"]);
    command.args(arguments).envs(variables.iter().copied());
    command.arg("--home").arg(home);
    let output = output(command);
    assert!(output.stdout.is_empty(), "it served: {output:?}");
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    (output, stderr)
}

#[test]
fn a_bad_configuration_is_named_and_nothing_is_started() {
    let place = new_dir("config");
    let home = place.join("home");
    let file = place.join("orama.toml");
    for (text, named) in [
        ("listen = \"127.0.0.1:0\"\nworker = 3\n", &["orama.toml:2", "`worker`", "workers"][..]),
        ("workers = 0\n", &["orama.toml:1", "`workers`", "1"]),
        ("workers = \"2\"\n", &["orama.toml:1", "`workers`", "number"]),
        ("\nlisten = \"localhost\"\n", &["orama.toml:2", "`listen`", "localhost"]),
        ("io_driver = \"kqueue\"\n", &["orama.toml:1", "`io_driver`", "epoll"]),
        ("header_timeout_seconds = 301\n", &["orama.toml:1", "`header_timeout_seconds`", "300"]),
        ("[cache]\nkind = \"redis\"\n", &["orama.toml:2", "`cache.kind`", "olric"]),
        ("[cache]\nkind = \"olric\"\n", &["orama.toml:2", "`cache.addresses`", "missing"]),
        ("listen = \n", &["orama.toml:1", "TOML"]),
    ] {
        fs::write(&file, text).unwrap();
        let (output, stderr) = refused(&["--config", file.to_str().unwrap()], &home, &[]);
        assert_eq!(output.status.code(), Some(2), "{text:?}: {stderr}");
        for part in named {
            assert!(stderr.contains(part), "{text:?}: {part:?} is not in {stderr:?}");
        }
        assert_eq!(stderr.trim_end().lines().count(), 1, "one line says it: {stderr:?}");
    }
    let missing = place.join("no-such.toml");
    let (output, stderr) = refused(&["--config", missing.to_str().unwrap()], &home, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("no-such.toml"), "{stderr}");
    for (name, value, named) in [
        ("ORAMA_WORKERS", "many", "ORAMA_WORKERS"),
        ("ORAMA_LISTEN", "here", "ORAMA_LISTEN"),
        ("ORAMA_INSTANCE_SLOTS", "0", "ORAMA_INSTANCE_SLOTS"),
        ("ORAMA_LOG", "a=b=c", "ORAMA_LOG"),
    ] {
        let (output, stderr) = refused(&[], &home, &[(name, value)]);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(named), "{stderr}");
    }
    assert_eq!(refused(&["--workers", "0"], &home, &[]).0.status.code(), Some(2));
    assert_eq!(refused(&["--listen", "nowhere"], &home, &[]).0.status.code(), Some(2));
    assert_eq!(refused(&["--no-such-flag"], &home, &[]).0.status.code(), Some(2));
    assert!(!home.exists(), "a node that is refused leaves no home behind");
    fs::remove_dir_all(place).unwrap();
}

#[test]
fn a_home_a_port_or_a_folder_that_cannot_be_used_is_named() {
    let node = Node::start(Options::default());
    let (output, stderr) = refused(&["--listen", "127.0.0.1:0"], &node.home, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("another node is running") && stderr.contains(node.home.to_str().unwrap()),
        "{stderr}"
    );
    // The one that runs is none the worse for it.
    node.deploy("echo", &guests::wat("echo"), &[]);
    assert_eq!(node.invoke("echo", "[1]").expect(200).text(), "[1]");

    let place = new_dir("taken");
    let address = node.address().to_string();
    let (output, stderr) = refused(&["--listen", &address], &place.join("a"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains(&address) && stderr.contains("in use"), "{stderr}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (_, stderr) = refused(&["--listen", &address], &place.join("b"), &[]);
    assert!(stderr.contains(&address) && stderr.contains("in use"), "{stderr}");

    let file = place.join("file");
    fs::write(&file, "not a folder").unwrap();
    let (output, stderr) = refused(&["--listen", "127.0.0.1:0"], &file, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains(file.to_str().unwrap()), "{stderr}");
    let (output, stderr) =
        refused(&["--listen", "127.0.0.1:0"], &place.join("c"), &[("ORAMA_CPU_LEVEL", "z80")]);
    assert_ne!(output.status.code(), Some(0));
    assert!(stderr.contains("z80"), "{stderr}");
    fs::remove_dir_all(place).unwrap();
}

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    let options = Options {
        config: "workers = 1\nlisten = \"203.0.113.1:1\"\nheader_timeout_seconds = 5\n".to_owned(),
        env: vec![("ORAMA_WORKERS", "7".to_owned()), ("ORAMA_LISTEN", "203.0.113.2:1".to_owned())],
        workers: 3,
        ..Options::default()
    };
    let node = Node::start(options);
    assert_eq!(node.metric("orama_cores"), 3.0);
    assert!(node.address().ip().is_loopback());
    for driver in ["epoll", "auto"] {
        let config = format!("io_driver = \"{driver}\"\n");
        let node = Node::start(Options { config, workers: 1, ..Options::default() });
        node.deploy("echo", &guests::wat("echo"), &[]);
        assert_eq!(node.invoke("echo", "[1]").expect(200).text(), "[1]");
        assert_eq!(node.terminate().code(), Some(0));
    }
}
