//! Holds what a node is asked and what it answers against its own description of the API: each path, method, status, code,
//! parameter and field must be there. The description is closed here: a field that it does not name is a mistake in it.

use crate::http::Answer;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::LazyLock;

pub static DESCRIPTION: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(orama_server::routes::openapi::description()).unwrap());

/// Fails for an exchange that the description does not have. `head` is what was sent before the body.
#[track_caller]
pub fn check(head: &str, body: &[u8], answer: &Answer) {
    let mut line = head.lines().next().unwrap_or_default().split(' ');
    let (Some(method), Some(target)) = (line.next(), line.next()) else { return };
    if let Err(why) = difference(method, target, body, answer) {
        let text = answer.text();
        panic!("{method} {target}: {}: not as /openapi.json describes it: {why}\n{text}", answer.status);
    }
}

/// The methods and routes that are described, but for those whose paths are all a function's own.
pub fn operations() -> BTreeSet<(String, String)> {
    let paths =
        DESCRIPTION["paths"].as_object().unwrap().iter().filter(|(path, _)| !path.starts_with("/fn/"));
    let of = |(path, item): (&String, &'static Value)| {
        let path = path.clone();
        item.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    };
    paths.flat_map(of).collect()
}

/// The least role that the description tells of a route.
pub fn role(method: &str, route: &str) -> Option<String> {
    let security = DESCRIPTION["paths"][route][method.to_lowercase()]["security"].as_array()?;
    let role = security.iter().find_map(|way| way["bearer"][0].as_str());
    role.map(str::to_owned)
}

/// Tells what of an exchange the description does not have.
pub fn difference(method: &str, target: &str, body: &[u8], answer: &Answer) -> Result<(), String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // Pages, and what functions answer.
    if path.starts_with("/console") || path.starts_with("/fn/") {
        return Ok(());
    }
    // What is no HTTP never gets to a route.
    if answer.body.is_empty() && matches!(answer.status, 400 | 431) {
        return Ok(());
    }
    let refused = |statuses: &[u16], what: &str| match statuses.contains(&answer.status) {
        true => Ok(()),
        false => Err(format!("there is no such {what}")),
    };
    // Whoever asks too often, or with a body that is not read, may be told that first.
    let Some(methods) = find(path) else { return refused(&[404, 429, 503], "path") };
    let described =
        methods.get(&method.to_lowercase()).or_else(|| methods.get("get").filter(|_| method == "HEAD"));
    let Some(operation) = described else { return refused(&[404, 405, 429, 503], "method") };
    let responses = &operation["responses"];
    // What functions answer is their own, and what the node answers instead of them is not.
    let is_functions = operation["tags"][0] == "invoke" && !is_refusal(answer);
    let default = if is_functions { responses.get("default") } else { None };
    let response = responses.get(answer.status.to_string()).or(default).ok_or("there is no such status")?;
    if !is_functions {
        answered(resolve(response), answer)?;
    }
    if (200..300).contains(&answer.status) {
        asked(operation, query, body)?;
    }
    Ok(())
}

/// The operations of the path's template: of several, the one with the fewest parameters.
fn find(path: &str) -> Option<&'static Map<String, Value>> {
    let asked: Vec<_> = path.split('/').collect();
    let is_parameter = |segment: &&str| segment.starts_with('{');
    let fits = |template: &&String| {
        let segments: Vec<_> = template.split('/').collect();
        let fits = |(segment, asked): (&&str, &&str)| {
            segment == asked || (is_parameter(segment) && !asked.is_empty())
        };
        segments.len() == asked.len() && segments.iter().zip(&asked).all(fits)
    };
    let paths = DESCRIPTION["paths"].as_object().unwrap();
    let found =
        paths.keys().filter(fits).min_by_key(|template| template.split('/').filter(is_parameter).count())?;
    paths[found].as_object()
}

/// Whether this is an error of the node.
fn is_refusal(answer: &Answer) -> bool {
    let id = answer.header("x-request-id");
    let is_nodes = |json: Value| json["request_id"].as_str() == id && json["retryable"].is_boolean();
    answer.status >= 400 && id.is_some() && serde_json::from_slice(&answer.body).is_ok_and(is_nodes)
}

fn resolve(value: &'static Value) -> &'static Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => {
            DESCRIPTION.pointer(reference.strip_prefix('#').unwrap()).expect("a reference leads somewhere")
        }
        None => value,
    }
}

fn answered(response: &'static Value, answer: &Answer) -> Result<(), String> {
    for (name, _) in response["headers"].as_object().into_iter().flatten() {
        answer.header(name).ok_or_else(|| format!("the header {name} is missing"))?;
    }
    if answer.body.is_empty() {
        return Ok(());
    }
    let kind = answer.header("content-type").unwrap_or_default();
    let content = response["content"].get(kind).ok_or_else(|| format!("there is no content {kind:?}"))?;
    if kind != "application/json" {
        return Ok(());
    }
    let json = answer.json();
    closed(&content["schema"], &json).map_err(|why| format!("in the answer: {why}"))?;
    let codes = content["schema"].pointer("/allOf/1/properties/code/anyOf/0/enum");
    match codes.and_then(Value::as_array) {
        Some(codes) if !codes.contains(&json["code"]) => {
            Err(format!("there is no such code: {}", json["code"]))
        }
        _ => Ok(()),
    }
}

