//! A deploy's form says the same in whatever pieces it arrives, and what it was made of.

use crate::input::Input;
use crate::{Target, ready};
use bytes::Bytes;
use orama_server::routes::fuzzing::{Form, form};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use tokio::runtime::{Builder, Runtime};

pub const TARGET: Target = Target { name: "multipart", check, seeds };

const BOUNDARY: &str = "----fuzz7d1";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| ready(Builder::new_current_thread().build()));

pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 2 {
        0 => made_forms_are_read(&mut input),
        _ => any_bytes_are_read_alike(&mut input),
    }
}

/// A form, or the status, the code and the message of its refusal.
fn read(pieces: Vec<Vec<u8>>) -> Result<Form, String> {
    let pieces = pieces.into_iter().map(Bytes::from).collect();
    let read = RUNTIME.block_on(form(&format!("multipart/form-data; boundary={BOUNDARY}"), pieces));
    read.map_err(|error| {
        assert!(error.status.is_client_error() && !error.message.is_empty(), "{error:?}");
        format!("{} {} {}", error.status, error.code, error.message)
    })
}

fn encode(fields: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n").into_bytes(),
        );
        body.extend_from_slice(value);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").into_bytes());
    body
}

/// Fields are chosen, so it is known what the form says.
fn made_forms_are_read(input: &mut Input<'_>) {
    const NAMES: [&str; 10] = [
        "wasm",
        "name",
        "namespace",
        "is_public",
        "memory_limit_mb",
        "timeout_seconds",
        "retry_count",
        "retry_delay_seconds",
        "start",
        "metadata",
    ];
    let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
    for _ in 0..input.below(12) {
        let name = NAMES[input.below(NAMES.len())];
        let value = match (name, input.below(4)) {
            ("wasm", 0) => input.some().repeat(1 + input.below(500)),
            // What looks like the end of a part.
            ("wasm", 1) => {
                [format!("\r\n--{}", &BOUNDARY[..BOUNDARY.len() - 1]).as_bytes(), input.some()].concat()
            }
            ("name" | "namespace", 0) => b"hello-1".to_vec(),
            ("is_public", 0) => b"true".to_vec(),
            ("start", 0) => b"command".to_vec(),
            ("metadata", 0) => {
                b"{\"name\": \"below\", \"memory_limit_mb\": 32, \"env_vars\": {\"A\": \"b\"}}".to_vec()
            }
            (_, 0) => input.below(6).to_string().into_bytes(),
            _ => input.some().to_vec(),
        };
        fields.push((name.to_owned(), value));
    }
    if fields.iter().any(|(_, value)| contains(value, format!("\r\n--{BOUNDARY}").as_bytes())) {
        return;
    }
    let found = read(input.cut(&encode(&fields)));
    let last: BTreeMap<&str, &[u8]> =
        fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let is_complete = last.len() == fields.len() && last.contains_key("wasm");
    match found {
        Ok(form) => {
            assert!(is_complete, "a form with fields twice, or without a module, was taken");
            assert_eq!(form.wasm, last["wasm"], "the module");
            for (name, value) in &last {
                let said = match *name {
                    "name" => Some(form.name.as_bytes().to_vec()),
                    "namespace" => form.namespace.clone().map(String::into_bytes),
                    "wasm" | "metadata" => continue,
                    // A number may be written with zeros in front.
                    name if name != "is_public" && name != "start" => {
                        let number: i64 = ready(ready(std::str::from_utf8(value)).parse());
                        assert_eq!(form.settings[name], number.to_string());
                        continue;
                    }
                    name => Some(form.settings[name].clone().into_bytes()),
                };
                assert_eq!(said.as_deref(), Some(*value), "{name}");
            }
            again(&form);
        }
        Err(why) => {
            let plain = [("name", &b"hello-1"[..]), ("wasm", last.get("wasm").copied().unwrap_or_default())];
            let is_plain = is_complete && last.iter().all(|(name, value)| plain.contains(&(*name, *value)));
            assert!(!is_plain || last.len() != 2, "a good form was refused: {why}");
        }
    }
}

/// What a form says, written once more, says the same.
fn again(form: &Form) {
    let env = serde_json::json!({ "env_vars": form.env }).to_string();
    let mut fields =
        vec![("wasm".to_owned(), form.wasm.to_vec()), ("name".to_owned(), form.name.clone().into_bytes())];
    fields.extend(form.namespace.clone().map(|namespace| ("namespace".to_owned(), namespace.into_bytes())));
    fields.extend(form.settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into_bytes())));
    fields.push(("metadata".to_owned(), env.into_bytes()));
    let end = format!("\r\n--{BOUNDARY}");
    if fields.iter().any(|(_, value)| contains(value, end.as_bytes())) {
        return;
    }
    assert_eq!(read(vec![encode(&fields)]).as_ref(), Ok(form), "written once more");
}

fn any_bytes_are_read_alike(input: &mut Input<'_>) {
    let cuts = input.some();
    let body = input.rest();
    let whole = read(vec![body.to_vec()]);
    assert_eq!(read(Input::new(cuts).cut(body)), whole, "in pieces, and whole");
    if let Ok(form) = whole {
        assert!(contains(body, &form.wasm), "the module is a part of the body");
        again(&form);
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

fn seeds() -> Vec<Vec<u8>> {
    let field = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let mut seeds = vec![
        // wasm, name; then the same in pieces, and with all of the rest.
        vec![0, 2, 0, 1, 4, 0, 97, 115, 109, 1, 0],
        vec![0, 2, 0, 0, 3, 1, 2, 3, 1, 200, 1, 0, 1, 2, 3, 4, 5, 1, 1, 1],
        vec![0, 3, 0, 1, 2, 13, 10, 1, 0, 9, 0, 3, 3, 3, 3, 3, 3],
        vec![0, 9, 0, 2, 1, 7, 1, 0, 2, 0, 3, 0, 5, 0, 2, 6, 0, 1, 7, 0, 3, 8, 0, 9, 0, 40, 1, 90],
    ];
    for fields in [
        vec![field("wasm", "\0asm\r\n--"), field("name", "f")],
        vec![field("metadata", "{\"name\":\"f\",\"env_vars\":{\"A\":\"\\u0000\"}}"), field("wasm", "")],
        vec![
            field("name", "f"),
            field("wasm", "x"),
            field("memory_limit_mb", "256"),
            field("is_public", "maybe"),
        ],
        vec![field("name", "secrets"), field("other", "x")],
    ] {
        seeds.push([&[1, 5, 1, 2, 90, 3, 200], encode(&fields).as_slice()].concat());
    }
    let lines = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=wasm; filename=\"a b\"\r\nContent-Type: application/wasm\r\n\r\nxyz\r\n--{BOUNDARY}\r\nX: y\r\n\r\n\r\n--{BOUNDARY}--"
    );
    seeds.push([&[1, 2, 7, 7], lines.as_bytes()].concat());
    seeds
}
