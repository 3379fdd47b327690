//! `orama dev`: what is saved answers, and nothing but the project is touched.

use crate::harness::{eventually, lock, new_dir, orama, output, spawn, wait};
use crate::http::{Answer, Request};
use crate::process::{add_compilers, run};
use orama_test_support::{guests, tools};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A developer's folder, and an empty home folder.
struct Desk {
    dir: PathBuf,
    home: PathBuf,
}

impl Desk {
    fn new() -> Self {
        Self { dir: new_dir("dev"), home: new_dir("dev-home") }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = orama(arguments);
        command.current_dir(&self.dir).env("HOME", &self.home);
        // What compilers keep is not in the home folder.
        let real = PathBuf::from(std::env::var_os("HOME").unwrap());
        for (name, folder) in [("XDG_CACHE_HOME", ".cache"), ("XDG_CONFIG_HOME", ".config"), ("GOPATH", "go")]
        {
            command.env(name, std::env::var_os(name).map_or_else(|| real.join(folder), PathBuf::from));
        }
        add_compilers(&mut command);
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) {
        run(0, self.command(arguments));
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A folder with a module and no sources.
    fn prebuilt(&self, dir: &str, guest: &str, yaml: &str) {
        self.write(&format!("{dir}/function.wasm"), guests::wat(guest));
        self.write(&format!("{dir}/function.yaml"), format!("name: {dir}\n{yaml}"));
    }

    /// A Go program that answers with what an expression says.
    fn go(&self, dir: &str, imports: &str, expression: &str) {
        let text = format!(
            "package main\n\nimport (\"os\"; {imports})\n\nfunc main() {{ os.Stdout.WriteString({expression}) }}\n"
        );
        self.write(&format!("{dir}/function.go"), text);
    }

    #[track_caller]
    fn start(&self, arguments: &[&str]) -> Dev {
        let mut command = self.command(&["dev", "--listen", "127.0.0.1:0"]);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(command).unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        keep(child.stdout.take().unwrap(), &said);
        keep(child.stderr.take().unwrap(), &said);
        let stdin = child.stdin.take();
        let mut dev = Dev { child, stdin, said, address: ([127, 0, 0, 1], 0).into(), key: String::new() };
        dev.says("i invokes again");
        let said = dev.said();
        let field = |name: &str| {
            let rest = said.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            rest.split_whitespace().next().unwrap().to_owned()
        };
        dev.address = field("listening on http://").parse().unwrap();
        dev.key = field("key ");
        dev
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let left: Vec<_> = fs::read_dir(&self.home).unwrap().map(|e| e.unwrap().file_name()).collect();
            let _ = fs::remove_dir_all(&self.dir);
            let _ = fs::remove_dir_all(&self.home);
            assert!(left.is_empty(), "the user's home has {left:?}");
        }
    }
}

/// A running `orama dev`.
struct Dev {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Arc<Mutex<String>>,
    address: SocketAddr,
    key: String,
}

impl Dev {
    fn said(&self) -> String {
        lock(&self.said).clone()
    }

    #[track_caller]
    fn says(&self, what: &str) {
        eventually(what, || self.said().contains(what));
    }

    fn types(&mut self, line: &str) {
        self.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn request(&self, method: &str, path: &str) -> Request {
        Request::new(self.address, method, path).header("authorization", &format!("Bearer {}", self.key))
    }

    fn invoke(&self, name: &str, body: &str) -> Answer {
        self.request("POST", &format!("/v1/functions/{name}/invoke")).body(body).send()
    }

    #[track_caller]
    fn answers(&self, name: &str, with: &str) {
        eventually(&format!("{name} answers {with}"), || self.invoke(name, "{}").text().contains(with));
    }

    /// The newest version of a function; 0 if there is none.
    fn version(&self, name: &str) -> u64 {
        self.request("GET", &format!("/v1/functions/{name}")).send().json()["version"].as_u64().unwrap_or(0)
    }

    /// Ends it as Ctrl-C does.
    #[track_caller]
    fn interrupt(mut self) -> String {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        assert_eq!(wait(&mut self.child).code(), Some(0), "{}", self.said());
        assert!(TcpStream::connect(self.address).is_err(), "something listens after the end");
        self.said()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- orama dev said\n{}---", self.said());
        }
    }
}