/// What the node took.
fn asked(operation: &'static Value, query: &str, body: &[u8]) -> Result<(), String> {
    let known: Vec<_> = operation["parameters"].as_array().into_iter().flatten().map(resolve).collect();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split('=').next().unwrap_or_default();
        // Those of the node itself look at no query.
        if operation["tags"][0] != "node"
            && !known.iter().any(|parameter| parameter["name"] == name && parameter["in"] == "query")
        {
            return Err(format!("there is no parameter {name:?}"));
        }
    }
    let content = &operation["requestBody"]["content"];
    if let Some(form) = content.get("multipart/form-data") {
        let known = resolve(&form["schema"])["properties"].as_object().unwrap();
        let text = String::from_utf8_lossy(body);
        let names = text.split("form-data; name=\"").skip(1).filter_map(|rest| rest.split('"').next());
        for name in names {
            known.get(name).ok_or_else(|| format!("there is no field {name:?} of the form"))?;
        }
        let metadata =
            text.split_once("name=\"metadata\"\r\n\r\n").and_then(|(_, rest)| rest.split("\r\n--").next());
        if let Some(metadata) = metadata {
            let metadata: Value = serde_json::from_str(metadata).map_err(|error| error.to_string())?;
            closed(&known["metadata"]["contentSchema"], &metadata)
                .map_err(|why| format!("in `metadata`: {why}"))?;
        }
        return Ok(());
    }
    match (content.get("application/json"), serde_json::from_slice::<Value>(body)) {
        (Some(content), Ok(json)) if operation["tags"][0] != "invoke" => {
            closed(&content["schema"], &json).map_err(|why| format!("in the request: {why}"))
        }
        _ => Ok(()),
    }
}

/// The fields of an object that a schema names: all, or these.
enum Named {
    All,
    These(BTreeSet<String>),
}

impl Named {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::These(mut these), Self::These(others)) => {
                these.extend(others);
                Self::These(these)
            }
            _ => Self::All,
        }
    }
}

/// Whether a value fits a schema and has no field beyond those that it names.
fn closed(schema: &'static Value, value: &Value) -> Result<(), String> {
    let named = fits(schema, value)?;
    let (Named::These(named), Value::Object(object)) = (named, value) else { return Ok(()) };
    match object.keys().find(|key| !named.contains(*key)) {
        Some(key) => Err(format!("there is no field `{key}`")),
        None => Ok(()),
    }
}

fn fits(schema: &'static Value, value: &Value) -> Result<Named, String> {
    let Some(rules) = schema.as_object() else { return Ok(Named::All) };
    let words = ["type", "$ref", "properties", "additionalProperties", "allOf", "oneOf", "anyOf", "enum"];
    if !words.iter().any(|word| rules.contains_key(*word)) {
        return Ok(Named::All);
    }
    let mut named = Named::These(BTreeSet::new());
    if rules.contains_key("$ref") {
        named = named.and(fits(resolve(schema), value)?);
    }
    if let Some(kinds) = rules.get("type")
        && !is_of_kind(kinds, value)
    {
        return Err(format!("expected {kinds}, got {value}"));
    }
    if rules.get("enum").and_then(Value::as_array).is_some_and(|list| !list.contains(value)) {
        return Err(format!("{value} is not in {}", rules["enum"]));
    }
    if let Some(number) = value.as_f64() {
        let of = |bound: &str| rules.get(bound).and_then(Value::as_f64);
        if of("minimum").is_some_and(|least| number < least)
            || of("maximum").is_some_and(|most| number > most)
        {
            return Err(format!("{value} is out of range"));
        }
    }
    if rules.get("format").is_some_and(|format| format == "date-time")
        && value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_err())
    {
        return Err(format!("{value} is no time"));
    }
    match value {
        Value::Object(object) => named = named.and(object_fits(rules, object)?),
        Value::Array(list) => {
            if let Some(items) = rules.get("items") {
                list.iter().try_for_each(|item| closed(items, item)).map_err(|why| format!("[]: {why}"))?;
            }
        }
        _ => {}
    }
    for part in rules.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        named = named.and(fits(part, value)?);
    }
    for ways in ["oneOf", "anyOf"].iter().filter_map(|word| rules.get(*word)?.as_array()) {
        let (fitting, refused): (Vec<_>, Vec<_>) =
            ways.iter().map(|way| fits(way, value)).partition(|outcome| outcome.is_ok());
        if fitting.is_empty() {
            let why: Vec<_> = refused.into_iter().filter_map(Result::err).collect();
            return Err(format!("fits none: {}", why.join("; ")));
        }
        named = fitting.into_iter().flatten().fold(named, Named::and);
    }
    Ok(named)
}

fn is_of_kind(kinds: &Value, value: &Value) -> bool {
    let is = |kind: &Value| match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no kind of JSON: {other}"),
    };
    match kinds {
        Value::Array(kinds) => kinds.iter().any(is),
        kind => is(kind),
    }
}

fn object_fits(rules: &'static Map<String, Value>, object: &Map<String, Value>) -> Result<Named, String> {
    for name in rules.get("required").and_then(Value::as_array).into_iter().flatten() {
        let name = name.as_str().unwrap();
        object.get(name).ok_or_else(|| format!("the field `{name}` is missing"))?;
    }
    let properties = rules.get("properties").and_then(Value::as_object);
    let mut named = BTreeSet::new();
    for (name, schema) in properties.into_iter().flatten() {
        if let Some(value) = object.get(name) {
            closed(schema, value).map_err(|why| format!("`{name}`: {why}"))?;
        }
        named.insert(name.clone());
    }
    match rules.get("additionalProperties") {
        Some(Value::Bool(false)) => Ok(Named::These(named)),
        Some(schema) => {
            let others = object.iter().filter(|(name, _)| !named.contains(*name));
            for (name, value) in others {
                closed(schema, value).map_err(|why| format!("`{name}`: {why}"))?;
            }
            Ok(Named::All)
        }
        // An object of which nothing is said.
        None if properties.is_none() && rules.get("type").is_some_and(|kind| kind == "object") => {
            Ok(Named::All)
        }
        None => Ok(Named::These(named)),
    }
}
