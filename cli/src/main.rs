//! The `orama` binary.

orama_cli::program!();
