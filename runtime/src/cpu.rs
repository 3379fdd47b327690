//! The processor features that code is compiled for, named and checked by Cranelift.

use crate::engine::EngineError;
use cranelift_codegen::isa;
use cranelift_codegen::settings::{self, SettingKind};
use std::fmt;
use std::str::FromStr;

/// For which processors a node, or a fleet of nodes, compiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuLevel {
    /// All that this machine has: the fastest code, which may not run on another machine.
    Native,
    /// A named level, such as `x86-64-v3`: code is the same on every machine that has it.
    Named(String),
}

/// The level without any optional feature.
const BASELINE: &str = "baseline";

impl FromStr for CpuLevel {
    type Err = EngineError;

    /// Takes `native`, `baseline`, or a level that Cranelift knows for this architecture.
    fn from_str(name: &str) -> Result<Self, EngineError> {
        if name == "native" {
            return Ok(Self::Native);
        }
        features(name).map(|_| Self::Named(name.to_owned()))
    }
}

impl fmt::Display for CpuLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Named(name) => name,
        })
    }
}

/// The features that a named level switches on.
fn features(level: &str) -> Result<Vec<&'static str>, EngineError> {
    let unsupported =
        |error: isa::LookupError| EngineError::Cpu(format!("no code generator for this machine: {error}"));
    let mut builder = isa::lookup_by_name(std::env::consts::ARCH).map_err(unsupported)?;
    if level == BASELINE {
        return Ok(Vec::new());
    }
    let is_preset = builder.iter().any(|s| s.name == level && s.kind == SettingKind::Preset);
    if !is_preset {
        return Err(EngineError::Cpu(format!(
            "unknown CPU level {level:?}: use native, baseline or a processor level such as x86-64-v3"
        )));
    }
    let cpu = |error: String| EngineError::Cpu(format!("CPU level {level:?}: {error}"));
    cranelift_codegen::settings::Configurable::enable(&mut builder, level).map_err(|e| cpu(e.to_string()))?;
    let isa =
        builder.finish(settings::Flags::new(settings::builder())).map_err(|error| cpu(error.to_string()))?;
    Ok(isa.isa_flags().iter().filter(|flag| flag.as_bool() == Some(true)).map(|flag| flag.name).collect())
}

impl CpuLevel {
    /// Sets the level's features, instead of the ones that wasmtime finds on this machine.
    pub(crate) fn apply(&self, config: &mut wasmtime::Config) -> Result<(), EngineError> {
        let Self::Named(level) = self else { return Ok(()) };
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        config.target(&triple).map_err(|error| EngineError::Cpu(error.to_string()))?;
        for feature in features(level)? {
            // SAFETY: the names come from Cranelift's own list of instruction-set extensions, which change no
            // assumption of wasmtime's; that the machine has them is checked before any code runs.
            unsafe { config.cranelift_flag_enable(feature) };
        }
        Ok(())
    }

    /// Loads an empty module, at which wasmtime compares the level's features with the machine's.
    pub(crate) fn check_host(&self, engine: &wasmtime::Engine) -> Result<(), EngineError> {
        const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";
        wasmtime::Module::new(engine, EMPTY_MODULE)
            .map(|_| ())
            .map_err(|error| EngineError::Cpu(format!("this machine cannot run CPU level {self}: {error:#}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_level_names_its_features() {
        let v3 = features("x86-64-v3").unwrap();
        assert!(v3.contains(&"has_avx2") && v3.contains(&"has_bmi2"), "{v3:?}");
        assert!(!features("x86-64-v2").unwrap().contains(&"has_avx2"));
        assert_eq!(features(BASELINE).unwrap(), Vec::<&str>::new());
    }

    #[test]
    fn an_unknown_level_is_refused_by_name() {
        let error = "x86-64-v9".parse::<CpuLevel>().unwrap_err().to_string();
        assert!(error.contains("x86-64-v9"), "{error}");
    }
}
