//! What a crash may leave on the disk.

use rustix::process::{Resource, Rlimit};
use std::io;

/// Sees to it that a crash writes no memory to the disk: it holds secrets of all tenants and the key that encrypts
/// them. The limit prevents core files. Where the kernel hands the core to a program it counts for nothing, but the
/// filter leaves no memory in it. (Marking the process as not dumpable would do both, and take its `/proc` folder
/// away from the operator.)
pub fn forbid_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let limited = rustix::process::setrlimit(Resource::Core, none).map_err(io::Error::from);
    if let Err(error) = limited.and_then(|()| std::fs::write("/proc/self/coredump_filter", "0")) {
        tracing::warn!(%error, "core dumps could not be switched off; one would hold secrets in plain");
    }
}
