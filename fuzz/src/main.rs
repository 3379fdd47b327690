//! Runs the oracles without instrumentation, or writes the seeds for runs with it.

use orama_fuzz::mutate::{Random, mutated};
use orama_fuzz::{TARGETS, Target};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, panic};

const USAGE: &str = "usage: orama-fuzz seeds | orama-fuzz list | orama-fuzz check SECONDS [TARGET...] | orama-fuzz replay TARGET FILE...";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["seeds"] => write_seeds(),
        ["list"] => {
            TARGETS.iter().for_each(|target| println!("{}", target.name));
            Ok(())
        }
        ["check", seconds, ref names @ ..] => check(Duration::from_secs(seconds.parse()?), names),
        ["replay", name, ref files @ ..] => {
            let target = find(name)?;
            for file in files {
                (target.check)(&fs::read(file)?);
            }
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

fn find(name: &str) -> Result<&'static Target, String> {
    TARGETS.iter().find(|target| target.name == name).ok_or_else(|| format!("no target is named {name:?}"))
}

fn here(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(part)
}

/// Fills `corpus/`, where libFuzzer looks.
fn write_seeds() -> Result<(), Box<dyn Error>> {
    for target in TARGETS {
        let folder = here("corpus").join(target.name);
        fs::create_dir_all(&folder)?;
        let seeds = (target.seeds)();
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:03}")), seed)?;
        }
        println!("{}: {} seeds", target.name, seeds.len());
    }
    Ok(())
}

/// All seeds of each target, then what mutations make of them, for so long.
fn check(each: Duration, names: &[&str]) -> Result<(), Box<dyn Error>> {
    let chosen = match names {
        [] => TARGETS.iter().collect(),
        names => names.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?,
    };
    let number = match env::var("ORAMA_FUZZ_SEED") {
        Ok(text) => text.parse()?,
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    println!("ORAMA_FUZZ_SEED={number}");
    let mut failed = Vec::new();
    for target in chosen {
        let (begun, mut random, seeds) = (Instant::now(), Random::new(number), (target.seeds)());
        let mut inputs = 0;
        let mut next = || {
            let input = match seeds.get(inputs) {
                Some(seed) => seed.clone(),
                None if begun.elapsed() < each => mutated(&seeds, &mut random),
                None => return None,
            };
            inputs += 1;
            Some(input)
        };
        let broken = std::iter::from_fn(&mut next)
            .find(|input| panic::catch_unwind(|| (target.check)(input)).is_err());
        match broken {
            None => println!("{}: {inputs} inputs in {:.1} s", target.name, begun.elapsed().as_secs_f32()),
            Some(input) => {
                let file = here("artifacts").join(target.name).join(format!("check-{number}"));
                fs::create_dir_all(here("artifacts").join(target.name))?;
                fs::write(&file, input)?;
                println!("{}: FAILED on input {inputs}, kept as {}", target.name, file.display());
                failed.push(target.name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}
