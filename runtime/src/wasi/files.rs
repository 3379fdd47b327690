//! Files and sockets. There are none, so every call returns its errno, whatever its other arguments are.
//!
//! wasmtime-wasi would do the same, except that it traps on a flag that it does not know.

use super::errno;
use crate::call::Functions;
use wasmtime::{Result, Val, ValType};

/// A function of preview1. In `parameters`, `i` is 32 bits wide and `l` 64.
struct Function {
    name: &'static str,
    parameters: &'static str,
    /// The index of the parameter that is the descriptor.
    fd: usize,
    /// The errno for an open descriptor, which is a standard stream. Any other descriptor is `BADF`.
    on_stdio: i32,
}

const fn function(name: &'static str, parameters: &'static str, fd: usize, on_stdio: i32) -> Function {
    Function { name, parameters, fd, on_stdio }
}

const FUNCTIONS: [Function; 26] = [
    function("fd_advise", "illi", 0, errno::SPIPE),
    function("fd_allocate", "ill", 0, errno::SPIPE),
    function("fd_datasync", "i", 0, errno::INVAL),
    function("fd_fdstat_set_rights", "ill", 0, errno::NOTSUP),
    function("fd_filestat_set_size", "il", 0, errno::INVAL),
    function("fd_filestat_set_times", "illi", 0, errno::NOTSUP),
    function("fd_pread", "iiili", 0, errno::SPIPE),
    function("fd_pwrite", "iiili", 0, errno::SPIPE),
    function("fd_readdir", "iiili", 0, errno::NOTDIR),
    function("fd_renumber", "ii", 0, errno::NOTSUP),
    function("fd_sync", "i", 0, errno::INVAL),
    function("fd_tell", "ii", 0, errno::SPIPE),
    function("path_create_directory", "iii", 0, errno::NOTDIR),
    function("path_filestat_get", "iiiii", 0, errno::NOTDIR),
    function("path_filestat_set_times", "iiiilli", 0, errno::NOTDIR),
    function("path_link", "iiiiiii", 0, errno::NOTDIR),
    function("path_open", "iiiiillii", 0, errno::NOTDIR),
    function("path_readlink", "iiiiii", 0, errno::NOTDIR),
    function("path_remove_directory", "iii", 0, errno::NOTDIR),
    function("path_rename", "iiiiii", 0, errno::NOTDIR),
    function("path_symlink", "iiiii", 2, errno::NOTDIR),
    function("path_unlink_file", "iii", 0, errno::NOTDIR),
    function("sock_accept", "iii", 0, errno::NOTSOCK),
    function("sock_recv", "iiiiii", 0, errno::NOTSOCK),
    function("sock_send", "iiiii", 0, errno::NOTSOCK),
    function("sock_shutdown", "ii", 0, errno::NOTSOCK),
];

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    for Function { name, parameters, fd, on_stdio } in &FUNCTIONS {
        let types = parameters.chars().map(|c| if c == 'i' { ValType::I32 } else { ValType::I64 });
        functions.add_start_up_dynamic(name, types, move |state, arguments| {
            let is_open = arguments.get(*fd).and_then(Val::i32).is_some_and(|fd| state.is_open(fd));
            if is_open { *on_stdio } else { errno::BADF }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::guest::GuestState;
    use std::collections::HashMap;
    use wasmtime::{Engine, Extern, Linker, Store};

    /// The functions of preview1 with their types.
    fn signatures(linker: &Linker<GuestState>) -> HashMap<String, String> {
        let mut store = Store::new(linker.engine(), crate::instance::idle_state());
        let items: Vec<_> = linker.iter(&mut store).map(|(_, name, item)| (name.to_owned(), item)).collect();
        let typed = items.into_iter().filter_map(|(name, item)| match item {
            Extern::Func(function) => Some((name, function.ty(&store).to_string())),
            _ => None,
        });
        typed.collect()
    }

    #[test]
    fn the_signatures_are_those_of_wasmtime_wasi() {
        let engine = Engine::default();
        let mut theirs = Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut theirs, GuestState::wasi).unwrap();
        let mut ours = Linker::new(&engine);
        crate::wasi::link(&mut ours).unwrap();
        assert_eq!(signatures(&ours), signatures(&theirs));
    }
}
