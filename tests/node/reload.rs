//! SIGHUP: what a running node takes over of its configuration, and that nothing of it can end the node.

use crate::harness::{Node, Options, eventually, new_dir};
use crate::jwt::{claims, eddsa, put_key, with_keys};
use orama_test_support::guests;
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Sends SIGHUP and waits until the node has said something for the `times`-th time.
#[track_caller]
fn hang_up(node: &Node, words: &str, times: usize) {
    node.signal(Signal::HUP);
    eventually(words, || node.stderr().matches(words).count() >= times);
}

const READ_AGAIN: &str = "the configuration was read again";
const NOT_READ: &str = "the configuration was not read again";

/// Replaces the lines of the node's config file that its test wrote; those of its servers stay.
fn change(node: &Node, from: &str, to: &str) {
    let path = node.home.join("test.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn keys_of_tokens_are_read_again_and_bad_ones_change_nothing() {
    let dir = new_dir("keys");
    let (first, second) = (dir.join("first.pem"), dir.join("second.pem"));
    put_key(&first, "p256.pub.pem");
    put_key(&second, "ed25519.pub.pem");
    let Ok(node) = Node::try_start(with_keys(&first, Vec::new())) else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    let token = eddsa(&claims("0xabc", "default"));
    let status = || node.request_as(&token, "POST", "/v1/functions/echo/invoke").body("1").send().status;
    assert_eq!(status(), 401);

    // Requests flow meanwhile, and none of them notices.
    let (stop, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                node.invoke("echo", "[1]").expect(200);
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Another file.
        let path = |path: &Path| path.display().to_string();
        change(&node, &path(&first), &path(&second));
        hang_up(&node, READ_AGAIN, 1);
        assert_eq!(status(), 200);

        // A bad file is named, and the keys before stay.
        fs::write(&second, "no keys").unwrap();
        hang_up(&node, READ_AGAIN, 2);
        assert!(node.stderr().contains(&path(&second)), "{}", node.stderr());
        assert_eq!(status(), 200);
        fs::remove_file(&second).unwrap();
        hang_up(&node, READ_AGAIN, 3);
        assert_eq!(status(), 200);

        // So does a file that is named and not there, and a config that is none.
        change(&node, &path(&second), &path(&dir.join("nowhere.pem")));
        hang_up(&node, "the issuers of tokens stay as they were", 1);
        assert!(node.stderr().contains("nowhere.pem"), "{}", node.stderr());
        assert_eq!(status(), 200);
        change(&node, "[auth]", "[auth");
        hang_up(&node, NOT_READ, 1);
        assert!(node.stderr().contains("test.toml:1"), "{}", node.stderr());
        assert_eq!(status(), 200);
        let before = sent.load(Ordering::Relaxed);
        eventually("requests go on", || sent.load(Ordering::Relaxed) > before + 2);
        stop.store(true, Ordering::Relaxed);
    });

    // Without issuers, no token counts any more.
    let text = fs::read_to_string(node.home.join("test.toml")).unwrap();
    let rest: Vec<_> =
        text.lines().filter(|line| !line.contains("[auth") && !line.contains("jwt =")).collect();
    fs::write(node.home.join("test.toml"), rest.join("\n")).unwrap();
    hang_up(&node, READ_AGAIN, 5);
    assert_eq!(status(), 401);
    assert!(node.terminate().success(), "{}", node.stderr());
}

#[test]
fn the_filter_of_the_log_follows_the_file_and_other_keys_wait_for_a_restart() {
    let config = "header_timeout_seconds = 9\n[log]\nfilter = \"warn\"\n".to_owned();
    let Ok(node) = Node::try_start(Options { config, ..Options::default() }) else { return };
    assert!(!node.stderr().contains("INFO"), "{}", node.stderr());
    change(&node, "\"warn\"", "\"info,access=off\"");
    hang_up(&node, READ_AGAIN, 1);
    assert!(!node.stderr().contains("need a restart"), "{}", node.stderr());

    change(&node, "= 9", "= 8");
    hang_up(&node, "need a restart", 1);
    assert!(node.stderr().contains("header_timeout_seconds"), "{}", node.stderr());

    // A filter that is none: the node says where, and logs as before.
    change(&node, "\"info,access=off\"", "\"a=b=c\"");
    hang_up(&node, NOT_READ, 1);
    assert!(node.stderr().contains("log.filter"), "{}", node.stderr());
    change(&node, "\"a=b=c\"", "\"warn\"");
    node.signal(Signal::HUP);
    eventually("the filter is the first one", || {
        let before = node.stderr().matches(READ_AGAIN).count();
        node.signal(Signal::HUP);
        std::thread::sleep(std::time::Duration::from_millis(200));
        node.stderr().matches(READ_AGAIN).count() == before
    });
    node.anonymous("GET", "/health").send().expect(200);
    assert!(node.terminate().success(), "{}", node.stderr());
}

#[test]
fn a_node_without_anything_to_reload_lives_on() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    if crate::ON_SERVERS {
        for server in ["server=\"rqlite\" version=\"", "server=\"kubo\" version=\""] {
            eventually(server, || node.stderr().contains(server));
        }
    }
    for times in 1..=3 {
        hang_up(&node, READ_AGAIN, times);
    }
    node.deploy("echo", &guests::wat("echo"), &[]);
    assert_eq!(node.invoke("echo", "[1]").expect(200).text(), "[1]");
    // Nor does one that drains hear it as an end.
    node.signal(Signal::TERM);
    node.signal(Signal::HUP);
    assert_eq!(node.wait().code(), Some(0), "{}", node.stderr());
}
