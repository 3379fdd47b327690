//! A case of `testdata/*.json`: what there is before, what the function is asked, and what is expected of it.

use crate::error::{CliError, Result, io};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the cases, below the function's own.
pub const FOLDER: &str = "testdata";

/// A case.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Case {
    /// For people.
    #[serde(rename = "description")]
    _description: String,
    /// Environment variables in addition to those of the manifest.
    pub env: BTreeMap<String, String>,
    /// Secrets of the namespace.
    pub secrets: BTreeMap<String, String>,
    /// Statements that are executed before the function runs, in order.
    pub sql: Vec<String>,
    /// Values that are in the cache before.
    pub cache: BTreeMap<String, String>,
    /// The request to the function on the web.
    pub request: Option<Request>,
    /// JSON that the function is invoked with.
    pub input: Option<Value>,
    /// Text that the function is invoked with.
    pub input_text: Option<String>,
    /// What is expected.
    pub expect: Expect,
}

/// A request below `/fn/<namespace>/<function>`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// The method; GET, or POST where there is a body.
    pub method: Option<String>,
    /// The path with its query, which begins with `/`.
    pub path: String,
    /// Headers.
    pub headers: BTreeMap<String, String>,
    /// The body as JSON.
    pub json: Option<Value>,
    /// The body as text.
    pub body: Option<String>,
    /// The body in base64.
    pub body_base64: Option<String>,
}

/// What is expected of a run. What is not said may be anything, except the status.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The status of the answer; 200 unless given.
    pub status: Option<u16>,
    /// Headers of the answer, among others.
    pub headers: BTreeMap<String, String>,
    /// The whole body as JSON.
    #[serde(deserialize_with = "given")]
    pub json: Option<Value>,
    /// The whole body as text.
    pub text: Option<String>,
    /// The whole body in base64.
    pub base64: Option<String>,
    /// A part of the body: text, or JSON of which more members and elements may be there.
    pub contains: Option<Value>,
    /// All messages that were published, in any order.
    pub published: Option<Vec<Message>>,
    /// Queries and their rows.
    pub rows: Vec<Rows>,
    /// Values in the cache afterwards; `null` for a key that is not there.
    pub cache: BTreeMap<String, Option<String>>,
    /// Texts, each of which is in a message of the log.
    pub logs: Vec<String>,
}

/// A published message.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its data.
    pub data: Value,
}

/// A query and its rows, in order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// The query.
    pub sql: String,
    /// Each row by the columns' names.
    pub rows: Vec<Map<String, Value>>,
}

/// Tells `null` from nothing.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// The cases of a function's folder whose names fit, sorted by name: the names and the files.
///
/// # Errors
/// When the folder cannot be read, or there is no such case.
pub fn find(dir: &Path, pattern: Option<&str>) -> Result<Vec<(String, PathBuf)>> {
    let folder = dir.join(FOLDER);
    let nothing = |message: String| {
        CliError::failed(message)
            .hint("docs/CLI.md has the format; `orama function init` writes a first case")
    };
    let listed = match fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(nothing(format!("there is no folder {}", folder.display())));
        }
        listed => listed.map_err(|error| io("read", &folder, error))?,
    };
    let mut cases = Vec::new();
    for entry in listed {
        let path = entry.map_err(|error| io("read", &folder, error))?.path();
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "json")
            && pattern.is_none_or(|p| fits(&name, p))
        {
            cases.push((name, path));
        }
    }
    cases.sort();
    match (cases.is_empty(), pattern) {
        (false, _) => Ok(cases),
        (true, Some(pattern)) => Err(nothing(format!("no case of {} fits {pattern:?}", folder.display()))),
        (true, None) => Err(nothing(format!("there is no .json file in {}", folder.display()))),
    }
}

/// Whether a name contains the parts between the `*` of a pattern, in order.
fn fits(name: &str, pattern: &str) -> bool {
    let mut rest = name;
    pattern.split('*').all(|part| {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
        true
    })
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// When the file cannot be read or is no case. The message has the line and the column.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).map_err(|error| io("read", path, error))?;
        let case: Self = serde_json::from_slice(&text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let said = error.to_string();
            let what = said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what);
            CliError::failed(format!("{}:{line}:{column}: {what}", path.display()))
        })?;
        match case.problem() {
            Some(problem) => Err(CliError::failed(format!("{}: {problem}", path.display()))),
            None => Ok(case),
        }
    }

    /// What does not fit together.
    fn problem(&self) -> Option<&'static str> {
        let asked = usize::from(self.request.is_some())
            + usize::from(self.input.is_some())
            + usize::from(self.input_text.is_some());
        let expect = &self.expect;
        let bodies = usize::from(expect.json.is_some())
            + usize::from(expect.text.is_some())
            + usize::from(expect.base64.is_some());
        let sent = self.request.as_ref().map_or(0, |request| {
            usize::from(request.json.is_some())
                + usize::from(request.body.is_some())
                + usize::from(request.body_base64.is_some())
        });
        let path = self.request.as_ref().map_or("/", |request| &request.path);
        match () {
            () if asked != 1 => Some("a case has one of request, input and input_text"),
            () if sent > 1 => Some("a request has one of json, body and body_base64"),
            () if bodies > 1 => Some("expect has one of json, text and base64"),
            () if !path.is_empty() && !path.starts_with('/') => Some("the path of a request begins with /"),
            () if matches!(expect.contains, Some(Value::Null | Value::Bool(_) | Value::Number(_))) => {
                Some("contains is text, an object or a list")
            }
            () => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Case> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Case::read(file.path())
    }

    #[test]
    fn a_mistake_in_a_case_is_told_with_its_place() {
        for (text, expected) in [
            ("{\n  \"entry\": 1\n}", ":2:9: unknown field `entry`"),
            ("{\"input\": 1,}", ":1:13: trailing comma"),
            ("{}", "one of request, input and input_text"),
            ("{\"input\": 1, \"input_text\": \"\"}", "one of request, input and input_text"),
            ("{\"input\": 1, \"expect\": {\"json\": 1, \"text\": \"\"}}", "one of json, text and base64"),
            ("{\"request\": {\"path\": \"a\"}}", "begins with /"),
            ("{\"request\": {\"body\": \"a\", \"json\": 1}}", "one of json, body and body_base64"),
            ("{\"input\": 1, \"expect\": {\"contains\": 1}}", "contains is text"),
        ] {
            let error = read(text).unwrap_err().described();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert_eq!(
            read("{\"input\": 1, \"expect\": {\"json\": null}}").unwrap().expect.json,
            Some(Value::Null)
        );
    }

    #[test]
    fn cases_are_sorted_and_chosen_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        assert!(find(dir.path(), None).unwrap_err().to_string().contains("there is no folder"));
        fs::create_dir(dir.path().join(FOLDER)).unwrap();
        assert!(find(dir.path(), None).unwrap_err().to_string().contains("there is no .json file"));
        for name in ["b.json", "a-long-name.json", "notes.txt"] {
            fs::write(dir.path().join(FOLDER).join(name), "").unwrap();
        }
        let names = |pattern: Option<&str>| -> Vec<String> {
            find(dir.path(), pattern).unwrap().into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(None), ["a-long-name", "b"]);
        assert_eq!(names(Some("a*name")), ["a-long-name"]);
        assert_eq!(names(Some("b")), ["b"]);
        assert!(find(dir.path(), Some("name*a")).unwrap_err().to_string().contains("no case"));
    }
}
