//! Modules of some kilobytes whose compilation would take all memory or time. Each is refused with the reason, and the node
//! compiles and serves others meanwhile.

use crate::harness::{Node, Options};
use crate::honest::Honest;
use crate::http::Answer;

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

/// So many blocks, one within the other.
fn nested_blocks(depth: usize) -> Vec<u8> {
    [vec![0], [0x02, 0x40].repeat(depth), vec![0x0b; depth + 1]].concat()
}

/// A function with so many branch tables of so many targets each, in so many blocks.
fn branch_tables(tables: usize, targets: usize, blocks: usize) -> Vec<u8> {
    let mut body = [vec![0], [0x02, 0x40].repeat(blocks)].concat();
    for table in 0..tables {
        // In a block of its own, as nothing follows a branch table.
        body.extend([0x02, 0x40, 0x41, 1, 0x0e]);
        body.extend(leb128(targets));
        (0..=targets).for_each(|target| body.extend(leb128((target + table) % blocks)));
        body.push(0x0b);
    }
    body.extend(vec![0x0b; blocks + 1]);
    body
}

/// A function that stores so many different constants of 16 bytes.
fn constants(count: usize) -> Vec<u8> {
    let mut body = vec![0];
    for n in 0..count {
        body.extend([0x41, 0, 0xfd, 12]);
        body.extend([n as u64, !(n as u64)].iter().flat_map(|half| half.to_le_bytes()));
        body.extend([0xfd, 11, 0, 0]);
    }
    body.push(0x0b);
    body
}

/// A function with so many values on its stack while so many blocks with a branch out of each come and go.
fn values_across_blocks(values: usize, blocks: usize) -> Vec<u8> {
    // Loaded, as constants would be made again where they are needed.
    let mut body = [vec![0], [0x41, 0, 0x28, 0, 0].repeat(values)].concat();
    body.extend([0x02, 0x40, 0x41, 0, 0x28, 0, 0, 0x0d, 0, 0x0b].repeat(blocks));
    body.extend(vec![0x6a; values - 1]);
    body.extend([0x1a, 0x0b]);
    body
}

/// A module of so many function types with a thousand parameters each.
fn wide_types(count: usize) -> Vec<u8> {
    let mut types = leb128(count + 1);
    types.extend([0x60, 0, 0]);
    for n in 0..count {
        types.push(0x60);
        types.extend(leb128(1000));
        types.extend((0..1000).map(|bit| if n >> (bit % 24) & 1 == 0 { 0x7f } else { 0x7e }));
        types.push(0);
    }
    let whole = module(&[vec![0, 0x0b]]);
    // The header, the section of types with one type, and the rest.
    [&whole[..8], &section(1, &types), &whole[14..]].concat()
}

/// A node, an honest tenant on it, and a hostile one, which is the operator's namespace here.
struct Deploys {
    node: Node,
    honest: Honest,
}

impl Deploys {
    fn start() -> Self {
        let config = format!(
            "guest_memory_mb = 64\nanswer_memory_mb = 32\nbody_memory_mb = 140\ncompile_memory_mb = {MEMORY_MB}\n\
             [cache]\nmemory_mb = 16\n"
        );
        let node = Node::start(Options { config, ..Options::default() });
        Self { honest: Honest::settle(&node), node }
    }

    /// Deploys a module beside the honest tenant; the answer.
    #[track_caller]
    fn deploy(&self, what: &str, wasm: &[u8]) -> Answer {
        let answer = self.honest.beside(&self.node, what, || self.node.try_deploy("bomb", wasm, &[]));
        assert_eq!(self.node.invoke(self.node.wat("echo"), "[1]").expect(200).text(), "[1]");
        answer
    }

    /// Deploys a module that must be refused as too complex. Returns the message.
    #[track_caller]
    fn refused(&self, what: &str, wasm: &[u8]) -> String {
        let message = self.deploy(what, wasm).refusal(422, "INVALID_MODULE");
        assert!(message.contains("too complex to compile"), "{message}");
        message
    }
}

#[test]
fn a_function_whose_code_is_known_to_explode_is_refused_before_it_is_compiled() {
    let deploys = Deploys::start();
    for (what, wasm) in [
        ("locals times blocks", module(&[reads_in_blocks(50_000, 20_000)])),
        ("the same in another function", module(&[vec![0, 0x0b], reads_in_blocks(20_000, 5_000)])),
        ("locals times branches", module(&[branches_in_a_loop(10_000, 10_000)])),
    ] {
        let message = deploys.refused(what, &wasm);
        assert!(message.contains("function "), "it names the function: {message}");
    }
}

#[test]
fn a_module_that_needs_more_memory_than_a_compilation_may_take_ends_its_own_process_alone() {
    let deploys = Deploys::start();
    for (what, wasm) in [
        // Each function is within the bound of one; several are compiled at once.
        ("eight functions under the bound", module(&vec![reads_in_blocks(9_000, 5_000); 8])),
        ("sixteen functions under the bound", module(&vec![reads_in_blocks(4_000, 12_000); 16])),
    ] {
        let message = deploys.refused(what, &wasm);
        assert!(message.contains(&format!("{MEMORY_MB} MB")), "{message}");
    }
}

#[test]
fn modules_of_other_shapes_are_compiled_or_refused_within_the_bounds() {
    let deploys = Deploys::start();
    let many = (0..100_000).map(|n| [vec![0, 0x41], leb128(n & 0x3f), vec![0x1a, 0x0b]].concat());
    for (what, wasm) in [
        ("branch tables", module(&[branch_tables(200, 5_000, 500)])),
        ("blocks within blocks", module(&[nested_blocks(2_500_000)])),
        ("blocks within blocks, twice", module(&vec![nested_blocks(150_000); 20])),
        ("constants", module(&[constants(200_000)])),
        ("many functions", module(&many.collect::<Vec<_>>())),
        ("values across blocks", module(&[values_across_blocks(3_000, 20_000)])),
        ("wide types", wide_types(60_000)),
    ] {
        let answer = deploys.deploy(what, &wasm);
        if answer.status == 201 {
            assert!(deploys.node.invoke("bomb", "").status < 500, "{what}");
        } else {
            let message = answer.refusal(422, "INVALID_MODULE");
            eprintln!("{what}: {message}");
        }
    }
}

#[test]
fn a_module_that_needs_more_time_than_a_compilation_may_take_ends_its_own_process_alone() {
    // Without an honest tenant, whose modules have no more time.
    let config = "compile_seconds = 1\n".to_owned();
    let node = Node::start(Options { config, ..Options::default() });
    // Each function takes little memory, and some tenths of a second.
    let wasm = module(&vec![reads_in_blocks(4_000, 12_000); 60]);
    let message = node.try_deploy("bomb", &wasm, &[]).refusal(422, "INVALID_MODULE");
    assert!(message.contains("compiling takes more than 1 seconds"), "{message}");
    assert_eq!(node.invoke(node.wat("echo"), "[1]").expect(200).text(), "[1]");
}
