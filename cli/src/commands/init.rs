//! `orama function init`: writes a folder with a function that builds and runs.

use crate::args::Template;
use crate::error::{CliError, Result, io};
use crate::output;
use crate::sdk;
use orama_runtime::names::FunctionName;
use serde_json::json;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

const MANIFEST: &str = include_str!("../../templates/function.yaml.txt");
const GO_MOD: &str = include_str!("../../templates/go.mod.txt");
const GITIGNORE: &str = include_str!("../../templates/gitignore.txt");

/// What stands for the function's name in the files that hold it.
const NAME: &str = "{name}";

/// A file's name and its content.
type File = (&'static str, String);

/// The files of a new function.
fn files(template: Template, name: &FunctionName) -> Vec<File> {
    let of_go = |source: &str, test: &str| {
        vec![
            ("function.go", source.to_owned()),
            ("function_test.go", test.to_owned()),
            ("function.yaml", manifest(template, name)),
            ("go.mod", GO_MOD.replace(NAME, name.as_str())),
            (".gitignore", GITIGNORE.to_owned()),
            case(template),
        ]
    };
    match template {
        Template::Json => of_go(
            include_str!("../../templates/json/function.go"),
            include_str!("../../templates/json/function_test.go"),
        ),
        Template::Http => of_go(
            include_str!("../../templates/http/function.go"),
            include_str!("../../templates/http/function_test.go"),
        ),
        Template::Webhook => of_go(
            include_str!("../../../examples/webhook/function.go"),
            include_str!("../../../examples/webhook/function_test.go"),
        ),
        Template::Cron => of_go(
            include_str!("../../templates/cron/function.go"),
            include_str!("../../templates/cron/function_test.go"),
        ),
        Template::Socket => of_go(
            include_str!("../../templates/socket/function.go"),
            include_str!("../../templates/socket/function_test.go"),
        ),
        Template::Rust => vec![
            ("src/main.rs", include_str!("../../templates/rust/main.rs.txt").to_owned()),
            ("function.yaml", manifest(template, name)),
            ("Cargo.toml", include_str!("../../templates/rust/Cargo.toml.txt").replace(NAME, name.as_str())),
            (".gitignore", include_str!("../../templates/rust/gitignore.txt").to_owned()),
            case(template),
        ],
        Template::C => vec![
            ("function.c", include_str!("../../templates/c/function.c.txt").to_owned()),
            ("function.yaml", manifest(template, name)),
            ("Makefile", include_str!("../../templates/c/Makefile.txt").to_owned()),
            (".gitignore", GITIGNORE.to_owned()),
            case(template),
        ],
    }
}

/// The first case for `orama function test`.
fn case(template: Template) -> File {
    let (file, text) = match template {
        Template::Json => ("testdata/greets.json", include_str!("../../templates/json/greets.json")),
        Template::Http => ("testdata/greets.json", include_str!("../../templates/http/greets.json")),
        Template::Webhook => {
            ("testdata/delivers.json", include_str!("../../templates/webhook/delivers.json"))
        }
        Template::Cron => ("testdata/runs.json", include_str!("../../templates/cron/runs.json")),
        Template::Socket => ("testdata/answers.json", include_str!("../../templates/socket/answers.json")),
        Template::Rust => ("testdata/greets.json", include_str!("../../templates/rust/greets.json")),
        Template::C => ("testdata/counts.json", include_str!("../../templates/c/counts.json")),
    };
    (file, text.to_owned())
}

fn manifest(template: Template, name: &FunctionName) -> String {
    let text = MANIFEST.replace(NAME, name.as_str());
    match template {
        // Browsers and other services have no key.
        Template::Http | Template::Webhook => text.replace("public: false ", "public: true  "),
        Template::Cron => text + "triggers:\n  - schedule: \"*/5 * * * *\" # every five minutes, in UTC\n",
        Template::Json | Template::Socket | Template::Rust | Template::C => text,
    }
}

impl Template {
    /// Whether its code uses the Go SDK.
    fn is_go(self) -> bool {
        !matches!(self, Self::Rust | Self::C)
    }

    /// What runs the tests of a new function, in its folder, as a line of the commands that come next.
    fn test(self) -> &'static str {
        match self {
            Self::Json | Self::Http | Self::Socket => "go test\n  ",
            // Its tests use a database, whose driver is fetched.
            Self::Webhook | Self::Cron => "go mod tidy && go test\n  ",
            Self::Rust | Self::C => "",
        }
    }

    /// The commands that come next, in the function's folder.
    fn next(self, name: &FunctionName) -> String {
        let invoke = format!("orama function invoke {name} --data '{{\"name\": \"World\"}}'");
        match self {
            Self::Json | Self::Rust => format!("orama function deploy\n  {invoke}"),
            Self::Http => {
                format!("orama function deploy\n  curl http://127.0.0.1:6001/fn/default/{name}/hello/Ann")
            }
            Self::Webhook => {
                "orama function secrets set WEBHOOK_SECRET \"$SECRET\"\n  orama function deploy".to_owned()
            }
            Self::Cron => format!("orama function deploy\n  orama function triggers list {name}"),
            Self::Socket => {
                format!(
                    "orama function deploy\n  orama function invoke {name} --data '{{\"text\": \"Hello\"}}'"
                )
            }
            Self::C => format!("make\n  orama function deploy\n  {invoke}"),
        }
    }
}

