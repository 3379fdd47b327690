//! Finds the programs that some tests need, and says so when one is missing.

use std::io::Write;
use std::path::PathBuf;

/// A program that is not on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub tool: String,
}

/// Set to `1` where every tool must be there, as in CI: a missing one then fails the test.
pub const REQUIRE: &str = "ORAMA_REQUIRE_TOOLS";

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

/// Finds a program that the calling test needs. When it is missing, a line on standard error says which test is left out,
/// also where the test harness captures output.
///
/// # Errors
/// [`Missing`], upon which the test should return.
///
/// # Panics
/// When it is missing although [`REQUIRE`] is set to `1`.
pub fn require_or_report(tool: &str) -> Result<PathBuf, Missing> {
    if let Some(path) = find(tool) {
        return Ok(path);
    }
    let current = std::thread::current();
    let who = current.name().unwrap_or("a thread");
    let required = std::env::var_os(REQUIRE).is_some_and(|value| value == "1");
    assert!(!required, "{who} needs {tool}, which is not installed, and {REQUIRE}=1 leaves nothing out");
    // Not eprintln!, which the harness captures. Nobody to tell means nothing to do.
    let _ = writeln!(std::io::stderr(), "left out: {who} needs {tool}, which is not installed");
    Err(Missing { tool: tool.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_on_the_path_is_found_and_another_is_not() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("orama-no-such-tool"), None);
    }
}
