//! What survives: restarts, kill -9 at any moment, and files that are damaged on disk.

use crate::deploy::unique;
use crate::harness::{Node, Options, lock};
use orama_test_support::guests;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn a_restart_keeps_everything_and_compiles_nothing() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    for n in 0..30 {
        node.deploy(&format!("function-{n}"), &unique("echo", &n.to_string()), &[("timeout_seconds", "9")]);
    }
    node.deploy("function-0", &guests::wat("ignores_stdin"), &[]);
    let id = node.invoke("function-0@1", "[1]").expect(200).header("x-request-id").unwrap().to_owned();
    let (list, versions) =
        (node.get("/v1/functions").json(), node.get("/v1/functions/function-0/versions").json());
    assert_eq!((&list["count"], &versions["count"]), (&30.into(), &2.into()));

    node.restart();
    assert_eq!(node.get("/v1/functions").json(), list);
    assert_eq!(node.get("/v1/functions/function-0/versions").json(), versions);
    assert_eq!(node.record("function-0", &id)["version"], 1);
    for n in 0..30 {
        assert_eq!(node.invoke(&format!("function-{n}@1"), "[2]").expect(200).text(), "[2]");
    }
    assert_eq!(node.invoke("function-0", "").expect(200).text(), "{\"ok\":true}");
    assert_eq!(node.compilations(), 0.0);
    assert_eq!(node.metric("orama_modules_loaded"), 31.0);
}

/// What clients of a node were told, over all its lives.
#[derive(Default)]
struct Told {
    /// Names of functions by what is known of them. Each name is deployed once and deleted once at most.
    functions: Mutex<BTreeMap<String, Fate>>,
    deploys: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Deployed,
    Deleted,
    /// A delete was sent and no answer came.
    Unknown,
}

