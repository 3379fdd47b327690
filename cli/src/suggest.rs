//! "Did you mean": commands that are elsewhere, and functions with a similar name.

use crate::args::Args;
use clap::CommandFactory;

/// How similar a name must be, as clap has it for subcommands.
const SIMILAR: f64 = 0.8;

/// The most commands that are suggested.
const SHOWN: usize = 4;

/// The name that is most like the wanted one.
pub fn similar<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.into_iter().map(|name| (strsim::jaro_winkler(wanted, name), name));
    let best = scored.filter(|(score, _)| *score > SIMILAR).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, name)| name)
}

/// A sentence with the commands that end with the given words, such as `deploy` or `secrets set`.
pub fn commands(words: &[String]) -> Option<String> {
    let mut all = Vec::new();
    collect(&Args::command(), &mut Vec::new(), &mut all);
    // The words to the last one, then fewer of them: of `orama secrets lst`, no command is anywhere.
    let found = (0..words.len()).map(|from| &words[from..]).find_map(|wanted| {
        let fits: Vec<String> = all
            .iter()
            .filter(|path| path.ends_with(wanted))
            .map(|path| format!("`orama {}`", path.join(" ")))
            .collect();
        (!fits.is_empty()).then_some(fits)
    })?;
    Some(format!("did you mean {}?", found.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(" or ")))
}

fn collect(command: &clap::Command, path: &mut Vec<String>, all: &mut Vec<Vec<String>>) {
    for inner in command.get_subcommands() {
        path.push(inner.get_name().to_owned());
        all.push(path.clone());
        collect(inner, path, all);
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_other_groups_are_found_by_their_last_words() {
        let of = |words: &[&str]| commands(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["deploy"]).unwrap(), "did you mean `orama function deploy`?");
        assert_eq!(of(&["secrets", "set"]).unwrap(), "did you mean `orama function secrets set`?");
        assert_eq!(of(&["function", "publish"]).unwrap(), "did you mean `orama pubsub publish`?");
        assert!(
            of(&["list"]).unwrap().contains("`orama keys list`")
                || of(&["list"]).unwrap().contains("function list")
        );
        assert_eq!(of(&["frobnicate"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_similar_name_is_found_and_another_is_not() {
        assert_eq!(similar("ecko", ["other", "echo"]), Some("echo"));
        assert_eq!(similar("ecko", ["other"]), None);
        assert_eq!(similar("ecko", []), None);
    }
}
