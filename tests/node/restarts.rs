//! Restarts and kills, version by version: each keeps its number and its own answer.

use crate::harness::{Node, Options, eventually};
use crate::speakers::{said, speaker};
use rustix::process::Signal;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn versions_keep_their_numbers_settings_and_answers() {
    let node = Node::start(Options::default());
    node.deploy("kept", &speaker("one "), &[("timeout_seconds", "7")]);
    node.deploy("kept", &speaker("two "), &[("memory_limit_mb", "17"), ("is_public", "true")]);
    node.deploy("gone", &speaker("gone "), &[]);
    node.deploy("shrunk", &speaker("one "), &[]);
    node.deploy("shrunk", &speaker("three "), &[]);
    node.delete("/v1/functions/gone").expect(200);
    node.delete("/v1/functions/shrunk@2").expect(200);
    for n in 0..5 {
        said(node.invoke("kept@1", format!("{n}")));
        node.invoke("kept@9", "").refusal(404, "FUNCTION_NOT_FOUND");
    }
    let pages = [
        "/v1/functions",
        "/v1/functions/kept",
        "/v1/functions/kept@1",
        "/v1/functions/kept/versions",
        "/v1/functions/kept/logs",
    ];
    let before = pages.map(|page| node.get(page).expect(200).json());
    assert_eq!(before[4]["count"], 5, "{}", before[4]);
    let key = node.key();
    for round in 1..=3 {
        node.restart();
        assert_eq!(node.key(), key);
        for (page, before) in pages.iter().zip(&before) {
            assert_eq!(node.get(page).expect(200).json(), *before, "{page} after restart {round}");
        }
        node.invoke("gone", "").refusal(404, "FUNCTION_NOT_FOUND");
        node.invoke("shrunk@2", "").refusal(404, "FUNCTION_NOT_FOUND");
    }
    assert_eq!(said(node.invoke("kept@1", "a")), "one a");
    assert_eq!(said(node.invoke("kept@2", "b")), "two b");
    assert_eq!(said(node.anonymous("POST", "/v1/invoke/default/kept").body("c").send()), "two c");
    assert_eq!(said(node.invoke("shrunk", "d")), "one d");
    assert_eq!(node.compilations(), 0.0, "the code was on the disk");
    // A version's number is never given again.
    assert_eq!(node.deploy("kept", &speaker("one "), &[])["function"]["version"], 3);
    assert_eq!(node.deploy("shrunk", &speaker("one "), &[])["function"]["version"], 3);
    assert_eq!(node.compilations(), 0.0, "the module was known");
}

/// What a client knows of one version of a function.
#[derive(Clone, Debug)]
enum Known {
    /// Acknowledged.
    Says(String),
    /// Its delete was acknowledged.
    Deleted,
    /// The node was killed before it said whether it did what it was asked.
    PerhapsSays(String),
}

/// One client's knowledge, by function and version.
type Ledger = BTreeMap<(String, u32), Known>;

#[track_caller]
fn check(node: &Node, ledger: &Ledger) {
    for ((name, version), known) in ledger {
        let answer = node.invoke(&format!("{name}@{version}"), "!");
        match known {
            Known::Says(text) => assert_eq!(said(answer), format!("{text}!"), "{name}@{version}"),
            Known::PerhapsSays(text) if answer.status == 200 => {
                assert_eq!(said(answer), format!("{text}!"), "{name}@{version}");
            }
            Known::Deleted | Known::PerhapsSays(_) => {
                answer.refusal(404, "FUNCTION_NOT_FOUND");
            }
        }
    }
}

/// Deploys, replaces and deletes functions of its own until the node is gone, which ends it with `None`.
fn churn(node: &Node, who: &str, ledger: &mut Ledger) -> Option<()> {
    for n in 0.. {
        let name = format!("{who}-{n}");
        for version in 1..=2 {
            let text = format!("{name}/{version} ");
            let key = (name.clone(), version);
            ledger.insert(key.clone(), Known::PerhapsSays(text.clone()));
            let answer = node.deploy_request(&name, &speaker(&text), &[]).try_send().ok()?.expect(201);
            assert_eq!(answer.json()["function"]["version"], version, "{name}");
            ledger.insert(key, Known::Says(text));
        }
        // A third keeps both versions, a third loses one, a third goes.
        let (target, deleted) = match n % 3 {
            0 => continue,
            1 => (format!("{name}@1"), 1..=1),
            _ => (name.clone(), 1..=2),
        };
        let keys: Vec<_> = deleted.map(|version| (name.clone(), version)).collect();
        for key in &keys {
            if let Some(Known::Says(text)) = ledger.get(key).cloned() {
                ledger.insert(key.clone(), Known::PerhapsSays(text));
            }
        }
        node.request("DELETE", &format!("/v1/functions/{target}")).try_send().ok()?.expect(200);
        ledger.extend(keys.into_iter().map(|key| (key, Known::Deleted)));
    }
    None
}

