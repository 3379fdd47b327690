//! What a request with a body must be allowed to do. Cores ask before they read any of it.

use http::Method;
use orama_platform::auth::Action;

/// What the route of a request with a body does; `None` where there is no route that reads one.
///
/// Routes check again, as some of them let a request choose a namespace.
pub(crate) fn body_action(method: &Method, path: &str) -> Option<Action> {
    let segments: Vec<&str> = path.strip_prefix("/v1/")?.split('/').collect();
    if segments.contains(&"") {
        return None;
    }
    let action = match (method, segments.as_slice()) {
        (&Method::POST, ["pubsub", "publish"]) => Action::Invoke,
        (&Method::POST, ["db", "query" | "migrations"]) => Action::Deploy,
        (&Method::POST, ["functions"]) => Action::Deploy,
        (&Method::PUT, ["functions", "secrets"]) => Action::Deploy,
        (&Method::PATCH, ["functions", _]) => Action::Deploy,
        (&Method::PUT, ["functions", _, "aliases", _]) => Action::Deploy,
        (&Method::PUT, ["functions", _, "traffic"]) => Action::Deploy,
        (&Method::POST, ["functions", _, "triggers"]) => Action::Deploy,
        (&Method::PATCH, ["functions", _, "triggers", _]) => Action::Deploy,
        (&Method::POST, ["functions", _, "triggers", _, "fire"]) => Action::Deploy,
        (&Method::POST, ["keys"]) => Action::ManageKeys,
        (&Method::POST, ["namespaces"]) | (&Method::PUT, ["namespaces", _, "quotas" | "rates"]) => {
            Action::Operate
        }
        _ => return None,
    };
    Some(action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_only_where_a_route_takes_one() {
        for (method, path, action) in [
            (Method::POST, "/v1/functions", Some(Action::Deploy)),
            (Method::PUT, "/v1/functions/secrets", Some(Action::Deploy)),
            (Method::POST, "/v1/db/query", Some(Action::Deploy)),
            (Method::POST, "/v1/db/migrations", Some(Action::Deploy)),
            (Method::PATCH, "/v1/functions/hello", Some(Action::Deploy)),
            (Method::PUT, "/v1/functions/hello/aliases/canary", Some(Action::Deploy)),
            (Method::PUT, "/v1/functions/hello/traffic", Some(Action::Deploy)),
            (Method::POST, "/v1/functions/hello/triggers", Some(Action::Deploy)),
            (Method::PATCH, "/v1/functions/hello/triggers/1", Some(Action::Deploy)),
            (Method::POST, "/v1/functions/hello/triggers/1/fire", Some(Action::Deploy)),
            (Method::POST, "/v1/functions/hello/triggers/1", None),
            (Method::POST, "/v1/pubsub/publish", Some(Action::Invoke)),
            (Method::POST, "/v1/keys", Some(Action::ManageKeys)),
            (Method::POST, "/v1/namespaces", Some(Action::Operate)),
            (Method::PUT, "/v1/namespaces/a/quotas", Some(Action::Operate)),
            (Method::PUT, "/v1/namespaces/a/rates", Some(Action::Operate)),
            (Method::GET, "/v1/functions", None),
            (Method::DELETE, "/v1/functions/hello", None),
            (Method::POST, "/v1/functions/", None),
            (Method::POST, "/v1/functions//triggers", None),
            (Method::POST, "/v1/secrets/rotate-key", None),
            (Method::POST, "/v1/functions/a/dead-letters/replay", None),
            (Method::POST, "/elsewhere", None),
        ] {
            assert_eq!(body_action(&method, path), action, "{method} {path}");
        }
    }
}
