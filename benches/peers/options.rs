//! The options of the command line.

use std::path::PathBuf;
use std::time::Duration;

/// Shown for `--help` and after an error.
pub const USAGE: &str = "\
Compares ways to run functions over HTTP, prints the tables, and writes them with plots to docs/peers.

usage: peers [OPTIONS]
  --only NAME[,NAME]  only these peers, and always orama; writes no files unless --out is given
  --seconds N         length of each run of load, 0.1 to 60 (1)
  --rounds N          runs of each load, of which the median counts, 1 to 50 (5)
  --install           also install wasmtime, which compiles for a quarter of an hour
  --tools DIR         folder for installed peers (target/peers)
  --node PATH         the orama binary to measure, instead of building it with this program's profile
  --out DIR           folder for results.md, results.json and the plots (docs/peers)";

/// The chosen options.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Names of peers; empty means all.
    pub only: Vec<String>,
    /// Length of one run of load.
    pub run: Duration,
    /// Number of runs of each load.
    pub rounds: usize,
    /// Whether to install wasmtime, which takes long.
    pub install: bool,
    /// Folder for installed peers.
    pub tools: Option<PathBuf>,
    /// The node's binary.
    pub node: Option<PathBuf>,
    /// Folder for the results.
    pub out: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments after the program's name; `None` for `--help`.
    ///
    /// # Errors
    /// Names the argument that is wrong.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            only: Vec::new(),
            run: Duration::from_secs(1),
            rounds: 5,
            install: false,
            tools: None,
            node: None,
            out: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--install" => options.install = true,
                "--only" => options.only.extend(value()?.split(',').map(str::to_owned)),
                "--seconds" => {
                    options.run = Duration::from_secs_f64(within(&argument, &value()?, 0.1, 60.0)?)
                }
                "--rounds" => options.rounds = within(&argument, &value()?, 1, 50)?,
                "--tools" => options.tools = Some(value()?.into()),
                "--node" => options.node = Some(value()?.into()),
                "--out" => options.out = Some(value()?.into()),
                _ => return Err(format!("unknown argument {argument}")),
            }
        }
        Ok(Some(options))
    }
}

fn within<T>(name: &str, text: &str, least: T, most: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let value = text.parse().ok().filter(|value| (&least..=&most).contains(&value));
    value.ok_or_else(|| format!("{name} takes a number from {least} to {most}, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_option_is_read() {
        let options = parse(
            "--only wazero,workerd --only go --seconds 0.5 --rounds 3 --install --tools t --node n --out o",
        );
        let options = options.unwrap().unwrap();
        assert_eq!(options.only, ["wazero", "workerd", "go"]);
        assert_eq!((options.run, options.rounds, options.install), (Duration::from_millis(500), 3, true));
        let paths = [options.tools, options.node, options.out].map(Option::unwrap);
        assert_eq!(paths, ["t", "n", "o"].map(PathBuf::from));
        assert_eq!(parse("--rounds 2 --help"), Ok(None));
    }

    #[test]
    fn an_error_names_the_argument() {
        for (line, said) in [
            ("--rounds", "--rounds needs a value"),
            ("--rounds 0", "--rounds takes a number from 1 to 50, not \"0\""),
            ("--seconds NaN", "--seconds takes a number from 0.1 to 60, not \"NaN\""),
            ("--second 1", "unknown argument --second"),
        ] {
            assert_eq!(parse(line), Err(said.to_owned()), "{line}");
        }
    }
}
