//! `orama demo`: starts a node, deploys a function and invokes it, on a machine that may have no compiler.

use super::{FunctionInfo, deploy, invoke, serve};
use crate::args::{CompilerChoice, Demo, SchedulerChoice, Target};
use crate::client::Client;
use crate::compiler::Compiler;
use crate::credentials::Credentials;
use crate::error::{CliError, Result, io};
use crate::manifest;
use crate::output;
use crate::project::Project;
use orama_runtime::names::FunctionName;
use orama_server::config::{Config, Overrides};
use orama_server::platform::registry::Which;
use serde::Deserialize;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

/// Not `hello`: the user may have a function of that name.
const NAME: &str = "demo-hello";

const INPUT: &str = "{\"name\": \"World\"}";

/// The module that TinyGo built from the sources below (`tinygo build -no-debug -target wasi`).
const BUNDLED: &[u8] = include_bytes!("../../../examples/hello/prebuilt/hello.wasm");

const MANIFEST: &str = include_str!("../../../examples/hello/function.yaml");

const SOURCES: [(&str, &str); 2] = [
    ("function.go", include_str!("../../../examples/hello/function.go")),
    ("go.mod", include_str!("../../../examples/hello/go.mod")),
];

#[derive(Deserialize)]
struct Deployed {
    function: FunctionInfo,
}

/// Runs the command.
pub fn run(args: Demo) -> Result<()> {
    serve::start_logging("warn")?;
    let overrides =
        Overrides { listen: args.listen.map(|listen| listen.0), home: args.home, ..Overrides::default() };
    let mut config: Config = serve::load(&overrides)?;
    if args.listen.is_none() && is_taken(config.listen) {
        output::line(&format!("{} is in use; the demo takes a free port instead", config.listen))?;
        config.listen.set_port(0);
    }
    let home = config.home.clone();
    let running = serve::Running::start(config)?;
    let gateway_url = format!("http://{}", running.node.local_addr());
    output::line(&format!("listening on {gateway_url} (data in {})", home.display()))?;

    // The node wrote its address and key into its home before it served.
    let client = Client::new(Credentials::of_home(&home)?)?;
    let function = deploy_hello(&client)?;
    output::line(&format!(
        "deployed {} version {}, content id {}",
        function.name, function.version, function.wasm_cid
    ))?;

    let name = FunctionName::new(NAME).map_err(built_in)?;
    let answer = invoke::call(&client, &Target { name, which: Which::Live }, INPUT.into())?;
    output::line(&format!("sent     {INPUT}\nanswered {}", String::from_utf8_lossy(&answer.body)))?;
    output::line(&format!(
        "\nTry it from another terminal:\n{}\n\nCtrl-C stops the node.",
        curl(&gateway_url, &home)
    ))?;
    running.until_signal()
}

/// Whether somebody listens on an address. Binds without SO_REUSEPORT: with it, two nodes would share the port, and each would
/// get half of the requests.
pub fn is_taken(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn deploy_hello(client: &Client) -> Result<FunctionInfo> {
    let mut manifest = manifest::parse(MANIFEST).map_err(built_in)?;
    manifest.name = FunctionName::new(NAME).map_err(built_in)?;
    let wasm = match Compiler::find(CompilerChoice::Auto) {
        Ok(compiler) => built_here(&compiler)?,
        Err(_) => {
            output::line("neither TinyGo nor Go is installed; the demo deploys its bundled module")?;
            BUNDLED.to_vec()
        }
    };
    Ok(deploy::upload(client, &manifest, deploy::Told::default(), wasm, false)?.json::<Deployed>()?.function)
}

/// An error in what this program brings along, which its tests exclude.
fn built_in(cause: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::failed("the bundled function is not valid").caused_by(cause)
}

fn built_here(compiler: &Compiler) -> Result<Vec<u8>> {
    let dir = tempfile::tempdir().map_err(|error| io("write to", &std::env::temp_dir(), error))?;
    for (file, text) in SOURCES {
        let path = dir.path().join(file);
        fs::write(&path, text).map_err(|error| io("write", &path, error))?;
    }
    let project = Project::open(dir.path())?;
    match compiler.build(&project, SchedulerChoice::Auto, false) {
        Ok(built) => {
            output::line(&super::build::summary(&built))?;
            fs::read(project.module_path()).map_err(|error| io("read", &project.module_path(), error))
        }
        Err(error) => {
            output::note(&output::printable(&error.described()));
            output::line("the build failed; the demo deploys its bundled module")?;
            Ok(BUNDLED.to_vec())
        }
    }
}

/// A command to paste. The shell reads the key from the file, so the key appears neither on the screen nor in the history.
fn curl(gateway_url: &str, home: &Path) -> String {
    let file = quoted(&home.join("credentials.json"));
    format!(
        "curl -s {gateway_url}/v1/functions/{NAME}/invoke \\\n  \
         -H \"X-API-Key: $(sed -n 's/.*\"api_key\": *\"\\([^\"]*\\)\".*/\\1/p' {file})\" \\\n  \
         -d '{INPUT}'"
    )
}

fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_shell_takes_the_key_out_of_the_file_in_either_layout() {
        for text in [
            "{\"gateway_url\":\"http://x\",\"api_key\":\"orama_a-B_9\",\"namespace\":\"default\"}",
            "{\n  \"gateway_url\": \"http://x\",\n  \"api_key\": \"orama_a-B_9\",\n  \"namespace\": \"default\"\n}\n",
        ] {
            let dir = tempfile::Builder::new().prefix("it's a home ").tempdir().unwrap();
            fs::write(dir.path().join("credentials.json"), text).unwrap();
            let script = curl("http://x", dir.path()).replacen("curl", "printf '%s|'", 1);
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            let output = String::from_utf8(output.stdout).unwrap();
            assert_eq!(
                output,
                "-s|http://x/v1/functions/demo-hello/invoke|-H|X-API-Key: orama_a-B_9|-d|{\"name\": \"World\"}|"
            );
        }
    }

    #[test]
    fn a_port_that_someone_listens_on_is_taken() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        assert!(is_taken(address));
        drop(listener);
        assert!(!is_taken(address));
    }

    #[test]
    fn the_bundled_manifest_is_valid() {
        manifest::parse(MANIFEST).unwrap();
    }
}
