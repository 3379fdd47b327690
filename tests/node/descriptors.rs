//! Processes that a node starts inherit none of its files, sockets and locks.

use crate::harness::{Node, Options};
use orama_test_support::guests;
use std::fs;
use std::path::{Path, PathBuf};

/// In the flags of `/proc/PID/fdinfo`, as `open(2)` has it on Linux.
const O_CLOEXEC: u32 = 0o2_000_000;

#[test]
fn every_descriptor_is_closed_in_the_programs_that_a_node_starts() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    // Opens connections, mapped files, databases and backends.
    let mut connection = node.connect();
    connection.write(node.invoke_bytes("echo", "[1]"));
    assert_eq!(connection.answer().expect(200).text(), "[1]");
    let publish = "{\"topic\":\"t\",\"data\":1}";
    node.request("POST", "/v1/pubsub/publish").body(publish).send().expect(202);

    let node_has = open_files(&node.pid().to_string());
    let handed_on = open_files("self");
    let own: Vec<_> = node_has.iter().filter(|file| !handed_on.contains(file)).collect();
    assert!(own.len() > 10, "a node has files and sockets open, not {own:?}");
    let inherited: Vec<_> = own.iter().filter(|file| !file.is_closed_on_exec).collect();
    assert!(inherited.is_empty(), "{inherited:?}");
}

/// A descriptor of a process. What a test process was started with, its nodes have under the same number.
#[derive(PartialEq, Debug)]
struct OpenFile {
    number: u32,
    target: PathBuf,
    is_closed_on_exec: bool,
}

/// All but standard input, output and error, which processes may inherit.
fn open_files(process: &str) -> Vec<OpenFile> {
    let dir = Path::new("/proc").join(process);
    let numbers = fs::read_dir(dir.join("fd")).unwrap();
    let numbers = numbers.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let read = |number: String| {
        // Those that were closed since the folder was read are left out.
        let target = fs::read_link(dir.join("fd").join(&number)).ok()?;
        let info = fs::read_to_string(dir.join("fdinfo").join(&number)).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let is_closed_on_exec = u32::from_str_radix(flags, 8).unwrap() & O_CLOEXEC != 0;
        Some(OpenFile { number: number.parse().unwrap(), target, is_closed_on_exec })
    };
    numbers.filter_map(read).filter(|file| file.number > 2).collect()
}