fn keep(mut from: impl Read + Send + 'static, into: &Arc<Mutex<String>>) {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            lock(&into).push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    });
}

fn hidden(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.') && name != ".gitignore").collect()
}

#[test]
fn what_is_saved_answers_with_each_compiler() {
    for compiler in ["go", "tinygo"] {
        if tools::require_or_report(compiler).is_err() {
            continue;
        }
        let desk = Desk::new();
        desk.run(&["function", "init", "hello"]);
        let dev = desk.start(&["--compiler", compiler]);
        dev.says("hello | version 1 serves");
        let source = desk.dir.join("hello/function.go");
        let text = fs::read_to_string(&source).unwrap();
        let mut took = Vec::new();
        for number in 0..5 {
            // The snapshot of the start before is made meanwhile, or not any more.
            std::thread::sleep(Duration::from_millis(number * 300));
            let (begun, word) = (Instant::now(), format!("Servus{number}"));
            fs::write(&source, text.replace("Hello", &word)).unwrap();
            dev.answers("hello", &word);
            took.push(begun.elapsed());
        }
        took.sort();
        println!("from save to answer with {compiler}: median {:?} of {took:?}", took[2]);
        assert_eq!(dev.version("hello"), 6);

        // Of saves while a build runs, the last one counts.
        for word in ["One", "Two", "Three"] {
            fs::write(&source, text.replace("Hello", word)).unwrap();
            std::thread::sleep(Duration::from_millis(60));
        }
        dev.answers("hello", "Three");
        assert!(dev.version("hello") <= 9, "{}", dev.said());

        // Nothing of it is for git, and nothing is left of builds.
        assert_eq!(fs::read_to_string(desk.dir.join(".orama/dev/.gitignore")).unwrap(), "*\n");
        dev.interrupt();
        assert_eq!(hidden(&desk.dir.join("hello")), [""; 0]);
    }
}

#[test]
fn a_mistake_is_told_with_its_place_while_the_version_before_serves() {
    if tools::require_or_report("go").is_err() {
        return;
    }
    let desk = Desk::new();
    desk.write("api/hello/function.yaml", "name: hello\n");
    desk.write("api/hello/go.mod", "module example.com/hello\n\ngo 1.21\n");
    desk.go("api/hello", "", "\"before\"");
    let dev = desk.start(&["--compiler", "go"]);
    dev.answers("hello", "before");
    desk.go("api/hello", "", "missing");
    dev.says("hello | cannot be built; version 1 serves on\n");
    dev.says("hello | api/hello/function.go:5:");
    dev.says("undefined: missing");
    assert!(dev.invoke("hello", "").text().contains("before"));
    desk.write("api/hello/function.yaml", "name: hello\nmemory: 900\n");
    dev.says("hello | error: api/hello/function.yaml:2:9: memory must be");
    desk.write("api/hello/function.yaml", "name: hello\nmemory: 90\n");
    desk.go("api/hello", "", "\"after\"");
    dev.answers("hello", "after");
    // Back to what serves: nothing is deployed, and the mistake is gone.
    desk.go("api/hello", "", "missing");
    eventually("another mistake", || dev.said().matches("undefined: missing").count() == 2);
    desk.go("api/hello", "", "\"after\"");
    dev.says("hello | can be built again; version 2 serves");
    assert_eq!(dev.version("hello"), 2);
    dev.interrupt();
}

