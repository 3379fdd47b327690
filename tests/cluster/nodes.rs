//! Several nodes on the same servers: what is done on one holds on the others.

use crate::harness::{Node, Options, Servers, eventually};
use crate::servers::Sizes;
use orama_test_support::guests;
use std::sync::Arc;

/// Nodes that share servers of the test's own; none when a server is missing, which was reported.
fn nodes(count: usize, sizes: Sizes) -> Option<(Arc<Servers>, Vec<Node>)> {
    let servers = Arc::new(Servers::start(sizes, &["default"]).ok()?);
    let start = || Node::start(Options { servers: Some(Arc::clone(&servers)), ..Options::default() });
    let nodes = (0..count).map(|_| start()).collect();
    Some((servers, nodes))
}

#[test]
fn what_is_deployed_on_one_node_runs_on_the_other() {
    let Some((_servers, nodes)) = nodes(2, Sizes { rqlite: 1, olric: 1, kubo: 1 }) else { return };
    nodes[0].deploy("echo", &guests::wat("echo"), &[]);
    eventually("the other node has heard of it", || nodes[1].invoke("echo", "hi").status == 200);
    assert_eq!(nodes[1].invoke("echo", "{\"a\":1}").expect(200).text(), "{\"a\":1}");
}
