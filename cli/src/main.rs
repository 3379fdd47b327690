//! The `orama` binary: picks the allocator and turns the outcome of a command into an exit code.

use std::process::ExitCode;

// Deploys and answers allocate in bursts from many threads, where mimalloc beats the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    orama_cli::run()
}
