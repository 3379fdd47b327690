//! Completes the description by what follows from the routes' own: refusals, headers, credentials, and the form of a deploy.

use super::refusals::{REFUSALS, Refusal, refusal};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use utoipa::openapi::OpenApi;

/// What the metadata of a deploy may have and its other fields may not, because these are texts.
const SCALARS: [&str; 3] = ["string", "integer", "boolean"];

const OPEN_TO_ANY_QUERY: [&str; 2] = ["/ready", "/metrics"];
/// Answered by the cores in any case, and without an id.
const NEVER_REFUSED: &str = "/health";

/// The whole description as JSON.
pub(super) fn completed(document: &OpenApi) -> Value {
    // Texts and numbers always serialise.
    let mut document = serde_json::to_value(document).unwrap_or_default();
    for (path, item) in entries(&mut document["paths"]) {
        for (method, operation) in entries(item) {
            complete(path, method, operation);
        }
    }
    let components = &mut document["components"];
    forms(&mut components["schemas"]);
    let responses = REFUSALS.iter().map(|of| (of.name.to_owned(), response(of, of.meaning)));
    components["responses"] = Value::Object(responses.collect());
    components["headers"] = headers();
    components["securitySchemes"] = json!({
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token of one of the node's issuers."},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same in another header."},
    });
    let given = given(&document);
    for (name, schema) in entries(&mut document["components"]["schemas"]) {
        if !given.contains(name) {
            absent_is_not_null(schema);
        }
    }
    document
}

/// The entries of an object; none of anything else.
fn entries(value: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    value.as_object_mut().into_iter().flat_map(|object| object.iter_mut())
}

fn complete(path: &str, method: &str, operation: &mut Value) {
    let has_credential = security(operation);
    let has_body = operation.get("requestBody").is_some();
    if operation["tags"][0] == "invoke" && has_body {
        operation["requestBody"]["required"] = json!(false);
    }
    if path.starts_with("/fn/") {
        // One description of all methods.
        let id = operation["operationId"].as_str().unwrap_or_default();
        operation["operationId"] = json!(format!("{id}By{}", method.to_uppercase()));
        // Of these, a body means nothing.
        if let ("get" | "head", Some(operation)) = (method, operation.as_object_mut()) {
            operation.remove("requestBody");
        }
    }
    let mut statuses = Vec::new();
    if path != NEVER_REFUSED {
        statuses.extend([429, 431, 500, 503]);
        if !OPEN_TO_ANY_QUERY.contains(&path) {
            statuses.push(400);
        }
        if has_credential {
            statuses.extend([401, 403]);
        }
        if has_body {
            statuses.extend([408, 413]);
        }
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten();
        let mut names_something = false;
        for parameter in parameters {
            let is_in_path = parameter["in"] == "path";
            names_something |= is_in_path || parameter["name"] == "namespace";
            parameter["required"] = json!(is_in_path);
            if let Some(told) =
                parameter["schema"].as_object_mut().and_then(|schema| schema.remove("description"))
            {
                parameter["description"] = told;
            }
        }
        if names_something {
            statuses.push(404);
        }
    }
    let responses = &mut operation["responses"];
    for status in statuses {
        let status = status.to_string();
        if responses.get(&status).is_none() {
            responses[status] = json!({});
        }
    }
    for (status, response) in entries(responses) {
        answer(path, status, response);
    }
}

/// Replaces the credential of a route by the ways to send it. Returns whether there is one.
fn security(operation: &mut Value) -> bool {
    let Some(given) = operation["security"].as_array().cloned() else {
        operation["security"] = json!([]);
        return false;
    };
    let ways = given.into_iter().flat_map(|way| match way.get("key") {
        Some(role) => vec![json!({"bearer": role}), json!({"apiKey": role})],
        None => vec![way],
    });
    operation["security"] = ways.collect();
    true
}

fn answer(path: &str, status: &str, answer: &mut Value) {
    let is_described = answer["description"].as_str().is_some_and(|text| !text.is_empty());
    if let Some(refusal) = status.parse().ok().and_then(refusal)
        && answer.get("content").is_none()
    {
        *answer = match answer["description"].as_str().filter(|_| is_described) {
            Some(meaning) => response(refusal, meaning),
            None => json!({"$ref": format!("#/components/responses/{}", refusal.name)}),
        };
        return;
    }
    if !is_described {
        let reason = status.parse().ok().and_then(|status| http::StatusCode::from_u16(status).ok());
        answer["description"] =
            json!(reason.and_then(|status| status.canonical_reason()).unwrap_or_default());
    }
    if path != NEVER_REFUSED {
        answer["headers"]["X-Request-ID"] = header("X-Request-ID");
    }
    if path.contains("invoke") && status == "200" {
        answer["headers"]["X-Duration-Ms"] = header("X-Duration-Ms");
    }
    if status == "503" {
        answer["headers"]["Retry-After"] = header("Retry-After");
    }
}