/// Deploys, invokes and deletes until told to stop or the node is gone.
fn use_node(node: &Node, told: &Told, thread: usize, stop: &AtomicBool) {
    let key = node.key();
    while !stop.load(Ordering::Relaxed) {
        let name = format!("f{thread}-{}", told.deploys.fetch_add(1, Ordering::Relaxed));
        // Some modules are shared, and go away and come back with their functions.
        let mark = if thread == 0 { "shared" } else { &name };
        let Ok(answer) = node.deploy_request(&name, &unique("echo", mark), &[]).try_send() else { return };
        if answer.status == 503 {
            continue;
        }
        answer.expect(201);
        lock(&told.functions).insert(name.clone(), Fate::Deployed);
        for _ in 0..3 {
            let Ok(answer) = node.invoke_request("always").body(format!("[\"{name}\"]")).try_send() else {
                return;
            };
            let answer = answer.expect(200);
            assert_eq!(answer.text(), format!("[\"{name}\"]"));
        }
        if told.deploys.load(Ordering::Relaxed).is_multiple_of(3) {
            lock(&told.functions).insert(name.clone(), Fate::Unknown);
            let request = node.request_as(&key, "DELETE", &format!("/v1/functions/{name}"));
            let Ok(answer) = request.try_send() else { return };
            answer.expect(200);
            lock(&told.functions).insert(name, Fate::Deleted);
        }
    }
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    const ROUNDS: u64 = 25;
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("always", &guests::wat("echo"), &[]);
    let told = Told::default();
    let mut must_be_logged = 0;
    for round in 0..ROUNDS {
        let stop = AtomicBool::new(false);
        let shown = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let (node, told, stop) = (&node, &told, &stop);
                    scope.spawn(move || use_node(node, told, thread, stop))
                })
                .collect();
            // At another moment each time, from just started to well under way.
            std::thread::sleep(Duration::from_millis(20 + 37 * (round * 7 % 11)));
            // What the log shows is acknowledged.
            let shown = node.logs("always", "?limit=50");
            node.signal(rustix::process::Signal::KILL);
            stop.store(true, Ordering::Relaxed);
            for thread in threads {
                thread.join().unwrap();
            }
            shown
        });
        node.wait();
        node.start_again();

        for (name, fate) in lock(&told.functions).iter_mut() {
            let status = node.invoke(name, "[1]").status;
            match fate {
                Fate::Deployed => assert_eq!(status, 200, "round {round}: the deploy of {name} was lost"),
                Fate::Deleted => assert_eq!(status, 404, "round {round}: the delete of {name} was lost"),
                Fate::Unknown => assert!(matches!(status, 200 | 404), "round {round}: {name}: {status}"),
            }
            if *fate == Fate::Unknown {
                *fate = if status == 200 { Fate::Deployed } else { Fate::Deleted };
            }
        }
        for record in shown["invocations"].as_array().unwrap() {
            must_be_logged += 1;
            let id = record["request_id"].as_str().unwrap();
            assert_eq!(node.record("always", id)["status"], "success", "round {round}");
        }
        // The history stays small: what is settled is deleted, apart from a few.
        lock(&told.functions).retain(|name, fate| {
            let keep = name.ends_with(['3', '7']);
            if !keep && *fate == Fate::Deployed {
                node.delete(&format!("/v1/functions/{name}")).expect(200);
            }
            keep
        });
    }
    let survivors = lock(&told.functions).values().filter(|fate| **fate == Fate::Deployed).count();
    assert!(survivors > 3 && must_be_logged > 50, "too little happened: {survivors} {must_be_logged}");
    // No module that nothing uses is left after the last start's cleaning, and none that something uses is missing.
    let list = node.get("/v1/functions").expect(200).json();
    let mut cids: Vec<String> = list["functions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|function| function["wasm_cid"].as_str().unwrap().to_owned())
        .collect();
    cids.sort();
    cids.dedup();
    let blobs = || {
        let mut names: Vec<String> = fs::read_dir(node.home.join("data/blobs"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    crate::harness::eventually("the store holds what the registry names", || blobs() == cids);
}

fn artifacts(node: &Node) -> Vec<PathBuf> {
    let entries = fs::read_dir(node.home.join("data/artifacts")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "cwasm"));
    paths.sort();
    paths
}

#[test]
fn damaged_code_on_disk_is_compiled_again() {
    type Damage = fn(&[PathBuf]);
    let damages: [(&str, Damage); 8] = [
        ("a flipped bit in the middle", |paths| {
            let mut bytes = fs::read(&paths[0]).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&paths[0], bytes).unwrap();
        }),
        ("a flipped bit in the tag", |paths| {
            let mut bytes = fs::read(&paths[0]).unwrap();
            let at = bytes.len() - 20;
            bytes[at] ^= 0x80;
            fs::write(&paths[0], bytes).unwrap();
        }),
        ("cut to half", |paths| {
            let bytes = fs::read(&paths[0]).unwrap();
            fs::write(&paths[0], &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("emptied", |paths| fs::write(&paths[0], "").unwrap()),
        ("removed", |paths| fs::remove_file(&paths[0]).unwrap()),
        ("bytes added", |paths| {
            let mut bytes = fs::read(&paths[0]).unwrap();
            bytes.extend_from_slice(b"more");
            fs::write(&paths[0], bytes).unwrap();
        }),
        ("another function's code under its name", |paths| {
            fs::copy(&paths[1], &paths[0]).map(drop).unwrap();
        }),
        ("not ours at all", |paths| fs::write(&paths[0], "\x7fELF").unwrap()),
    ];
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    node.deploy("ok", &guests::wat("ignores_stdin"), &[]);
    for (what, damage) in damages {
        assert!(node.terminate().success());
        let paths = artifacts(&node);
        assert_eq!(paths.len(), 2, "{what}");
        let sound = fs::read(&paths[0]).unwrap();
        damage(&paths);
        node.start_again();
        assert_eq!(node.invoke("echo", "[1]").expect(200).text(), "[1]", "{what}");
        assert_eq!(node.invoke("ok", "").expect(200).text(), "{\"ok\":true}", "{what}");
        assert_eq!(node.compilations(), 1.0, "{what}");
        assert!(node.stderr().contains("no valid compiled code"), "{what}: {}", node.stderr());
        // What was damaged is sound again for the next start.
        assert_eq!(fs::read(&paths[0]).unwrap().len(), sound.len(), "{what}");
    }
    // A lost key makes every artifact foreign.
    assert!(node.terminate().success());
    fs::remove_file(node.home.join("data/artifact.key")).unwrap();
    node.start_again();
    assert_eq!(node.invoke("echo", "[2]").expect(200).text(), "[2]");
    assert_eq!(node.compilations(), 1.0);
}
