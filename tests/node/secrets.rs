//! The secrets' key on the real node: where a start finds it, rotation under kill -9, and that nothing shows a value.

use crate::harness::{Node, Options, output};
use rustix::process::Signal;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const VALUE: &str = "a value that is easily found 5e0f7a91";

impl Node {
    pub fn set_secret(&self, name: &str, value: &str) {
        let body = json!({ "name": name, "value": value }).to_string();
        self.request("PUT", "/v1/functions/secrets").body(body).send().expect(200);
    }

    fn key_file(&self) -> PathBuf {
        self.home.join("data/secrets.key")
    }

    /// Starts it where it must not start: what it says.
    fn refuses_to_start(&self) -> String {
        let output = output(self.command());
        assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()));
        String::from_utf8(output.stderr).unwrap()
    }
}

fn key(digit: char) -> String {
    digit.to_string().repeat(64)
}

#[test]
fn a_node_without_its_key_does_not_start_and_makes_no_other() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.set_secret("TOKEN", VALUE);
    assert!(node.terminate().success());
    let aside = node.home.join("aside");
    fs::rename(node.key_file(), &aside).unwrap();
    let message = node.refuses_to_start();
    assert!(message.contains("data/secrets.key lacks the master key of stored secrets (1)"), "{message}");
    assert!(!node.key_file().exists());
    fs::rename(&aside, node.key_file()).unwrap();
    node.start_again();
    assert_eq!(node.get("/v1/functions/secrets").json()["count"], 1);
}

#[test]
fn keys_of_the_environment_rotate_and_are_never_shown() {
    let one = Options { env: vec![("ORAMA_SECRETS_KEY", key('a'))], ..Options::default() };
    let Ok(node) = Node::try_start(one) else { return };
    node.set_secret("TOKEN", VALUE);
    assert!(node.terminate().success());
    assert!(!node.key_file().exists());

    let start = |keys: String| {
        let mut command = node.command();
        command.env("ORAMA_SECRETS_KEY", keys);
        let output = output(command);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, wrong) = start(key('b'));
    assert_eq!(code, Some(1));
    assert!(wrong.contains("environment variable ORAMA_SECRETS_KEY lacks the master key"), "{wrong}");
    let (code, no_key) = start(format!("{},not a key", key('b')));
    assert_eq!(code, Some(2));
    assert!(no_key.contains("ORAMA_SECRETS_KEY: key 2 is not 64 hex digits"), "{no_key}");
    assert!(!wrong.contains("bbbbbbbb") && !no_key.contains("bbbbbbbb") && !no_key.contains("not a key"));

    let both = Options { env: vec![("ORAMA_SECRETS_KEY", key('b') + "," + &key('a'))], ..Options::default() };
    let home = node.home.clone();
    let Ok(again) = Node::try_start_in(home.clone(), both) else { return };
    let rotated = again.request("POST", "/v1/secrets/rotate-key").send().expect(200).json();
    assert_eq!(rotated["reencrypted"], 1);
    assert_eq!(rotated["unneeded_key_ids"].as_array().unwrap().len(), 1);
    assert!(rotated["message"].as_str().unwrap().contains("ORAMA_SECRETS_KEY"), "{rotated}");
    assert!(again.terminate().success());
    let only = Options { env: vec![("ORAMA_SECRETS_KEY", key('b'))], ..Options::default() };
    let Ok(last) = Node::try_start_in(home, only) else { return };
    for stderr in [node.stderr(), again.stderr(), last.stderr()] {
        assert!(!stderr.contains("aaaaaaaa") && !stderr.contains("bbbbbbbb"), "{stderr}");
    }
}

#[test]
fn a_rotation_under_kill_9_loses_nothing_and_ends() {
    const ROUNDS: u64 = 10;
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let name = node.misc(crate::harness::Compiler::TinyGo, "env");
    for n in 0..200 {
        node.set_secret(&format!("S{n}"), &format!("value {n}"));
    }
    for round in 0..ROUNDS {
        std::thread::scope(|scope| {
            let rotating = scope.spawn(|| {
                while node.request("POST", "/v1/secrets/rotate-key").try_send().is_ok_and(|a| a.status == 200)
                {
                }
            });
            // At another moment each time: between the transactions of one rotation, or between two.
            std::thread::sleep(Duration::from_millis(5 + 13 * (round * 7 % 11)));
            node.signal(Signal::KILL);
            rotating.join().unwrap();
        });
        node.wait();
        node.start_again();
        assert_eq!(node.get("/v1/functions/secrets").json()["count"], 200);
        if let Some(name) = &name {
            let steps: Vec<_> =
                (0..200).map(|n| json!({ "do": "secret", "name": format!("S{n}") })).collect();
            let body = json!({ "do": "steps", "steps": steps }).to_string();
            let answers = node.invoke(name, body).expect(200).json();
            for (n, answer) in answers.as_array().unwrap().iter().enumerate() {
                assert_eq!(answer["value"], format!("value {n}"), "round {round}");
            }
        }
    }
    let rotate = || node.request("POST", "/v1/secrets/rotate-key").send();
    crate::harness::eventually("a rotation ends", || rotate().status == 200);
    let keys = fs::read_to_string(node.key_file()).unwrap();
    let keys: Vec<&str> = keys.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(keys.len() == 1 && keys[0].len() == 64, "one key is left");
}

#[test]
fn no_file_no_log_and_no_core_holds_a_value() {
    let Ok(node) =
        Node::try_start(Options { env: vec![("ORAMA_LOG", "trace".to_owned())], ..Options::default() })
    else {
        return;
    };
    node.set_secret("TOKEN", VALUE);
    node.request("POST", "/v1/secrets/rotate-key").send().expect(200);
    let refused = node.request("PUT", "/v1/functions/secrets");
    let body = json!({ "name": VALUE, "value": VALUE }).to_string();
    let message = refused.body(body).send().refusal(400, "INVALID_NAME");
    assert!(!message.contains("5e0f7a91"), "{message}");
    let of_process = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", node.pid())).unwrap();
    let limits = of_process("limits");
    let core: Vec<&str> = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(core[..2], ["0", "0"], "{limits}");
    assert_eq!(of_process("coredump_filter").trim(), "00000000");
    assert!(!node.stderr().contains("5e0f7a91"));
    node.kill();
    let mut files = 0;
    look(&node.home, &mut files);
    assert!(files > 5, "{files} files were looked at");
}

fn look(dir: &Path, files: &mut usize) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look(&path, files);
        } else {
            *files += 1;
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(8).any(|window| window == b"5e0f7a91"), "{}", path.display());
        }
    }
}
