//! Several nodes on the same servers: what is due by the clock happens once.

use super::nodes::{ONE_EACH, node};
use crate::harness::{Node, Servers, eventually};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

fn three() -> Option<(Arc<Servers>, [Node; 3])> {
    let servers = Arc::new(Servers::start(ONE_EACH, &["default"]).ok()?);
    let nodes = [node(&servers), node(&servers), node(&servers)];
    Some((servers, nodes))
}

#[test]
fn each_slot_runs_once_on_three_nodes_of_which_some_are_killed() {
    let Some((_servers, [a, b, c])) = three() else { return };
    a.reader("reader", &[]);
    a.add_schedule("reader", "*/2 * * * * *");
    for other in [&b, &c] {
        eventually("the others know of it", || other.triggers("reader").len() == 1);
    }
    eventually("it runs", || b.slots("reader").len() >= 2);
    for victim in [&a, &b] {
        victim.kill();
        std::thread::sleep(Duration::from_secs(5));
        victim.start_again();
        std::thread::sleep(Duration::from_secs(3));
    }
    // A node that was killed held its trigger's lease for a while; then the others go on.
    let before = c.slots("reader").len();
    eventually("it goes on", || c.slots("reader").len() >= before + 3);
    let slots = c.slots("reader");
    // The record of a run that a kill cut short may be missing, but none of the slots ran twice.
    assert!(slots.values().all(|count| *count == 1), "{slots:?}");
    for slot in slots.keys() {
        let second: u32 = slot[17..19].parse().unwrap();
        assert_eq!(second % 2, 0, "{slot}");
    }
}

#[test]
fn messages_that_wait_are_published_by_others_when_their_node_is_killed() {
    let Some((_servers, [a, b, c])) = three() else { return };
    a.reader("reader", &[]);
    a.add_trigger("reader", "later");
    eventually("the others know of it", || {
        b.triggers("reader").len() == 1 && c.triggers("reader").len() == 1
    });
    for n in 0..200 {
        let body = json!({ "topic": "later", "data": n, "delay_ms": 4000 }).to_string();
        a.request("POST", "/v1/pubsub/publish").body(body).send().expect(202);
    }
    a.kill();
    let given = || {
        let mut given: Vec<_> = b.data("reader").iter().filter_map(serde_json::Value::as_u64).collect();
        given.sort_unstable();
        given
    };
    eventually("all ran", || given().len() >= 200);
    assert_eq!(given(), (0..200).collect::<Vec<_>>());
    eventually("none is left", || b.metric("orama_events_later") == 0.0 && b.no_job_is_left());
}
