//! The `orama` binary: sets the allocator and runs the command line.

use std::process::ExitCode;

// Deploys and answers allocate in bursts on many threads, where mimalloc is faster than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    orama_cli::run()
}
