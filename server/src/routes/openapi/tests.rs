use super::*;
use crate::routes::paths;
use serde_json::Value;
use std::collections::BTreeSet;

fn described() -> Value {
    serde_json::from_str(description()).unwrap()
}

#[test]
fn the_description_has_each_route_and_nothing_else() {
    let described = described();
    let of_functions = ["/fn/{namespace}/{name}", "/fn/{namespace}/{name}/{path}"];
    let served = paths().into_iter().filter(|path| !path.starts_with("/console")).chain(of_functions);
    let described: BTreeSet<_> = described["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(described, served.collect());
}

#[test]
fn what_a_form_may_have_is_what_the_node_reads() {
    let described = described();
    let properties = |schema: &str| -> BTreeSet<_> {
        let schema = &described["components"]["schemas"][schema];
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let (metadata, form) = (properties("FunctionSettings"), properties("DeployForm"));
    for (key, is_field) in
        [("name", true), ("start", true), ("max_body", true), ("cors", false), ("env_vars", false)]
    {
        assert!(metadata.contains(key), "{key}");
        assert_eq!(form.contains(key), is_field, "{key}");
    }
    let mut settings = form::Settings::default();
    for key in metadata {
        let set = settings.set(&key, &form::Given::Field("x"));
        let is_unknown = set.is_err_and(|error| error.message.contains("unknown field"));
        assert_eq!(form.contains(&key), !is_unknown, "{key}");
        let set = settings.set(&key, &form::Given::Json(&Value::from(1.5)));
        assert!(!set.is_err_and(|error| error.message.contains("unknown key")), "{key}");
    }
}

#[test]
fn each_operation_has_a_name_of_its_own_and_each_reference_leads_somewhere() {
    let described = described();
    let mut names = BTreeSet::new();
    for (path, item) in described["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name), "{method} {path}: {name}");
            assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{method} {path}");
        }
    }
    let mut values = vec![&described];
    while let Some(value) = values.pop() {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(described.pointer(pointer).is_some(), "{reference}");
        }
        match value {
            Value::Object(object) => values.extend(object.values()),
            Value::Array(list) => values.extend(list),
            _ => {}
        }
    }
}
