//! The processor features that compiled code may use. Cranelift names and checks them.

use crate::engine::EngineError;
use cranelift_codegen::isa;
use cranelift_codegen::settings::{self, SettingKind};
use std::fmt;
use std::str::FromStr;

/// The processors for which a node, or a fleet of nodes, compiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuLevel {
    /// Every feature of this machine: the fastest code, which may not run on another machine.
    Native,
    /// A named level, such as `x86-64-v3`. Its code is the same on every machine.
    Named(String),
}

/// The level without optional features.
const BASELINE: &str = "baseline";

impl FromStr for CpuLevel {
    type Err = EngineError;

    /// Accepts `native`, `baseline`, and every level that Cranelift knows for this architecture.
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

/// The features that a named level enables.
fn features(level: &str) -> Result<Vec<&'static str>, EngineError> {
    let mut builder = isa::lookup_by_name(std::env::consts::ARCH).map_err(EngineError::NoCodeGenerator)?;
    if level == BASELINE {
        return Ok(Vec::new());
    }
    let is_preset = builder.iter().any(|s| s.name == level && s.kind == SettingKind::Preset);
    if !is_preset {
        return Err(EngineError::UnknownCpuLevel(level.to_owned()));
    }
    let refused = |cause| EngineError::CpuFeatures { level: level.to_owned(), cause };
    settings::Configurable::enable(&mut builder, level).map_err(|error| refused(error.into()))?;
    let isa =
        builder.finish(settings::Flags::new(settings::builder())).map_err(|error| refused(error.into()))?;
    Ok(isa.isa_flags().iter().filter(|flag| flag.as_bool() == Some(true)).map(|flag| flag.name).collect())
}

impl CpuLevel {
    /// Sets the level's features in place of those that wasmtime detects on this machine.
    pub(crate) fn apply(&self, config: &mut wasmtime::Config) -> Result<(), EngineError> {
        let Self::Named(level) = self else { return Ok(()) };
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        config.target(&triple).map_err(|cause| EngineError::CpuFeatures { level: level.clone(), cause })?;
        for feature in features(level)? {
            // SAFETY: the names come from Cranelift's own list of instruction-set extensions, which break no assumption of
            // wasmtime. `check_host` verifies that the machine has them before any code runs.
            unsafe { config.cranelift_flag_enable(feature) };
        }
        Ok(())
    }

    /// Loads an empty module, which makes wasmtime compare the level's features with those of the machine.
    pub(crate) fn check_host(&self, engine: &wasmtime::Engine) -> Result<(), EngineError> {
        const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";
        wasmtime::Module::new(engine, EMPTY_MODULE)
            .map(|_| ())
            .map_err(|cause| EngineError::CpuUnsupported { level: self.clone(), cause })
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
