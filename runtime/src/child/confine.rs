//! What a child takes from itself before it reads what a tenant sent.

use super::seccomp;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal, setrlimit};
use std::ffi::CString;
use std::io;
use std::path::Path;

/// What a child may use of the machine. Each is the kernel's own limit of a process.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Private memory that can be written, in bytes: heap, stacks, anonymous mappings (RLIMIT_DATA). More is refused to
    /// the allocator. The program's code, which all share, does not count, nor does address space that is only reserved.
    pub memory_bytes: u64,
    /// CPU time of all threads over the child's whole life, in seconds; then it is killed. `None` for a child that serves many
    /// calls, which its parent ends by the clock.
    pub cpu_seconds: Option<u64>,
    /// Open files and sockets.
    pub descriptors: u64,
    /// Size that a file may reach by its writing, in bytes; more is an error of the write.
    pub file_bytes: u64,
    /// How much is added to its nice value, 0 to 19: who gives way when the cores are busy.
    pub nice: i32,
}

impl Limits {
    /// Takes the limits. They hold for the whole process, and none can be raised again.
    ///
    /// # Errors
    /// The system's.
    pub fn apply(&self) -> io::Result<()> {
        let limit = |resource, value| {
            let limit = Some(value);
            setrlimit(resource, Rlimit { current: limit, maximum: limit })
        };
        limit(Resource::Core, 0)?;
        limit(Resource::Data, self.memory_bytes)?;
        limit(Resource::Nofile, self.descriptors)?;
        limit(Resource::Fsize, self.file_bytes)?;
        if let Some(seconds) = self.cpu_seconds {
            limit(Resource::Cpu, seconds)?;
        }
        // Not RLIMIT_NPROC: it counts all threads of the user's, other programs' among them. `restrict` refuses new processes.
        rustix::process::nice(self.nice)?;
        Ok(())
    }
}

/// Which confinement the kernel has. What is missing weakens the second wall, not the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// It can open nothing but the paths it was given (Landlock).
    pub files: bool,
    /// It can make only the system calls of its work: no new process, no socket, no signal to others (seccomp).
    pub calls: bool,
}

/// Keeps this thread, and those that it starts from now on, to the folders given, in which it may read, write, make and remove
/// files, and to the system calls of its work. A child that has more than one thread calls it on each.
///
/// The process can then neither be traced nor leave a core dump; its own files in `/proc` belong to root.
#[must_use]
pub fn restrict(folders: &[&Path]) -> Held {
    // Refused by no kernel; a dump is bounded to nothing by its limit too.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let no_new_privileges = rustix::thread::set_no_new_privs(true).is_ok();
    let files =
        no_new_privileges && keep_to(folders).is_ok_and(|status| status != RulesetStatus::NotEnforced);
    Held { files, calls: no_new_privileges && seccomp::install().is_ok() }
}

fn keep_to(folders: &[&Path]) -> Result<RulesetStatus, RulesetError> {
    // The newest version known to this code; older kernels hold what they can.
    let abi = ABI::V6;
    let allowed = BitFlags::<AccessFs>::from(AccessFs::ReadFile)
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::ReadDir
        | AccessFs::MakeReg
        | AccessFs::RemoveFile;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?;
    for folder in folders {
        // A folder that cannot be opened is one that the child cannot use either.
        if let Ok(folder) = PathFd::new(folder) {
            rules = rules.add_rule(PathBeneath::new(folder, allowed))?;
        }
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// The first steps of a child, before its work is known: nothing of the parent's stays but the socket.
pub(super) fn leave_parent(name: &str) {
    // SAFETY: called first in `main`, where nothing in this process owns a descriptor beyond the standard ones.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
    }
    // The parent's death also shows in the socket's end.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGXFSZ] {
        // SAFETY: ignoring a signal installs no code. A write beyond the limit of a file is then an error, not a death.
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
    // When memory is short, the kernel takes a child that can be started again, not the node.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    if let Ok(name) = CString::new(format!("orama-{name}")) {
        // Only for `ps` and `top`.
        let _ = rustix::thread::set_name(&name);
    }
}