/// Invokes until the node is gone.
fn invoke_on(node: &Node, ended: &AtomicBool) {
    let mut connection = node.connect();
    let request = node.invoke_bytes("steady", "?");
    while !ended.load(Ordering::Relaxed) {
        let Ok(answer) = connection.try_write(&request).and_then(|()| connection.try_answer()) else { break };
        assert_eq!(said(answer), "steady ?");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// The ids of the newest invocations that the log shows.
fn logged(node: &Node, limit: usize) -> HashSet<String> {
    let logs = node.logs("steady", &format!("?limit={limit}"));
    let invocations = logs["invocations"].as_array().unwrap().iter();
    invocations.map(|record| record["request_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn records_are_written_without_being_asked_for() {
    let node = Node::start(Options::default());
    node.deploy("steady", &speaker("steady "), &[]);
    for _ in 0..20 {
        node.invoke("steady", "?").expect(200);
    }
    eventually("every record to be written", || {
        node.metric("orama_invocation_records_written_total") >= 20.0
    });
    node.kill();
    node.start_again();
    assert_eq!(logged(&node, 100).len(), 20);
}

#[test]
fn each_version_survives_kills_with_its_own_answer() {
    let node = Node::start(Options::default());
    node.deploy("steady", &speaker("steady "), &[]);
    let mut ledger = Ledger::new();
    let mut records = 0;
    for round in 0..20_u64 {
        let ended = AtomicBool::new(false);
        let mut news = [Ledger::new(), Ledger::new()];
        let shown = std::thread::scope(|scope| {
            scope.spawn(|| invoke_on(&node, &ended));
            for (who, ledger) in news.iter_mut().enumerate() {
                let node = &node;
                scope.spawn(move || churn(node, &format!("r{round}-c{who}"), ledger));
            }
            // A different moment each time.
            std::thread::sleep(Duration::from_millis(250 + round * 37 % 200));
            let shown = logged(&node, 200);
            node.signal(Signal::KILL);
            ended.store(true, Ordering::Relaxed);
            shown
        });
        node.wait();
        node.start_again();
        for news in news {
            check(&node, &news);
            ledger.extend(news);
        }
        // Many more than can have come between.
        let kept = logged(&node, 1000);
        let lost: Vec<_> = shown.difference(&kept).collect();
        assert!(lost.is_empty(), "round {round}: records that were shown are lost: {lost:?}");
        records += shown.len();
    }
    node.kill();
    node.start_again();
    check(&node, &ledger);
    let deleted = ledger.values().filter(|known| matches!(known, Known::Deleted)).count();
    // A busy machine does a tenth of what an idle one does.
    let tried = (ledger.len(), deleted, records);
    assert!(tried.0 > 40 && tried.1 > 5 && tried.2 > 40, "too little was tried: {tried:?}");
    assert_eq!(node.get("/ready").expect(200).json()["status"], "ready");
    assert_eq!(temporary_files(&node.home), Vec::<PathBuf>::new());
}

/// Files that only a write under way may have.
fn temporary_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match path.is_dir() {
                true => temporary_files(&path),
                false if name.starts_with(".orama-tmp-") || name.ends_with(".tmp") => vec![path],
                false => Vec::new(),
            }
        })
        .collect()
}

#[test]
fn leftovers_of_a_crash_are_removed() {
    let node = Node::start(Options::default());
    node.deploy("kept", &speaker("kept "), &[]);
    let blobs = node.home.join("data/blobs");
    let orphan = speaker("orphan ");
    let cid = node.deploy("orphan", &orphan, &[])["function"]["wasm_cid"].as_str().unwrap().to_owned();
    node.delete("/v1/functions/orphan").expect(200);
    assert!(!blobs.join(&cid).exists());
    node.kill();
    // Half-written files, and a module that a deploy stored before it was cut off.
    for path in
        [".orama-tmp-a1b2c3", "data/blobs/.orama-tmp-a1b2c3", "data/artifacts/0123.0123456789abcdef.tmp"]
    {
        fs::write(node.home.join(path), "half of something").unwrap();
    }
    fs::write(blobs.join(&cid), orphan).unwrap();
    node.start_again();
    eventually("the module that nothing names is removed", || !blobs.join(&cid).exists());
    assert_eq!(temporary_files(&node.home), Vec::<PathBuf>::new());
    assert_eq!(said(node.invoke("kept", "")), "kept ");
    assert_eq!(node.compilations(), 0.0);
}
