//! Why a module's code is not ready. Several callers may share one result, so its causes are behind an `Arc`.

use orama_runtime::{CompileError, ModuleError};
use orama_store::blob::BlobError;
use orama_store::blocking::TaskFailed;
use std::io;
use std::sync::Arc;

/// Why the module of a deploy could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The module cannot run; the message says why.
    #[error(transparent)]
    Invalid(#[from] ModuleError),
    /// Too many modules wait to be compiled, on the node or of the namespace.
    #[error("too many modules wait to be compiled; try again soon")]
    Busy,
    /// The artifact cannot be written, or the compiler failed.
    #[error(transparent)]
    Compile(CompileError),
    /// The artifact cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A task panicked, or the node is stopping.
    #[error(transparent)]
    Task(#[from] TaskFailed),
}

impl From<CompileError> for PrepareError {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Module(error) => Self::Invalid(error),
            error => Self::Compile(error),
        }
    }
}

/// Why a deployed function's code could not be loaded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// The system gives the node no more files, mappings or memory.
    #[error("the system gives the node no more files, mappings or memory for the function's code: {0}")]
    NoRoom(#[source] Arc<io::Error>),
    /// The module cannot be fetched or compiled now. A later call may succeed.
    #[error("the function's code is not on this node yet: {0}")]
    Later(#[from] NotYet),
    /// Anything else.
    #[error("the function's code could not be loaded: {0}")]
    Failed(#[from] LoadFailure),
}

/// Why a function's code is not on this node yet.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotYet {
    /// The module is being fetched and compiled.
    #[error("its module is being fetched and compiled")]
    UnderWay,
    /// The queue of modules to compile is full.
    #[error("too many modules wait to be compiled")]
    Busy,
    /// The blob store does not answer.
    #[error(transparent)]
    Store(Arc<BlobError>),
}

/// Why a function's code could not be loaded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadFailure {
    /// The artifact cannot be read or written.
    #[error("its artifact could not be read or written: {0}")]
    Artifact(#[source] Arc<io::Error>),
    /// The module cannot be read from the blob store.
    #[error(transparent)]
    Store(Arc<BlobError>),
    /// The module does not compile on this node.
    #[error(transparent)]
    Compile(Arc<CompileError>),
    /// The blob store does not have the module.
    #[error("the module is not in the blob store; deploy it again")]
    Missing,
    /// The blob store has other bytes under the module's content id.
    #[error("the stored module is not the one that was deployed; deploy it again")]
    Different,
    /// A task panicked, or the node is stopping.
    #[error("a task of the node ended without a result")]
    Task,
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        if is_no_room(&error) {
            Self::NoRoom(Arc::new(error))
        } else {
            LoadFailure::Artifact(Arc::new(error)).into()
        }
    }
}

impl From<CompileError> for LoadError {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Store(cause) => cause.into(),
            error => LoadFailure::Compile(Arc::new(error)).into(),
        }
    }
}

impl From<BlobError> for LoadError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Unavailable(_) => NotYet::Store(Arc::new(error)).into(),
            error => LoadFailure::Store(Arc::new(error)).into(),
        }
    }
}

impl From<TaskFailed> for LoadError {
    fn from(_: TaskFailed) -> Self {
        LoadFailure::Task.into()
    }
}

/// Whether the system refused the node another file, mapping or more memory; see [`orama_runtime::Compiler::load`].
pub(super) fn is_no_room(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}
