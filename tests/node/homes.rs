//! Homes that a node cannot use: it says which folder and why, and starts once that is put right.

use crate::harness::{Node, Options, new_dir, orama, spawn, wait};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

fn one_worker() -> Options {
    Options { workers: 1, ..Options::default() }
}

/// Starts a node that must fail: the line that says why.
#[track_caller]
fn refused(home: &Path) -> String {
    let mut command = orama(&["serve", "--listen", "127.0.0.1:0", "--workers", "1", "--home"]);
    command.arg(home);
    heed_permissions(&mut command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command).unwrap();
    wait(&mut child);
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{stdout}\n{stderr}");
    assert_eq!(stdout, "", "a node that does not serve says nothing on standard output");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    errors[0].to_owned()
}

/// Makes a command heed the permissions of files although root may run the tests.
fn heed_permissions(command: &mut Command) {
    use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
    // SAFETY: the closure makes system calls alone and touches no memory of this process.
    unsafe {
        command.pre_exec(|| {
            for capability in [CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH] {
                // Refused to other users, who have nothing to take away.
                let _ = remove_capability_from_bounding_set(capability);
            }
            Ok(())
        });
    }
}

fn lock(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_read_only_home_is_named() {
    let dir = new_dir("read-only");
    fs::create_dir(dir.join("home")).unwrap();
    let node = Node::start_in(dir.join("home"), one_worker());
    assert!(node.terminate().success());
    let (home, data) = (&node.home, node.home.join("data"));
    let denied = |home: &Path| format!("cannot use the home folder {}: Permission denied", home.display());

    fs::create_dir(dir.join("parent")).unwrap();
    lock(&dir.join("parent"), 0o500);
    let fresh = dir.join("parent/fresh");
    assert!(refused(&fresh).contains(&denied(&fresh)));
    lock(&dir.join("parent"), 0o700);

    fs::remove_file(home.join("node.lock")).unwrap();
    lock(home, 0o500);
    assert!(refused(home).contains(&denied(home)));
    lock(home, 0o700);

    for (place, mode) in [("artifacts", 0o000), ("artifact.key", 0o000), ("registry.db", 0o000)] {
        let place = data.join(place);
        let was = fs::metadata(&place).unwrap().permissions();
        lock(&place, mode);
        let message = refused(home);
        assert!(message.contains(place.to_str().unwrap()), "{} is not in {message}", place.display());
        fs::set_permissions(&place, was).unwrap();
    }
    node.start_again();
    node.get("/ready").expect(200);
    drop(node);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_key_of_the_wrong_length_is_named() {
    let node = Node::start(one_worker());
    assert!(node.terminate().success());
    let key = node.home.join("data/artifact.key");
    let sound = fs::read(&key).unwrap();
    fs::write(&key, &sound[..31]).unwrap();
    let message = refused(&node.home);
    assert!(message.contains("artifact.key") && message.contains("31 bytes instead of 32"), "{message}");
    fs::write(&key, sound).unwrap();
    node.start_again();
}

#[test]
fn a_home_is_the_same_by_another_name_and_a_killed_node_leaves_it_free() {
    let node = Node::start(one_worker());
    let dir = new_dir("link");
    let link = dir.join("home");
    symlink(&node.home, &link).unwrap();
    for home in [&node.home, &link] {
        assert!(refused(home).contains("another node is running on"));
    }
    node.get("/ready").expect(200);
    node.kill();
    node.start_again();
    node.get("/ready").expect(200);
    fs::remove_dir_all(dir).unwrap();
}
