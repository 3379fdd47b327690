//! `orama` as a program of this package, because Cargo tells tests the paths of their own package's programs only.

orama_cli::program!();
