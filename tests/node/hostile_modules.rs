//! Modules of some kilobytes whose compilation would take all memory or time. Each is refused with the reason, and the node
//! compiles and serves others meanwhile.

use crate::harness::{Node, Options};

/// Memory that the node's compiling process has in these tests, in MB.
const MEMORY_MB: usize = 512;

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn section(id: u8, body: &[u8]) -> Vec<u8> {
    [&[id], leb128(body.len()).as_slice(), body].concat()
}

/// A command whose functions, `() -> ()`, have these bodies; the first one is `_start`.
fn module(bodies: &[Vec<u8>]) -> Vec<u8> {
    let count = leb128(bodies.len());
    let functions = [count.clone(), vec![0; bodies.len()]].concat();
    let code = bodies.iter().flat_map(|body| [leb128(body.len()), body.clone()].concat());
    let exports = [b"\x02\x06memory\x02\x00\x06_start\x00".as_slice(), &[0]].concat();
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, b"\x01\x60\0\0"),
        section(3, &functions),
        section(5, b"\x01\0\x01"),
        section(7, &exports),
        section(10, &count.into_iter().chain(code).collect::<Vec<_>>()),
    ]
    .concat()
}

/// A function with so many locals: it reads the first one before each of so many empty blocks, and then sets each.
fn reads_in_blocks(locals: usize, blocks: usize) -> Vec<u8> {
    let mut body = [vec![1], leb128(locals), vec![0x7f]].concat();
    for _ in 0..blocks {
        body.extend([0x20, 0, 0x04, 0x40, 0x0b]);
    }
    for local in 0..locals {
        body.extend([0x41, 0, 0x21]);
        body.extend(leb128(local));
    }
    body.push(0x0b);
    body
}

/// A function with so many locals and a loop around so many conditional branches, after each of which one is set.
fn branches_in_a_loop(locals: usize, branches: usize) -> Vec<u8> {
    let mut body = [vec![1], leb128(locals), vec![0x7f, 0x03, 0x40]].concat();
    for branch in 0..branches {
        body.extend([0x20, 0, 0x0d, 0, 0x41, 1, 0x21]);
        body.extend(leb128(branch % locals));
    }
    body.extend([0x0b, 0x0b]);
    body
}

fn node() -> Node {
    node_with(&format!("compile_memory_mb = {MEMORY_MB}\n"))
}

fn node_with(config: &str) -> Node {
    let config = config.to_owned();
    Node::start(Options { config, ..Options::default() })
}

/// Deploys a module that must be refused as too complex, and checks that the node serves afterwards. Returns the message.
fn refused(node: &Node, wasm: &[u8]) -> String {
    let answer = node.try_deploy("bomb", wasm, &[]).expect(422);
    assert_eq!(answer.json()["code"], "INVALID_MODULE");
    let message = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(message.contains("too complex to compile"), "{message}");
    assert_eq!(node.invoke(node.wat("echo"), "[1]").expect(200).text(), "[1]");
    message
}

#[test]
fn a_function_whose_code_is_known_to_explode_is_refused_before_it_is_compiled() {
    let node = node();
    for wasm in [
        module(&[reads_in_blocks(50_000, 20_000)]),
        module(&[vec![0, 0x0b], reads_in_blocks(20_000, 5_000)]),
        module(&[branches_in_a_loop(10_000, 10_000)]),
    ] {
        let message = refused(&node, &wasm);
        assert!(message.contains("function "), "it names the function: {message}");
    }
}

#[test]
fn a_module_that_needs_more_memory_than_a_compilation_may_take_ends_its_own_process_alone() {
    let node = node();
    // Each function is within the bound of one; several are compiled at once.
    let message = refused(&node, &module(&vec![reads_in_blocks(9_000, 5_000); 8]));
    assert!(message.contains(&format!("{MEMORY_MB} MB")), "{message}");
    let message = refused(&node, &module(&vec![reads_in_blocks(4_000, 12_000); 16]));
    assert!(message.contains(&format!("{MEMORY_MB} MB")), "{message}");
}

#[test]
fn a_module_that_needs_more_time_than_a_compilation_may_take_ends_its_own_process_alone() {
    let node = node_with("compile_seconds = 1\n");
    // Each function takes little memory, and some tenths of a second.
    let message = refused(&node, &module(&vec![reads_in_blocks(4_000, 12_000); 60]));
    assert!(message.contains("compiling takes more than 1 seconds"), "{message}");
}