/// Runs the command.
pub fn run(name: &FunctionName, template: Template, json: bool) -> Result<()> {
    let dir = Path::new(name.as_str());
    create(dir, name, template)?;
    let files: Vec<&str> = files(template, name).into_iter().map(|(file, _)| file).collect();
    if json {
        return output::line(&json!({ "name": name, "path": dir, "files": files }).to_string());
    }
    let sdk = if template.is_go() { format!(", and the Go SDK in {}/", sdk::FOLDER) } else { String::new() };
    output::line(&format!(
        "created {name}/ with {}{sdk}\n\nNext:\n  cd {name}\n  {}{}",
        files.join(", "),
        template.test(),
        template.next(name)
    ))
}

fn create(dir: &Path, name: &FunctionName, template: Template) -> Result<()> {
    fs::create_dir(dir).or_else(|error| match error.kind() {
        // An empty folder, such as a new clone, is fine.
        ErrorKind::AlreadyExists if dir.is_dir() => Ok(()),
        _ => Err(io("create", dir, error)),
    })?;
    let files = files(template, name);
    // Checked before the first file is written, so that a refusal changes nothing.
    let names = files.iter().map(|(file, _)| *file).chain(template.is_go().then_some(sdk::FOLDER));
    if let Some(file) = names.into_iter().find(|file| dir.join(file).symlink_metadata().is_ok()) {
        return Err(CliError::failed(format!(
            "{} exists already; nothing is overwritten",
            dir.join(file).display()
        ))
        .hint("choose another name, or move the existing folder away"));
    }
    for (file, text) in files {
        let path = dir.join(file);
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        folder
            .and_then(|()| fs::File::create_new(&path))
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| io("create", &path, error))?;
    }
    if template.is_go() {
        sdk::update(dir, false)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    fn name(text: &str) -> FunctionName {
        FunctionName::new(text).unwrap()
    }

    #[test]
    fn the_manifest_of_a_new_function_is_valid_and_has_its_name() {
        for template in Template::value_variants() {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path().join("hello");
            create(&dir, &name("hello"), *template).unwrap();
            let text = fs::read_to_string(dir.join("function.yaml")).unwrap();
            let manifest = crate::manifest::parse(&text).unwrap();
            assert_eq!(manifest.name.as_str(), "hello");
            let is_public = matches!(template, Template::Http | Template::Webhook);
            assert_eq!(manifest.public, is_public, "{text}");
            assert_eq!(manifest.triggers.len(), usize::from(*template == Template::Cron), "{text}");
            assert!(fs::read_to_string(dir.join(".gitignore")).unwrap().contains("function.wasm"));
            assert_eq!(dir.join("orama/orama.go").is_file(), template.is_go());
            for file in ["go.mod", "Cargo.toml", "function.yaml"] {
                let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
                assert!(!text.contains(NAME), "{file}: {text}");
            }
        }
        assert_eq!(
            crate::manifest::parse(&manifest(Template::Json, &name("hello"))).unwrap(),
            crate::manifest::parse("name: hello").unwrap()
        );
    }

    #[test]
    fn every_setting_that_the_manifest_shows_in_a_comment_is_valid() {
        let text = MANIFEST.replace(NAME, "hello").replace("#  ", "  ");
        assert!(!crate::manifest::parse(&text).unwrap().env.is_empty());
    }

    #[test]
    fn the_hello_example_has_the_manifest_that_init_makes() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello");
        let text = |file: &str| fs::read_to_string(example.join(file)).unwrap();
        assert_eq!(text("function.yaml"), manifest(Template::Json, &name("hello")));
        assert_eq!(text(".gitignore"), GITIGNORE);
    }

    #[test]
    fn nothing_is_overwritten() {
        for file in ["go.mod", "orama"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(file), "mine").unwrap();
            let error = create(dir.path(), &name("hello"), Template::Json).unwrap_err().to_string();
            assert!(error.contains(&format!("{file} exists already")), "{error}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }
}
