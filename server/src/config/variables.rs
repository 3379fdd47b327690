//! Which `ORAMA_…` variables mean something, so that a misspelt one is told.

use super::Loaded;
use super::key::variable_of;
use super::keys::keys;
use super::load::FILE_VARIABLE;
use super::raw;
use orama_platform::secrets::KEY_VARIABLE;

/// What the variables of this product begin with.
const PREFIX: &str = "ORAMA_";

/// What those of tests, builds and benchmarks begin with; none of them is for a node.
const OF_DEVELOPMENT: [&str; 4] = ["ORAMA_TEST_", "ORAMA_BUILD_", "ORAMA_BENCH_", "ORAMA_CI_"];

/// The others of them.
const OF_TOOLS: [&str; 11] = [
    "ORAMA_TOOLS",
    "ORAMA_REQUIRE_TOOLS",
    "ORAMA_LEFT_OUT_TABLE",
    "ORAMA_WHY_MISSING",
    "ORAMA_SCREENSHOTS",
    "ORAMA_CANARIES",
    "ORAMA_BINARY",
    "ORAMA_DENSITY_HOME",
    "ORAMA_WRITE_DOCS",
    "ORAMA_COMMIT",
    "ORAMA_DATE",
];

/// The variables that a node reads.
pub(super) fn of_nodes() -> impl Iterator<Item = String> {
    let of_backends = raw::key_names().filter(|key| !key.contains('*')).map(|key| variable_of(&key));
    let others = [FILE_VARIABLE, KEY_VARIABLE].map(str::to_owned);
    keys().map(|key| key.variable()).chain(of_backends).chain(others)
}

/// A variable that nothing reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misspelt {
    /// Its name.
    pub name: String,
    /// The known names, without what they all begin with.
    known: Vec<String>,
}

impl Misspelt {
    /// The known name that is most like it, as `similar` finds it.
    pub fn meant(&self, similar: impl Fn(&str, &[String]) -> Option<String>) -> Option<String> {
        let rest = self.name.strip_prefix(PREFIX)?;
        similar(rest, &self.known).map(|name| format!("{PREFIX}{name}"))
    }
}

impl Loaded {
    /// The variables among `names` that begin as those of this product and that nothing reads. `others` are those of the
    /// command line.
    #[must_use]
    pub fn misspelt(&self, names: impl Iterator<Item = String>, others: &[&str]) -> Vec<Misspelt> {
        let others = others.iter().map(|name| (*name).to_owned());
        let known: Vec<_> = of_nodes().chain(others).collect();
        let is_known = |name: &String| {
            known.contains(name)
                || self.named_variables.contains(name)
                || OF_TOOLS.contains(&name.as_str())
                || OF_DEVELOPMENT.iter().any(|prefix| name.starts_with(prefix))
        };
        let unknown = names.filter(|name| name.starts_with(PREFIX) && !is_known(name));
        let rests = || known.iter().filter_map(|name| name.strip_prefix(PREFIX)).map(str::to_owned);
        let mut misspelt: Vec<_> = unknown.map(|name| Misspelt { name, known: rests().collect() }).collect();
        misspelt.sort_by(|a, b| a.name.cmp(&b.name));
        misspelt
    }
}
