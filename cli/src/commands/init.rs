//! `orama function init`: writes a folder with a function that builds and runs.

use crate::error::{CliError, Result, io};
use crate::output;
use orama_runtime::names::FunctionName;
use serde_json::json;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// The files of a new function. `{name}` is replaced by its name.
const FILES: [(&str, &str); 4] = [
    ("function.go", include_str!("../../../examples/hello/function.go")),
    ("function.yaml", include_str!("../../templates/function.yaml.txt")),
    ("go.mod", include_str!("../../templates/go.mod.txt")),
    (".gitignore", include_str!("../../templates/gitignore.txt")),
];

/// Runs the command.
pub fn run(name: &FunctionName, json: bool) -> Result<()> {
    let dir = Path::new(name.as_str());
    create(dir, name)?;
    if json {
        let files: Vec<_> = FILES.iter().map(|(file, _)| file).collect();
        return output::line(&json!({ "name": name, "path": dir, "files": files }).to_string());
    }
    output::line(&format!(
        "created {name}/ with {}\n\nNext:\n  cd {name}\n  orama function deploy\n  \
         orama function invoke {name} --data '{{\"name\": \"World\"}}'",
        FILES.map(|(file, _)| file).join(", ")
    ))
}

fn create(dir: &Path, name: &FunctionName) -> Result<()> {
    fs::create_dir(dir).or_else(|error| match error.kind() {
        // An empty folder, such as a new clone, is fine.
        ErrorKind::AlreadyExists if dir.is_dir() => Ok(()),
        _ => Err(io("create", dir, error)),
    })?;
    // Checked before the first file is written, so that a refusal changes nothing.
    if let Some((file, _)) = FILES.iter().find(|(file, _)| dir.join(file).symlink_metadata().is_ok()) {
        return Err(CliError::failed(format!(
            "{} exists already; nothing is overwritten",
            dir.join(file).display()
        ))
        .hint("choose another name, or move the existing folder away"));
    }
    for (file, template) in FILES {
        let path = dir.join(file);
        let text = template.replace("{name}", name.as_str());
        fs::File::create_new(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| io("create", &path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FunctionName {
        FunctionName::new(text).unwrap()
    }

    #[test]
    fn the_manifest_of_a_new_function_is_valid_and_has_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("hello");
        create(&dir, &name("hello")).unwrap();
        let text = fs::read_to_string(dir.join("function.yaml")).unwrap();
        let manifest = crate::manifest::parse(&text).unwrap();
        assert_eq!(manifest, crate::manifest::parse("name: hello").unwrap());
        for (file, _) in FILES {
            assert!(!fs::read_to_string(dir.join(file)).unwrap().contains("{name}"), "{file}");
        }
    }

    #[test]
    fn every_setting_that_the_manifest_shows_in_a_comment_is_valid() {
        let text = FILES[1].1.replace("{name}", "hello").replace("#  ", "  ");
        assert!(!crate::manifest::parse(&text).unwrap().env.is_empty());
    }

    #[test]
    fn the_hello_example_is_what_init_makes() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello");
        for (file, template) in FILES {
            let text = fs::read_to_string(example.join(file)).unwrap();
            assert_eq!(text, template.replace("{name}", "hello"), "{file}");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("go.mod"), "mine").unwrap();
        let error = create(dir.path(), &name("hello")).unwrap_err().to_string();
        assert!(error.contains("go.mod exists already"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