#[test]
fn functions_come_and_go_with_their_folders() {
    let desk = Desk::new();
    desk.prebuilt("first", "echo", "");
    let dev = desk.start(&[]);
    dev.says("first | version 1 serves");
    assert_eq!(dev.invoke("first", "[1]").expect(200).text(), "[1]");

    // A folder in a folder that comes later.
    desk.prebuilt("group", "echo", "");
    fs::rename(desk.dir.join("group"), desk.dir.join("moved")).unwrap();
    dev.says("group | version ");
    desk.prebuilt("second", "echo", "");
    dev.says("second | version 1 serves");
    assert_eq!(dev.invoke("second", "[2]").expect(200).text(), "[2]");

    // Another module, and another name.
    desk.write("second/function.wasm", guests::wat("exit_code"));
    dev.says("second | version 2 serves");
    desk.write("second/function.yaml", "name: third\n");
    dev.says("third | version 1 serves");
    eventually("the old name is gone", || dev.version("second") == 0);
    desk.prebuilt("fourth", "echo", "");
    desk.write("fourth/function.yaml", "name: third\n");
    dev.says("has a function of the same name");
    assert_eq!(dev.version("third"), 1);

    fs::remove_dir_all(desk.dir.join("first")).unwrap();
    dev.says("first | removed");
    eventually("it is gone", || dev.version("first") == 0);
    fs::remove_file(desk.dir.join("moved/function.yaml")).unwrap();
    eventually("what has no manifest is no function", || dev.version("group") == 0);
    dev.interrupt();

    // What goes while nothing runs is gone as well.
    fs::remove_dir_all(desk.dir.join("second")).unwrap();
    desk.write("fourth/function.yaml", "name: fourth\n");
    let dev = desk.start(&["fourth", "--home", ".orama/dev"]);
    dev.says("fourth | version 1 serves");
    assert_eq!(dev.request("GET", "/v1/functions").send().json()["count"], 1);

    // Migrations run with the next version, also those of a folder elsewhere.
    desk.write("sql/0001_init.sql", "CREATE TABLE m (a INTEGER)");
    desk.write("fourth/function.yaml", "name: fourth\nmigrations: ../sql\n");
    dev.says("fourth | version 2 serves");
    let number = std::cell::Cell::new(1);
    eventually("a new migration counts", || {
        let next = number.replace(number.get() + 1) + 1;
        desk.write(&format!("sql/{next:04}_more.sql"), format!("CREATE TABLE m{next} (a INTEGER)"));
        std::thread::sleep(Duration::from_millis(300));
        dev.version("fourth") > 2
    });
    dev.interrupt();
}

#[test]
fn a_shared_module_builds_the_functions_that_use_it_and_no_others() {
    if tools::require_or_report("go").is_err() {
        return;
    }
    let desk = Desk::new();
    desk.write("shared/go.mod", "module example.com/shared\n\ngo 1.21\n");
    desk.write("shared/words/words.go", "package words\n\nconst Word = \"one\"\n");
    let import = "\"example.com/shared/words\"";
    for (name, replace) in [("replaces", true), ("works", false), ("neither", false)] {
        let path = format!("functions/{name}");
        desk.write(&format!("{path}/function.yaml"), format!("name: {name}\n"));
        let module = format!("module example.com/{name}\n\ngo 1.21\n");
        let replaced = "require example.com/shared v0.0.0\nreplace example.com/shared => ../../shared\n";
        desk.write(&format!("{path}/go.mod"), module + if replace { replaced } else { "" });
        match name {
            "neither" => desk.go(&path, "", "\"mine\""),
            _ => desk.go(&path, import, "words.Word"),
        }
    }
    // One of them finds the module in a workspace.
    desk.write("functions/works/go.work", "go 1.21\n\nuse (\n\t.\n\t../../shared\n)\n");
    // The shared module is not in the folder that is looked at.
    let dev = desk.start(&["functions", "--compiler", "go"]);
    for name in ["replaces", "works"] {
        dev.answers(name, "one");
    }
    dev.answers("neither", "mine");
    // What a function is built from is known a moment after it serves.
    let tries = std::cell::Cell::new(0);
    eventually("both follow the shared module", || {
        let word = format!("at{}", tries.replace(tries.get() + 1));
        desk.write("shared/words/words.go", format!("package words\n\nconst Word = \"{word}\"\n"));
        std::thread::sleep(Duration::from_millis(500));
        ["replaces", "works"].iter().all(|name| dev.version(name) > 1)
    });
    desk.write("shared/words/words.go", "package words\n\nconst Word = \"two\"\n");
    dev.answers("replaces", "two");
    dev.answers("works", "two");
    // A file that is new in the module.
    desk.write("shared/words/more.go", "package words\n\nfunc init() { println(\"more\") }\n");
    let before = dev.version("works");
    eventually("a new file counts", || dev.version("works") > before);
    assert_eq!(dev.version("neither"), 1);
    dev.interrupt();
}

