//! Every way in which compiled code on disk can be wrong: it is never run, and the answer stays right.

use crate::harness::{Node, Options, eventually, new_dir};
use crate::speakers::{said, speaker};
use orama_test_support::guests;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

fn one_worker() -> Options {
    Options { workers: 1, ..Options::default() }
}

/// The files in `data/artifacts` or `data/blobs`.
fn files(node: &Node, folder: &str) -> HashSet<PathBuf> {
    let dir = node.home.join("data").join(folder);
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Deploys, and finds the one file that this made in each of the folders.
fn deploy_and_find<const N: usize>(node: &Node, name: &str, wasm: &[u8], folders: [&str; N]) -> [PathBuf; N] {
    let before = folders.map(|folder| (folder, files(node, folder)));
    node.deploy(name, wasm, &[]);
    before.map(|(folder, old)| {
        let mut new: Vec<_> = files(node, folder).difference(&old).cloned().collect();
        assert_eq!(new.len(), 1, "{folder}: {new:?}");
        new.remove(0)
    })
}

/// Changes a bit of the byte at the place that `at` finds in the file's length.
fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path, to: impl Fn(usize) -> usize) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..to(bytes.len())]).unwrap();
}

#[test]
fn no_damage_to_compiled_code_changes_an_answer() {
    let node = Node::start(one_worker());
    let [a] = deploy_and_find(&node, "a", &speaker("A "), ["artifacts"]);
    let [b] = deploy_and_find(&node, "b", &speaker("B "), ["artifacts"]);
    let key = node.home.join("data/artifact.key");
    let first = fs::read(&a).unwrap();
    // What is done to the files, and how many modules must be compiled again for it.
    type Damage<'a> = (&'a str, usize, Box<dyn Fn() + 'a>);
    let mut damages: Vec<Damage> = vec![
        ("nothing", 0, Box::new(|| ())),
        ("cut in half", 1, Box::new(|| cut(&a, |len| len / 2))),
        ("cut by a byte", 1, Box::new(|| cut(&a, |len| len - 1))),
        ("cut to less than its tag", 1, Box::new(|| cut(&a, |_| 20))),
        ("emptied", 1, Box::new(|| cut(&a, |_| 0))),
        ("longer", 1, Box::new(|| fs::write(&a, [fs::read(&a).unwrap(), vec![0; 64]].concat()).unwrap())),
        ("removed", 1, Box::new(|| fs::remove_file(&a).unwrap())),
        ("the other's", 1, Box::new(|| fs::write(&a, fs::read(&b).unwrap()).unwrap())),
        (
            "swapped",
            2,
            Box::new(|| {
                let (of_a, of_b) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
                fs::write(&a, of_b).unwrap();
                fs::write(&b, of_a).unwrap();
            }),
        ),
        ("under another key", 2, Box::new(|| fs::write(&key, [7; 32]).unwrap())),
        ("sound code from before that key", 1, Box::new(|| fs::write(&a, &first).unwrap())),
        ("without a key", 2, Box::new(|| fs::remove_file(&key).unwrap())),
        ("all removed", 2, Box::new(|| fs::remove_dir_all(a.parent().unwrap()).unwrap())),
    ];
    // The file's header, its middle, the end of its code, its tag and its mark.
    type Place = fn(usize) -> usize;
    let places: [(&str, Place); 8] = [
        ("a bit at 0", |_| 0),
        ("a bit at a quarter", |len| len / 4),
        ("a bit at the half", |len| len / 2),
        ("a bit at three quarters", |len| len / 4 * 3),
        ("a bit at the code's end", |len| len - 41),
        ("a bit of the tag", |len| len - 40),
        ("a bit of the mark", |len| len - 8),
        ("a bit of the last byte", |len| len - 1),
    ];
    let path = &a;
    damages.extend(places.map(|(name, at)| -> Damage { (name, 1, Box::new(move || flip(path, at))) }));
    for (what, compilations, damage) in damages {
        assert!(node.terminate().success());
        damage();
        let seen = node.stderr().len();
        node.start_again();
        for _ in 0..2 {
            assert_eq!(said(node.invoke("a", "1")), "A 1", "{what}");
            assert_eq!(said(node.invoke("b", "2")), "B 2", "{what}");
        }
        assert_eq!(node.compilations(), compilations as f64, "{what}");
        let warnings = || node.stderr()[seen..].matches("no valid compiled code").count();
        eventually(&format!("{compilations} warnings for {what}"), || warnings() >= compilations);
        assert_eq!(warnings(), compilations, "{what}");
    }
}

#[test]
fn why_code_is_not_there_stands_in_the_log_under_the_requests_id() {
    let node = Node::start(one_worker());
    let wasm = speaker("damaged ");
    let [code, blob] = deploy_and_find(&node, "damaged", &wasm, ["artifacts", "blobs"]);
    let [lost_code, lost_blob] = deploy_and_find(&node, "lost", &speaker("lost "), ["artifacts", "blobs"]);
    node.deploy("whole", &speaker("whole "), &[]);
    assert!(node.terminate().success());
    flip(&blob, |len| len / 2);
    for path in [&code, &lost_code, &lost_blob] {
        fs::remove_file(path).unwrap();
    }
    node.start_again();
    for (name, why) in [("damaged", "is damaged on disk"), ("lost", "is not in the blob store")] {
        for _ in 0..2 {
            let answer = node.invoke(name, "");
            let id = answer.header("x-request-id").unwrap().to_owned();
            let message = answer.refusal(500, "CODE_UNAVAILABLE");
            assert!(message.contains("deploying the module again"), "{message}");
            assert!(
                !message.contains(why),
                "where and how the node keeps it is not the client's business: {message}"
            );
            // The log comes through a pipe, and may be a moment behind the answer.
            eventually(&format!("{id} and {why:?} in the log"), || {
                node.stderr().lines().any(|line| line.contains(&id) && line.contains(why))
            });
        }
        assert_eq!(said(node.invoke("whole", "")), "whole ");
    }
    assert_eq!(node.deploy("damaged", &wasm, &[])["compiled"], true);
    for version in ["damaged@1", "damaged@2"] {
        assert_eq!(said(node.invoke(version, "")), "damaged ");
    }
}

