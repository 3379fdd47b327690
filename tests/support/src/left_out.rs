//! Which tests were left out because a tool is missing: each test process notes its own, and one table shows them all.

use crate::tools::why_missing;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

/// A suite and a test in it.
type Test = (String, String);

/// The folder of notes.
fn dir() -> PathBuf {
    crate::guests::target_dir().join("left-out")
}

/// The notes of this run: `cargo test` is the parent of all processes that run tests.
fn notes() -> Option<PathBuf> {
    let cargo = rustix::process::getppid()?;
    Some(dir().join(format!("{}.tsv", cargo.as_raw_nonzero())))
}

/// Notes a test that this process leaves out.
pub(crate) fn note(test: &str, tools: &[String]) {
    let program = std::env::current_exe().ok();
    let suite = program.as_deref().and_then(|path| path.file_stem()?.to_str()).unwrap_or_default();
    // Cargo puts a hash behind the name.
    let suite = suite.rsplit_once('-').map_or(suite, |(name, _)| name);
    let lines: String = tools.iter().map(|tool| format!("{tool}\t{suite}\t{test}\n")).collect();
    let Some(path) = notes() else { return };
    fs::create_dir_all(dir()).expect("target/left-out can be made");
    // One write, so that lines of several processes do not mix.
    let file = File::options().create(true).append(true).open(&path);
    file.and_then(|mut file| file.write_all(lines.as_bytes()))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Says that the test of this thread is left out, and what it needs.
pub fn say(needs: &str) {
    let current = std::thread::current();
    let test = current.name().unwrap_or("a thread");
    // Not eprintln!, which the harness captures. Nobody to tell means nothing to do.
    let _ = writeln!(std::io::stderr(), "left out: {test} needs {needs}");
}

/// The table of the tests that this run of `cargo test` has left out so far; `None` if it left out none. Removes the notes of
/// this run and of runs that have ended.
///
/// # Panics
/// When notes that are there cannot be read.
#[must_use]
pub fn table() -> Option<String> {
    let here = notes()?;
    let noted =
        if here.exists() { fs::read_to_string(&here).expect("the notes can be read") } else { String::new() };
    for entry in fs::read_dir(dir()).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_running = path.file_stem().is_some_and(|cargo| PathBuf::from("/proc").join(cargo).exists());
        if path == here || !is_running {
            let _ = fs::remove_file(path);
        }
    }
    render(&noted, why_missing)
}

/// One row a test, and a line for each tool.
fn render(noted: &str, why: impl Fn(&str) -> String) -> Option<String> {
    let mut needs: BTreeMap<Test, BTreeSet<&str>> = BTreeMap::new();
    let mut tools = BTreeSet::new();
    for line in noted.lines() {
        let mut fields = line.split('\t');
        let [Some(tool), Some(suite), Some(test)] = [fields.next(), fields.next(), fields.next()] else {
            continue;
        };
        needs.entry((suite.to_owned(), test.to_owned())).or_default().insert(tool);
        tools.insert(tool);
    }
    if needs.is_empty() {
        return None;
    }
    let joined = |tools: &BTreeSet<&str>| tools.iter().copied().collect::<Vec<_>>().join(", ");
    let mut rows: Vec<_> = needs.iter().map(|((suite, test), tools)| (joined(tools), suite, test)).collect();
    rows.sort();
    let width = |widths: &mut dyn Iterator<Item = usize>| widths.max().unwrap_or_default();
    let first = width(&mut rows.iter().map(|row| row.0.len())).max("needs".len());
    let second = width(&mut rows.iter().map(|row| row.1.len())).max("suite".len());
    let mut text = format!("tests left out, wholly or partly, because a tool is missing: {}\n\n", rows.len());
    let mut row = |needs: &str, suite: &str, test: &str| {
        let _ = writeln!(text, "  {needs:first$}  {suite:second$}  {test}");
    };
    row("needs", "suite", "test");
    rows.iter().for_each(|(needs, suite, test)| row(needs, suite, test));
    text.push('\n');
    for tool in tools {
        let _ = writeln!(text, "  {tool}: {}", why(tool));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn the_table_has_a_row_for_each_test_and_a_reason_for_each_tool() {
        let noted = "tinygo\tembedded\tcli::b\nrqlited\tcluster\tjwt::c\nipfs\tcluster\tjwt::c\ntinygo\tembedded\tcli::b\ngo\tembedded\tcli::a\n";
        let expected = "\
tests left out, wholly or partly, because a tool is missing: 3

  needs          suite     test
  go             embedded  cli::a
  ipfs, rqlited  cluster   jwt::c
  tinygo         embedded  cli::b

  go: why go
  ipfs: why ipfs
  rqlited: why rqlited
  tinygo: why tinygo
";
        assert_eq!(render(noted, |tool| format!("why {tool}")).as_deref(), Some(expected));
    }

    #[test]
    fn nothing_left_out_is_no_table() {
        assert_eq!(render("", |_| String::new()), None);
    }
}
