//! docs/CONFIG.md, made from the tables of keys.

use super::key::{Key, Reloads, quoted, variable_of};
use super::keys::keys;
use super::raw::{Field, TABLES};
use super::{Config, issuers};
use std::fmt::Write;

/// How the page begins.
const BEGIN: &str = "\
<!-- Made from server/src/config/ by the test the_page_of_the_config_is_made_from_its_keys, with ORAMA_WRITE_DOCS=1. -->

# Configuration

A node's configuration is a TOML file (`orama serve --config FILE`, or `ORAMA_CONFIG`). Each key is a variable too, and some are
flags: a flag overrides a variable, and a variable overrides the file. A variable is text without quotes, and a list has commas
between its texts; an empty variable counts as unset. An unknown key, or a value that its key does not take, stops the start with
one line that names it. An `ORAMA_…` variable that nothing reads is a warning.

`orama serve --check` prints every key with its value and where it was said, and looks at the files that are named.
On SIGHUP a node takes over what is marked below, and says which other keys need a restart
([OPERATIONS](OPERATIONS.md#reload)).

`ORAMA_SECRETS_KEY` is a variable only: the master keys of secrets, with commas between them, each 64 hex digits. It wins over
`secrets.key_file`.
";

const HEAD: &str = "
| key | variable, flag | takes | default | SIGHUP | what it decides |
|---|---|---|---|---|---|
";

/// The page as it must be.
#[must_use]
pub fn page() -> String {
    let mut page = BEGIN.to_owned();
    let mut config = Config::defaults();
    let mut tables: Vec<&str> = Vec::new();
    for key in keys() {
        let table = table_of(key.name);
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    for table in tables {
        let title = if table.is_empty() { "The node".to_owned() } else { format!("`[{table}]`") };
        begin(&mut page, &title);
        for key in keys().filter(|key| table_of(key.name) == table) {
            row(&mut page, &line_of_key(key, &mut config));
        }
    }
    add_backends(&mut page);
    begin(&mut page, "`[[auth.issuers]]`");
    for (field, about, form) in issuers::FIELDS {
        let field = format!("`{field}`");
        let cells: [&str; 6] = [&field, "", form, "", "yes", about];
        row(&mut page, &cells);
    }
    page
}

fn add_backends(page: &mut String) {
    for (table, what, kind, fields) in TABLES {
        begin(page, &format!("{what}: `[{}]`", table.replace('*', "NAMESPACE")));
        for Field(field, about, form) in *fields {
            let key = format!("{table}.{field}");
            let variable = if key.contains('*') { String::new() } else { format!("`{}`", variable_of(&key)) };
            let default = if *field == "kind" { format!("`{}`", quoted(kind)) } else { String::new() };
            let key = format!("`{}`", key.replace('*', "NAMESPACE"));
            let cells: [&str; 6] = [&key, &variable, form, &default, "", about];
            row(page, &cells);
        }
    }
}

fn begin(page: &mut String, title: &str) {
    // Writing to a `String` cannot fail.
    let _ = write!(page, "\n## {title}\n{HEAD}");
}

fn row<T: AsRef<str>>(page: &mut String, cells: &[T]) {
    let cells: Vec<_> = cells.iter().map(|cell| cell.as_ref().replace('|', "\\|")).collect();
    let _ = writeln!(page, "| {} |", cells.join(" | "));
}

/// The name of a key's table; empty for those outside of all.
fn table_of(key: &str) -> &str {
    key.rsplit_once('.').map_or("", |(table, _)| table)
}

fn line_of_key(key: &Key, defaults: &mut Config) -> [String; 6] {
    let flag = key.flag.map(|flag| format!(", `{flag}`")).unwrap_or_default();
    let default = match key.default {
        Some(words) => words.to_owned(),
        None => key.value(defaults).map(|value| format!("`{value}`")).unwrap_or_default(),
    };
    [
        format!("`{}`", key.name),
        format!("`{}`{flag}", key.variable()),
        key.form(),
        default,
        match key.reloads {
            Reloads::Nothing => String::new(),
            Reloads::Value => "yes".to_owned(),
            Reloads::Content => "what the file holds".to_owned(),
        },
        key.about.to_owned(),
    ]
}