/// Copies a node's data, apart from the compiled code, for which both use the same folder.
fn share(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_name() == "artifacts" {
            symlink(entry.path(), target).unwrap();
        } else if entry.path().is_dir() {
            share(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn nodes_for_different_processors_run_side_by_side_on_one_folder() {
    let native = Node::start(one_worker());
    let names = ["f0", "f1", "f2"];
    for name in names {
        native.deploy(name, &speaker(&format!("{name} ")), &[]);
    }
    assert!(native.terminate().success());
    let home = new_dir("home");
    share(&native.home.join("data"), &home.join("data"));
    let before = files(&native, "artifacts");
    native.start_again();
    let env = vec![("ORAMA_CPU_LEVEL", "x86-64-v2".to_owned())];
    let older = Node::start_in(home, Options { env, ..one_worker() });
    let answers = |round: usize| {
        for node in [&native, &older] {
            for name in names {
                assert_eq!(said(node.invoke(name, format!("{round}"))), format!("{name} {round}"));
            }
        }
    };
    answers(1);
    assert_eq!((native.compilations(), older.compilations()), (0.0, 3.0));
    let after = files(&native, "artifacts");
    assert!(after.is_superset(&before) && after.len() == 6, "{after:?}");
    // Each module has code for each of them.
    let mut by_module: HashMap<String, usize> = HashMap::new();
    for path in &after {
        let module = path.file_name().unwrap().to_string_lossy().split('-').next().unwrap().to_owned();
        *by_module.entry(module).or_default() += 1;
    }
    assert_eq!(by_module.into_values().collect::<Vec<_>>(), [2, 2, 2]);
    native.restart();
    older.restart();
    answers(2);
    assert_eq!((native.compilations(), older.compilations()), (0.0, 0.0));
}

#[test]
fn a_lost_module_fails_its_function_and_no_other() {
    let node = Node::start(Options::default());
    let lost = node.deploy("lost", &guests::wat("echo"), &[]);
    let damaged = node.deploy("damaged", &guests::wat("empty"), &[]);
    node.deploy("ok", &guests::wat("ignores_stdin"), &[]);
    assert!(node.terminate().success());
    let blob = |answer: &serde_json::Value| {
        node.home.join("data/blobs").join(answer["function"]["wasm_cid"].as_str().unwrap())
    };
    fs::remove_file(blob(&lost)).unwrap();
    fs::write(blob(&damaged), "not the module").unwrap();
    // While the compiled code is there, it runs.
    node.start_again();
    assert_eq!(node.invoke("lost", "[1]").expect(200).text(), "[1]");
    assert!(node.terminate().success());
    files(&node, "artifacts").iter().for_each(|path| fs::remove_file(path).unwrap());
    node.start_again();
    for name in ["lost", "damaged"] {
        let message = node.invoke(name, "").refusal(500, "CODE_UNAVAILABLE");
        assert!(message.contains("log"), "{message}");
        node.get(&format!("/v1/functions/{name}")).expect(200);
    }
    assert!(node.stderr().contains("blob store"), "{}", node.stderr());
    assert_eq!(node.invoke("ok", "").expect(200).text(), "{\"ok\":true}");
    // Deploying the module again repairs it, for every version that uses it.
    node.deploy("lost", &guests::wat("echo"), &[]);
    assert_eq!(node.invoke("lost@1", "[2]").expect(200).text(), "[2]");
    node.delete("/v1/functions/damaged").expect(200);
    node.deploy("damaged", &guests::wat("empty"), &[]);
    node.invoke("damaged", "").expect(200);
}

#[test]
fn nodes_for_different_processors_share_a_folder_of_artifacts() {
    let node = Node::start(Options::default());
    node.deploy("echo", &guests::wat("echo"), &[]);
    assert!(node.terminate().success());
    let home = new_dir("older-processor");
    copy(&node.home, &home);
    let level = |level: &str| Options { config: format!("cpu_level = \"{level}\"\n"), ..Options::default() };
    let other = Node::start_in(home.clone(), level("x86-64-v2"));
    assert_eq!(other.invoke("echo", "[1]").expect(200).text(), "[1]");
    assert_eq!(other.compilations(), 1.0, "code for another processor is not run");
    assert_eq!(files(&other, "artifacts").len(), 2, "both kinds stand side by side");
    assert!(other.terminate().success());
    // The first node gets the folder with both, and finds its own.
    fs::remove_dir_all(node.home.join("data/artifacts")).unwrap();
    copy(&home.join("data/artifacts"), &node.home.join("data/artifacts"));
    node.start_again();
    assert_eq!(node.invoke("echo", "[2]").expect(200).text(), "[2]");
    assert_eq!(node.compilations(), 0.0);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
