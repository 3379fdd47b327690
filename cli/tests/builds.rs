//! Builds with the real compilers, as a script sees them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod place;

use orama_test_support::tools;
use place::{Place, assert_exit, dead_address, stderr, stdout};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};
use wasmparser::{KnownCustom, Name, Parser, Payload};

/// The names of functions that the module's name section holds: what a trap can show.
fn function_names(module: &[u8]) -> Vec<String> {
    for payload in Parser::new(0).parse_all(module) {
        let Payload::CustomSection(section) = payload.expect("a module") else { continue };
        let KnownCustom::Name(names) = section.as_known() else { continue };
        for name in names {
            if let Name::Function(map) = name.unwrap() {
                return map.into_iter().map(|naming| naming.unwrap().name.to_owned()).collect();
            }
        }
    }
    Vec::new()
}

fn assert_names_functions(module: &[u8]) {
    let names = function_names(module);
    let known = "decodeState";
    assert!(names.iter().any(|name| name.contains(known)), "{known} is not among {} names", names.len());
}

#[test]
fn the_bundled_module_names_its_functions() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello/prebuilt/hello.wasm");
    assert_names_functions(&fs::read(path).unwrap());
}

#[test]
fn standard_go_builds_a_new_function_with_its_function_names() {
    let Ok(_) = tools::require_or_report("go") else { return };
    builds("go", "Go", "");
}

#[test]
fn tinygo_builds_a_new_function_with_its_function_names() {
    let Ok(_) = tools::require_or_report("tinygo") else { return };
    builds("tinygo", "TinyGo", " without a scheduler (no goroutines)");
}

fn builds(compiler: &str, name: &str, how: &str) {
    let place = Place::new();
    assert_exit(&place.run(&["function", "init", "hello"]), 0);
    let files = || fs::read_dir(place.path("hello")).unwrap().count();
    let written = files();
    let output = place.run(&["function", "build", "hello", "--compiler", compiler]);
    assert_exit(&output, 0);
    assert!(
        stdout(&output).starts_with(&format!("built function.wasm with {name}{how}: ")),
        "{}",
        stdout(&output)
    );
    let first = output;
    let module = fs::read(place.path("hello/function.wasm")).unwrap();
    assert_names_functions(&module);
    assert_eq!(files(), written + 1, "the build left something behind");

    let output = place.run(&["function", "build", "hello", "--compiler", compiler, "--json"]);
    assert_exit(&output, 0);
    let built: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(built["compiler"], name);
    assert_eq!(built["size_bytes"], module.len());
    let start = built["start"].as_str().unwrap();
    assert_eq!(start.contains("from a snapshot"), compiler == "go", "{start}");
    assert!(stdout(&first).ends_with(&format!("{start}\n")), "{}", stdout(&first));
    assert_eq!(fs::read(place.path("hello/function.wasm")).unwrap(), module, "the same code, another module");
}

#[test]
fn a_lone_function_go_builds_and_a_failed_build_leaves_no_old_module() {
    let Ok(_) = tools::require_or_report("go") else { return };
    let place = Place::new();
    let build = ["function", "build", "--compiler", "go"];
    fs::write(place.path("function.yaml"), "name: hello\n").unwrap();
    fs::write(place.path("function.go"), "package main\n\nfunc main() { println(\"ok\") }\n").unwrap();
    assert_exit(&place.run(&build), 0);
    assert!(place.path("function.wasm").is_file());

    fs::write(place.path("function.go"), "package main\n\nfunc main() { undefinedName() }\n").unwrap();
    let output = place.run(&build);
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("undefined: undefinedName"), "{}", stderr(&output));
    assert!(!place.path("function.wasm").exists(), "the old module is still there");
}

#[test]
fn a_deploy_is_never_of_old_code_whatever_the_dates_say() {
    let Ok(_) = tools::require_or_report("go") else { return };
    let place = Place::new();
    for (path, text) in [
        ("hello/function.yaml", "name: hello\n"),
        (
            "hello/function.go",
            "package main\n\nimport \"shared\"\n\nfunc main() { print(shared.Word, extra) }\n",
        ),
        ("hello/extra.go", "package main\n\nconst extra = \"extra-one\"\n"),
        ("hello/go.mod", "module hello\n\ngo 1.24\n\nrequire shared v0.0.0\n\nreplace shared => ../shared\n"),
        ("shared/go.mod", "module shared\n\ngo 1.24\n"),
        ("shared/shared.go", "package shared\n\nconst Word = \"shared-one\"\n"),
    ] {
        fs::create_dir_all(place.path(path).parent().unwrap()).unwrap();
        fs::write(place.path(path), text).unwrap();
    }
    let address = dead_address();
    // No node answers: what is looked at is the module that would have been sent.
    let deploy = |code: i32| {
        let arguments = ["function", "deploy", "hello", "--compiler", "go", "--gateway-url", &address];
        assert_exit(&place.run(&arguments), code);
    };
    let holds = |word: &str| {
        let module = fs::read(place.path("hello/function.wasm")).unwrap();
        module.windows(word.len()).any(|window| window == word.as_bytes())
    };
    deploy(5);
    assert!(holds("shared-one") && holds("extra-one"));
    // As `mv`, `cp -p` and `rsync -a` leave it: another file with an older date.
    let older = |path: &str, text: &str| {
        fs::write(place.path(path), text).unwrap();
        fs::File::options().append(true).open(place.path(path)).unwrap().set_modified(UNIX_EPOCH).unwrap();
    };
    older("hello/extra.go", "package main\n\nconst extra = \"extra-two\"\n");
    deploy(5);
    assert!(holds("extra-two") && !holds("extra-one"));
    // Outside of the folder.
    older("shared/shared.go", "package shared\n\nconst Word = \"shared-two\"\n");
    deploy(5);
    assert!(holds("shared-two") && !holds("shared-one"));
    // A file that was removed.
    fs::remove_file(place.path("hello/extra.go")).unwrap();
    deploy(1);
    assert!(!place.path("hello/function.wasm").exists());
}

