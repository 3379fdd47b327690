//! Finds the programs that some tests need, and says so when one is missing.

use crate::left_out;
use std::path::PathBuf;

/// The tools that a test needs and that are not installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The names of the programs.
    pub tools: Vec<String>,
}

/// Set to `1` where every tool must be there, as in CI: a missing one then fails the test.
pub const REQUIRE: &str = "ORAMA_REQUIRE_TOOLS";

/// Why tools could not be installed, as lines `TOOL: REASON`. `tests/run` sets it; the table of left-out tests shows it.
const WHY_MISSING: &str = "ORAMA_WHY_MISSING";

/// The program's path: from `PATH`, else from `${ORAMA_TOOLS:-$HOME/.cache/orama-tools}/<tool>/bin/<tool>`, where the
/// scripts in `tests/tools` install.
#[must_use]
pub fn find(tool: &str) -> Option<PathBuf> {
    which::which(tool).ok().or_else(|| {
        let tools = std::env::var_os("ORAMA_TOOLS").map(PathBuf::from).or_else(|| {
            std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/orama-tools"))
        })?;
        which::which(tools.join(tool).join("bin").join(tool)).ok()
    })
}

/// Finds a program that the calling test needs; TinyGo needs Go too. If one is missing, a line on standard error says that the
/// test is left out, even if the test harness captures output, and the table at the end of the run lists the test.
///
/// # Errors
/// [`Missing`], upon which the test should return.
///
/// # Panics
/// When it is missing although [`REQUIRE`] is set to `1`.
pub fn require_or_report(tool: &str) -> Result<PathBuf, Missing> {
    require_all(if tool == "tinygo" { &["tinygo", "go"] } else { std::slice::from_ref(&tool) })?;
    find(tool).ok_or_else(|| missing(vec![tool.to_owned()]))
}

/// Reports that a test is left out because of something that no package registry has, so that nothing requires it.
pub fn leave_out(what: &str) {
    left_out::say(what);
}

/// Checks for several programs at once, so that the report names all that are missing.
///
/// # Errors
/// [`Missing`], upon which the test should return.
///
/// # Panics
/// When one is missing although [`REQUIRE`] is set to `1`.
pub fn require_all(tools: &[&str]) -> Result<(), Missing> {
    let missed: Vec<_> = tools.iter().filter(|tool| find(tool).is_none()).map(ToString::to_string).collect();
    if missed.is_empty() { Ok(()) } else { Err(missing(missed)) }
}

fn missing(tools: Vec<String>) -> Missing {
    let current = std::thread::current();
    let who = current.name().unwrap_or("a thread");
    let what = tools.join(", ");
    if std::env::var_os(REQUIRE).is_some_and(|value| value == "1") {
        let why: Vec<_> = tools.iter().map(|tool| format!("\n  {tool}: {}", why_missing(tool))).collect();
        panic!("{who} needs {what}, and {REQUIRE}=1 leaves nothing out{}", why.concat());
    }
    left_out::say(&format!("{what}, which is not installed"));
    left_out::note(who, &tools);
    Missing { tools }
}

/// Why a tool is missing, or else how to install it.
pub(crate) fn why_missing(tool: &str) -> String {
    let said = std::env::var(WHY_MISSING).unwrap_or_default();
    let said = said.lines().find_map(|line| line.strip_prefix(tool)?.strip_prefix(": "));
    said.map_or_else(|| format!("not installed; {}", remedy(tool)), str::to_owned)
}

fn remedy(tool: &str) -> &'static str {
    match tool {
        "tinygo" => "tests/tools/install-tinygo.sh installs it on Debian",
        "rqlited" | "olric-server" | "ipfs" | "caddy" => "tests/tools/install-backends.sh builds it",
        "redbot" => "tests/tools/install-redbot.sh installs it",
        "axe-core" => "tests/tools/install-axe.sh installs it",
        "openapi-client" => "tests/tools/install-openapi.sh installs it",
        "nginx" | "chromium-headless-shell" => "tests/tools/install-web.sh installs it on Debian",
        "go" => "https://go.dev/dl has it",
        _ => "the system's packages have it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_on_the_path_is_found_and_another_is_not() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("orama-no-such-tool"), None);
        assert_eq!(require_all(&["sh", "ls"]), Ok(()));
    }

    #[test]
    fn every_tool_of_the_tests_has_a_way_to_get_it() {
        for (tool, way) in [
            ("tinygo", "install-tinygo.sh"),
            ("caddy", "install-backends.sh"),
            ("redbot", "install-redbot.sh"),
            ("axe-core", "install-axe.sh"),
            ("openapi-client", "install-openapi.sh"),
            ("nginx", "install-web.sh"),
            ("go", "go.dev"),
        ] {
            assert!(remedy(tool).contains(way), "{tool}");
        }
    }
}
