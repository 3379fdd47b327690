//! Why a module's code is not ready. Results that several callers share keep their causes behind an `Arc`.

use orama_runtime::{CompileError, ModuleError};
use orama_store::blob::BlobError;
use orama_store::blocking::TaskFailed;
use std::io;
use std::sync::Arc;

/// Why a deployed module could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The module cannot run; the message says why.
    #[error(transparent)]
    Invalid(#[from] ModuleError),
    /// Too many modules wait to be compiled, of all or of the namespace.
    #[error("too many modules are being compiled; try again soon")]
    Busy,
    /// Its compiled code cannot be stored.
    #[error(transparent)]
    Compile(CompileError),
    /// Its compiled code cannot be loaded.
    #[error(transparent)]
    Load(LoadError),
    /// A task panicked, or the node is stopping.
    #[error(transparent)]
    Task(#[from] TaskFailed),
}

impl From<CompileError> for PrepareError {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Module(error) => Self::Invalid(error),
            error @ CompileError::Store(_) => Self::Compile(error),
        }
    }
}

impl From<LoadError> for PrepareError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::NoRoom(_) => Self::Busy,
            error => Self::Load(error),
        }
    }
}

/// Why a deployed function's code could not be loaded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// The system gives the process no more files, mappings or memory.
    #[error("the system has no room for the code of the function: {0}")]
    NoRoom(#[source] Arc<io::Error>),
    /// The module cannot be fetched or compiled now, and may be soon.
    #[error("the code of the function is not on this node yet: {0}")]
    Later(#[from] NotYet),
    /// Anything else.
    #[error("the code of the function could not be loaded: {0}")]
    Failed(#[from] LoadFailure),
}

/// What the code of a function still waits for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotYet {
    /// It is on its way.
    #[error("it is being fetched and compiled")]
    UnderWay,
    /// There is no place in the queue.
    #[error("too many modules are being compiled")]
    Busy,
    /// The store of modules does not answer.
    #[error(transparent)]
    Store(Arc<BlobError>),
}

/// Why the code of a function cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadFailure {
    /// The artifact cannot be read or stored.
    #[error("the compiled code: {0}")]
    Artifact(#[source] Arc<io::Error>),
    /// The module cannot be read.
    #[error(transparent)]
    Store(Arc<BlobError>),
    /// The module does not compile any more.
    #[error(transparent)]
    Compile(Arc<CompileError>),
    /// The store has no such module.
    #[error("the module is not in the blob store")]
    Missing,
    /// The store has other bytes under the module's id.
    #[error("the stored module is not the one that was deployed")]
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
            error @ CompileError::Module(_) => LoadFailure::Compile(Arc::new(error)).into(),
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

/// Whether the process has as much of something as the system gives it; see [`orama_runtime::Compiler::load`].
pub(super) fn is_no_room(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}