#[test]
fn lines_of_standard_input_are_keys() {
    let desk = Desk::new();
    desk.prebuilt("echo", "echo", "triggers:\n  - schedule: \"0 0 1 1 *\"\n");
    desk.write("secrets", "TOKEN=t\n");
    let mut dev = desk.start(&["--data", "{\"from\":\"flag\"}", "--env-file", "secrets"]);
    dev.says("echo | version 1 serves");
    dev.types("i");
    dev.says("echo | {\"from\":\"flag\"}");
    // The log tells of the run, with the function's name before it.
    eventually("the log", || dev.said().lines().any(|l| l.starts_with("echo | 2") && l.contains("success")));
    dev.types("i echo {\"a\": \"b c\"}");
    dev.says("echo | {\"a\": \"b c\"}");
    dev.types("");
    eventually("it is sent again", || dev.said().matches("echo | {\"a\": \"b c\"}").count() == 2);
    dev.types("i other");
    dev.says("there is no function \"other\"");
    dev.types("f");
    dev.says("echo | fired the schedule 0 0 1 1 *");
    eventually("the schedule ran", || {
        let triggers = dev.request("GET", "/v1/functions/echo/triggers").send().json();
        triggers["triggers"][0]["last_status"] == "success"
    });
    dev.types("f none");
    dev.says("no function has a schedule");
    dev.types("what");
    eventually("the keys are told", || dev.said().matches("q quits").count() == 2);
    let secrets = dev.request("GET", "/v1/functions/secrets").send().json();
    assert_eq!(secrets["secrets"], Value::from(["TOKEN"].as_slice()));
    dev.types("q");
    assert_eq!(wait(&mut dev.child).code(), Some(0), "{}", dev.said());
}

#[test]
fn a_second_one_in_the_same_folder_is_refused_and_a_taken_port_is_not() {
    let desk = Desk::new();
    desk.prebuilt("echo", "echo", "");
    let dev = desk.start(&[]);
    let refused = output(desk.command(&["dev", "--listen", "127.0.0.1:0"]));
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("--home chooses another home"), "{stderr}");
    let refused = output(desk.command(&["dev", "/nonexistent"]));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("/nonexistent"));
    // Variables that are for nodes of another kind change nothing.
    let mut command = desk.command(&["dev", "--home", "other"]);
    let _taken = std::net::TcpListener::bind("127.0.0.1:6001");
    command
        .env("ORAMA_HOME", desk.home.join("h"))
        .env("ORAMA_DATABASE_PLATFORM_RQLITE", "http://127.0.0.1:1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut other = spawn(command).unwrap();
    let said = Arc::new(Mutex::new(String::new()));
    keep(other.stdout.take().unwrap(), &said);
    eventually("the other one serves", || lock(&said).contains("echo | version 1 serves"));
    assert!(lock(&said).contains("is in use; a free port is taken instead"));
    rustix::process::kill_process(Pid::from_child(&other), Signal::TERM).unwrap();
    assert_eq!(wait(&mut other).code(), Some(0));
    dev.interrupt();
}
