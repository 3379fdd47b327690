//! Host functions that the node does not have: they resolve, give their failure, and say so.

use crate::guest::{ABSENT, Arg, call_from, s};
use crate::recorder::Recorder;
use serde_json::json;
use std::sync::Arc;

#[test]
fn what_the_node_does_not_have_fails_as_documented_and_says_so() {
    for (name, parameters, _) in ABSENT {
        let argument = |kind| if kind == 's' { s("http://example.com/") } else { Arg::Long(7) };
        let arguments: Vec<_> = parameters.chars().map(argument).collect();
        for module in ["env", "host", "orama"] {
            let recorder = Arc::new(Recorder::default());
            let got = call_from(module, &recorder, name, &arguments);
            assert_eq!(got.result, Ok(()), "{name}");
            assert_eq!(got.log, [format!("error: {name}: this node does not provide the function")]);
            assert_eq!(recorder.calls().len(), 0, "{name} reached a service");
            match name {
                "turn_credentials" => assert_eq!(got.json(), json!({"configured": false})),
                "anon_fetch" | "anyone_fetch" => {
                    let error = "this node does not provide the function";
                    assert_eq!(got.json(), json!({"status": 0, "error": error}));
                }
                _ => assert_eq!(got.raw, 0, "{name}"),
            }
        }
    }
}
