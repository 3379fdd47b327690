//! Compares ways to run functions over HTTP: installs the peers, measures them in turns, prints tables, and writes them with
//! plots. README.md in this folder describes the options.

// A comparison panics on a machine that it cannot run on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod install;
mod kinds;
mod load;
mod measure;
mod options;
mod plots;
mod report;
mod servers;
mod stats;

use kinds::{Kind, Peer, WORKERS};
use options::{Options, USAGE};
use orama_benches::process::become_role;
use report::{Entry, Report};
use std::fs;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    become_role();
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match compare(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Result<(), String> {
    let wanted = |kind: &Kind| {
        *kind == Kind::Orama || options.only.is_empty() || options.only.iter().any(|name| name == kind.name())
    };
    if let Some(unknown) = options.only.iter().find(|name| Kind::ALL.iter().all(|kind| kind.name() != **name))
    {
        return Err(format!(
            "there is no peer {unknown:?}; the peers are {}",
            Kind::ALL.map(Kind::name).join(", ")
        ));
    }
    let tools = install::tools_dir(options)?;
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(wanted).collect();
    eprintln!("installing into {}...", tools.display());
    let installed: Vec<_> = kinds.iter().map(|kind| Peer::install(*kind, &tools, options)).collect();
    if let (Some(Err(error)), Kind::Orama) = (installed.first(), kinds[0]) {
        return Err(format!("there is no node to compare with: {error}"));
    }
    let machine = machine();
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let functions = servers::functions(dir.path())?;
    let peers: Vec<Peer> = installed.iter().filter_map(|peer| peer.as_ref().ok()).cloned().collect();
    let mut showings = measure::all(&peers, &functions, dir.path(), options).into_iter();
    let entries = kinds.iter().zip(installed).map(|(kind, peer)| Entry {
        name: kind.name(),
        what: kind.what(),
        showing: peer.as_ref().ok().and_then(|_| showings.next()).unwrap_or_default(),
        version: peer.map(|peer| peer.program.version),
    });
    let report = Report {
        machine,
        method: format!(
            "{} of {} s of each load, medians; {WORKERS} threads that serve; nothing is pinned but what a server pins \
             itself; the load comes from the same cores",
            options.rounds,
            options.run.as_secs_f64()
        ),
        functions: functions.iter().map(|function| function.name).collect(),
        peers: entries.collect(),
    };
    let text = report.markdown(&plots::PLOTS);
    println!("{text}");
    let out = options
        .out
        .clone()
        .or_else(|| options.only.is_empty().then(|| install::repository().join("docs/peers")));
    let Some(out) = out else { return Ok(()) };
    let io = |error: std::io::Error| format!("{}: {error}", out.display());
    fs::create_dir_all(&out).map_err(io)?;
    plots::write(&report, &out)?;
    fs::write(out.join("results.md"), text).map_err(io)?;
    fs::write(out.join("results.json"), format!("{:#}\n", report.json())).map_err(io)?;
    eprintln!("written to {}", out.display());
    Ok(())
}

/// Describes the machine.
fn machine() -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let tool = |name: &str| {
        let found = orama_test_support::tools::find(name);
        let version = found.and_then(|path| install::run(Command::new(path).arg("version")).ok());
        version.unwrap_or_else(|| "not installed".to_owned())
    };
    vec![
        ("processor", format!("{}, {cores} cores", field(&read("/proc/cpuinfo"), "model name"))),
        ("memory", memory),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        (
            "load average before the run",
            read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        ),
        ("wasmtime in the node", install::locked("wasmtime")),
        ("guests", format!("{}; {}", tool("tinygo"), tool("go"))),
    ]
}
