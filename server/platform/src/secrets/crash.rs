//! Keeps secrets out of core dumps.

use rustix::process::{Resource, Rlimit};
use std::io;

/// Prevents core dumps with memory, because it contains secrets of all tenants and the master keys. The limit prevents core
/// files. The kernel ignores it when it pipes dumps to a program, so the filter excludes all memory from those. (Marking the
/// process as not dumpable would do both, but would also deny the operator its `/proc` folder.)
pub fn forbid_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let limited = rustix::process::setrlimit(Resource::Core, none).map_err(io::Error::from);
    if let Err(error) = limited.and_then(|()| std::fs::write("/proc/self/coredump_filter", "0")) {
        tracing::warn!(%error, "core dumps could not be disabled; a dump would contain secrets in plain text");
    }
}