fn header(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

fn headers() -> Value {
    json!({
        "X-Request-ID": {"description": "The request's id, under which the node's log has it.", "schema": {"type": "string"}},
        "X-Duration-Ms": {"description": "How long the function ran, in milliseconds.", "schema": {"type": "number"}},
        "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 0}},
        "WWW-Authenticate": {"description": "Bearer", "schema": {"type": "string"}},
        "Upgrade": {"description": "websocket", "schema": {"type": "string"}},
    })
}

fn response(Refusal { status, codes, .. }: &Refusal, meaning: &str) -> Value {
    if codes.is_empty() {
        return json!({ "description": meaning });
    }
    let list: Vec<_> = codes.iter().map(|code| format!("`{code}`")).collect();
    // Open, so that a client made of this description takes a code that a later node has.
    let code = json!({"anyOf": [{"enum": codes}, {"type": "string"}]});
    let schema = json!({"allOf": [{"$ref": "#/components/schemas/Error"}, {"type": "object", "properties": {"code": code}}]});
    let mut headers = json!({"X-Request-ID": header("X-Request-ID")});
    let other = match status {
        401 => Some("WWW-Authenticate"),
        426 => Some("Upgrade"),
        429 | 503 => Some("Retry-After"),
        _ => None,
    };
    if let Some(other) = other {
        headers[other] = header(other);
    }
    json!({
        "description": format!("{meaning} Codes: {}.", list.join(", ")),
        "headers": headers,
        "content": {"application/json": {"schema": schema}},
    })
}

/// Makes the form of a deploy and the body of an update of the settings that both take.
fn forms(schemas: &mut Value) {
    let settings = &mut schemas["FunctionSettings"];
    settings["additionalProperties"] = json!(false);
    settings["properties"]["raw_http_response"] = json!({
        "type": "boolean", "deprecated": true, "description": "Taken and ignored: a function may always shape its answer.",
    });
    for (name, property) in entries(&mut settings["properties"]) {
        // Only of these does null say something.
        if name != "cors" {
            drop_null(property);
        }
    }
    let properties = settings["properties"].as_object().cloned().unwrap_or_default();

    let is_scalar = |schema: &Value| {
        schema["type"].as_str().is_some_and(|kind| SCALARS.contains(&kind)) || schema.get("$ref").is_some()
    };
    let scalars = properties.iter().filter(|(name, schema)| is_scalar(schema) && *name != "source");
    let mut fields: Map<_, _> = scalars.map(|(name, schema)| (name.clone(), schema.clone())).collect();
    fields.insert(
        "wasm".to_owned(),
        json!({"type": "string", "format": "binary", "description": "The module, at most 64 MiB."}),
    );
    fields.insert(
        "metadata".to_owned(),
        json!({
            "type": "string", "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/FunctionSettings"},
            "description": "JSON with any of the other fields but `wasm`, which take precedence, and more.",
        }),
    );
    schemas["DeployForm"] = json!({
        "type": "object", "description": "A new version of a function. What it does not say stays as the newest version has it.",
        "required": ["wasm"], "additionalProperties": false, "properties": fields,
    });

    let mut changes = properties;
    for of_a_deploy in ["name", "namespace", "migrations"] {
        changes.remove(of_a_deploy);
    }
    changes.insert(
        "enabled".to_owned(),
        json!({"type": "boolean", "description": "Whether the function runs at all."}),
    );
    let mut change = json!({
        "type": "object", "description": "What is to change; what is not given stays.", "minProperties": 1,
        "additionalProperties": false, "properties": changes,
    });
    change["properties"]["env_vars"]["additionalProperties"]["type"] = json!(["string", "null"]);
    schemas["FunctionChange"] = change;
}

/// The names of the schemas that requests are made of. In these, null stands for what is absent.
fn given(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let operations = paths.flat_map(|(_, item)| item.as_object().into_iter().flatten());
    let mut bodies: Vec<&Value> =
        operations.filter_map(|(_, operation)| operation.get("requestBody")).collect();
    let mut known = BTreeSet::new();
    while let Some(value) = bodies.pop() {
        match value {
            Value::Object(object) => {
                bodies.extend(object.values());
                let name = object.get("$ref").and_then(Value::as_str);
                if let Some(name) = name.and_then(|name| name.strip_prefix("#/components/schemas/"))
                    && known.insert(name.to_owned())
                {
                    bodies.push(&document["components"]["schemas"][name]);
                }
            }
            Value::Array(list) => bodies.extend(list),
            _ => {}
        }
    }
    known
}

/// What an answer need not have is never null: it is left out instead.
fn absent_is_not_null(schema: &mut Value) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, property) in schema.get_mut("properties").into_iter().flat_map(entries) {
        if !required.contains(&json!(name)) {
            drop_null(property);
        }
    }
    for part in ["allOf", "oneOf"] {
        let parts = schema.get_mut(part).and_then(Value::as_array_mut);
        parts.into_iter().flatten().for_each(absent_is_not_null);
    }
}

/// Takes null out of the values that a schema allows.
fn drop_null(schema: &mut Value) {
    if let Some(kinds) = schema.get_mut("type").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind != "null");
        if let [kind] = kinds.as_slice() {
            schema["type"] = kind.clone();
        }
    }
    if let Some(ways) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        ways.retain(|way| way["type"] != "null");
        if let [Value::Object(only)] = ways.as_slice() {
            let only = only.clone();
            if let Some(schema) = schema.as_object_mut() {
                schema.remove("oneOf");
                schema.extend(only);
            }
        }
    }
}