#[test]
fn a_package_that_is_no_program_is_refused_with_its_file() {
    for compiler in ["go", "tinygo"] {
        let Ok(_) = tools::require_or_report(compiler) else { continue };
        let place = Place::new();
        fs::write(place.path("go.mod"), "module hello\n\ngo 1.24\n").unwrap();
        fs::write(place.path("greet.go"), "// Package foo greets.\npackage foo\n\nfunc main() {}\n").unwrap();
        let output = place.run(&["function", "build", "--compiler", compiler]);
        assert_exit(&output, 1);
        assert!(stderr(&output).contains("greet.go says `package foo`"), "{}", stderr(&output));
        assert!(!place.path("function.wasm").exists(), "an archive was left");
    }
}

#[test]
fn flags_that_cannot_work_are_left_out_and_told() {
    for compiler in ["go", "tinygo"] {
        let Ok(_) = tools::require_or_report(compiler) else { continue };
        let place = Place::new();
        fs::write(place.path("function.go"), "package main\n\nfunc main() {}\n").unwrap();
        fs::write(place.path("go.mod"), "module hello\n\ngo 1.24\n").unwrap();
        let mut command = place.command(&["function", "build", "--compiler", compiler]);
        let output = command.env("GOFLAGS", "-race -mod=vendor -buildmode=pie -tags=x").output().unwrap();
        assert_exit(&output, 0);
        let told = "left out of GOFLAGS, as WebAssembly cannot: -race -mod=vendor -buildmode=pie";
        assert!(stderr(&output).contains(told), "{}", stderr(&output));
    }
}

#[test]
fn a_workspace_that_does_not_list_the_function_comes_with_a_hint() {
    let Ok(_) = tools::require_or_report("go") else { return };
    let place = Place::new();
    fs::create_dir(place.path("hello")).unwrap();
    fs::write(place.path("hello/function.go"), "package main\n\nfunc main() {}\n").unwrap();
    fs::write(place.path("hello/go.mod"), "module hello\n\ngo 1.24\n").unwrap();
    fs::write(place.path("go.work"), "go 1.24\n").unwrap();
    let arguments = ["function", "build", "hello", "--compiler", "go"];
    let output = place.run(&arguments);
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("GOWORK=off"), "{}", stderr(&output));
    assert_exit(&place.command(&arguments).env("GOWORK", "off").output().unwrap(), 0);
}

#[test]
fn standard_go_builds_where_tinygo_does_not_support_it() {
    let Ok(go) = tools::require_or_report("go") else { return };
    let Ok(tinygo) = tools::require_or_report("tinygo") else { return };
    let place = Place::new();
    fs::write(place.path("function.go"), "package main\n\nfunc main() {}\n").unwrap();
    fs::write(place.path("go.mod"), "module hello\n\ngo 1.21\n").unwrap();
    // TinyGo asks `go` for its version. This one says an old version to TinyGo, and is the real one otherwise.
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *GOVERSION*) {0} \"$@\" | sed 's/go1\\.[0-9.]*/go1.10/' ;; *) exec {0} \"$@\" ;; esac\n",
        go.display()
    );
    let bin = place.path("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("go"), script).unwrap();
    fs::set_permissions(bin.join("go"), fs::Permissions::from_mode(0o755)).unwrap();
    let build = |compiler: &str| {
        let mut command = place.command(&["function", "build", "--compiler", compiler]);
        let path = [bin.as_path(), tinygo.parent().unwrap(), Path::new("/usr/bin"), Path::new("/bin")];
        command.env("PATH", std::env::join_paths(path).unwrap()).output().unwrap()
    };
    let output = build("auto");
    assert_exit(&output, 0);
    assert!(stderr(&output).contains("because TinyGo cannot: requires go version"), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("built function.wasm with Go:"), "{}", stdout(&output));
    // Asked for, nothing else is taken.
    assert_exit(&build("tinygo"), 1);
}

#[test]
fn an_interrupted_build_leaves_nothing_behind() {
    let Ok(_) = tools::require_or_report("go") else { return };
    let place = Place::new();
    fs::write(place.path("function.go"), "package main\n\nfunc main() {}\n").unwrap();
    // The compiler of this build never ends by itself.
    let bin = place.path("home");
    fs::write(bin.join("go"), "#!/bin/sh\n[ \"$1\" = env ] || exec sleep 600\n").unwrap();
    fs::set_permissions(bin.join("go"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = place.command(&["function", "build", "--compiler", "go"]);
    let path = std::env::join_paths([bin.as_path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    // A process group, as a terminal's Ctrl-C reaches the compiler too.
    let mut child = command.env("PATH", path).process_group(0).spawn().unwrap();
    let scratch = || {
        fs::read_dir(place.dir.path())
            .unwrap()
            .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with(".orama-build-"))
    };
    while !scratch() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let group = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process_group(group, rustix::process::Signal::INT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(2), "{status}");
    assert!(!scratch(), "the folder of the build is still there");
}
