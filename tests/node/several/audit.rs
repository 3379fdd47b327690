//! What happened on one node is told by the other: records of the audit trail, and logs of a namespace.

use super::nodes::{ONE_EACH, two};
use crate::harness::eventually;
use orama_test_support::guests;
use serde_json::{Value, json};

#[test]
fn what_happened_on_one_node_is_told_by_the_other() {
    let Some((_servers, a, b)) = two(ONE_EACH) else { return };
    a.deploy("told", &guests::wat("log_input"), &[]);
    let alias = json!({ "version": 1 }).to_string();
    a.request("PUT", "/v1/functions/told/aliases/first").body(&alias).send().expect(200);
    // Durable with the change: the node that made it need not live on.
    a.kill();
    let trail = || b.get("/v1/audit?action=alias").expect(200).json();
    eventually("the other node has the record", || trail()["count"] == 1);
    let record = &trail()["records"][0];
    assert_eq!((&record["target"], &record["outcome"]), (&json!("told@first = 1"), &json!("ok")));
    a.start_again();

    // Refusals and bad credentials too, a moment later.
    b.request("PUT", "/v1/functions/absent/aliases/first")
        .body(&alias)
        .send()
        .refusal(404, "FUNCTION_NOT_FOUND");
    a.request_as("orama_wrong", "GET", "/v1/functions").send().refusal(401, "UNAUTHORIZED");
    let has = |query: &str, n: u64| {
        [&a, &b].iter().all(|node| {
            let found = node.get(&format!("/v1/audit?{query}")).expect(200).json();
            found["count"] == n
        })
    };
    eventually("both nodes have the refusal", || has("action=alias.set", 2));
    eventually("both nodes have the bad credential", || has("action=login", 1));

    let ids = [(&a, "one"), (&b, "two")].map(|(node, text)| {
        eventually("the node knows the function", || node.get("/v1/functions/told").status == 200);
        node.invoke("told", text).expect(200).header("x-request-id").unwrap().to_owned()
    });
    for node in [&a, &b] {
        eventually("the nodes know each other", || node.get("/v1/logs").expect(200).json()["count"] == 2);
        let logs = node.get("/v1/logs").expect(200).json();
        let told: Vec<_> = logs["invocations"].as_array().unwrap().iter().map(|i| &i["request_id"]).collect();
        assert_eq!(told, [ids[1].as_str(), &ids[0]], "newest first");
    }
    // What arrives on either node comes once, to who follows on one.
    let since = |cursor: &Value| {
        let cursor = cursor.as_str().unwrap();
        b.get(&format!("/v1/logs?cursor={cursor}")).expect(200).json()
    };
    let mut cursor = b.get("/v1/logs").expect(200).json()["cursor"].clone();
    for node in [&a, &b, &a] {
        let sent = node.invoke("told", "later").expect(200).header("x-request-id").unwrap().to_owned();
        let arrived = since(&cursor);
        assert_eq!((&arrived["count"], &arrived["invocations"][0]["request_id"]), (&json!(1), &json!(sent)));
        cursor = arrived["cursor"].clone();
        assert_eq!(since(&cursor)["count"], 0);
    }
}
