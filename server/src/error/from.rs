//! What a client is told of each kind of failure.

use super::{ApiError, BUSY_RETRY_AFTER_S};
use crate::shares::{Limited, NoRoom, Scope};
use http::StatusCode;
use orama_platform::UsageError;
use orama_platform::auth::jwt::Refusal;
use orama_platform::auth::{CredentialError, DifferentNamespaces, Forbidden};
use orama_platform::deploy::DeployError;
use orama_platform::events::EventsError;
use orama_platform::migrations::MigrateError;
use orama_platform::modules::{LoadError, PrepareError};
use orama_platform::namespaces::NamespaceError;
use orama_platform::registry::{RegistryError, Which};
use orama_runtime::services::ErrorCode;
use orama_store::blob::BlobError;
use orama_store::blocking::TaskFailed;

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        match &error {
            RegistryError::NoNamespace(name) => Self::namespace_not_found(name),
            RegistryError::QuotaExceeded(told) => Self::quota_exceeded(told),
            RegistryError::NoVersionsLeft(_) => {
                Self::new(StatusCode::CONFLICT, "NO_VERSIONS_LEFT", error.to_string())
            }
            RegistryError::TooManyTriggers(_) | RegistryError::TooManyPatterns(_) => {
                Self::new(StatusCode::CONFLICT, "TOO_MANY_TRIGGERS", error.to_string())
            }
            RegistryError::NoVersion(name, version) => {
                Self::function_not_found(name, &Which::Number(*version))
            }
            RegistryError::VersionInUse(..) => Self {
                hint: Some(
                    "`orama function aliases` and `orama function traffic` show and change what is in use",
                ),
                ..Self::new(StatusCode::CONFLICT, "VERSION_IN_USE", error.to_string())
            },
            RegistryError::TooManyAliases(_) => {
                Self::new(StatusCode::CONFLICT, "TOO_MANY_ALIASES", error.to_string())
            }
            RegistryError::BeingDeleted(_) => {
                Self::new(StatusCode::CONFLICT, "NAMESPACE_BEING_DELETED", error.to_string())
            }
            _ => match error.unavailable().map(|why| Self::unavailable(why.words())) {
                Some(unavailable) => unavailable,
                None => Self::internal(error),
            },
        }
    }
}

impl From<MigrateError> for ApiError {
    fn from(error: MigrateError) -> Self {
        let message = error.to_string();
        let code = match &error {
            MigrateError::Invalid(_) => return Self::invalid_config(format!("`migrations`: {message}")),
            MigrateError::Changed(_) => {
                return Self::new(StatusCode::CONFLICT, "MIGRATION_CHANGED", message);
            }
            MigrateError::Failed { error, .. } | MigrateError::Unknown(error) => error.code,
        };
        match code {
            ErrorCode::Unavailable => Self::unavailable(message),
            ErrorCode::DeadlineExceeded => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED", message)
            }
            ErrorCode::Internal => Self::internal(error),
            _ => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "MIGRATION_FAILED", message),
        }
    }
}

impl From<UsageError> for ApiError {
    fn from(error: UsageError) -> Self {
        match error {
            UsageError::Registry(error) => error.into(),
            UsageError::Database(_) => Self::internal(error),
        }
    }
}

impl From<EventsError> for ApiError {
    fn from(error: EventsError) -> Self {
        match error.unavailable().map(|why| Self::unavailable(why.words())) {
            Some(unavailable) => unavailable,
            None => Self::internal(error),
        }
    }
}

impl From<TaskFailed> for ApiError {
    fn from(error: TaskFailed) -> Self {
        Self::internal(error)
    }
}

impl From<Forbidden> for ApiError {
    fn from(error: Forbidden) -> Self {
        Self::forbidden(error.to_string())
    }
}

impl From<CredentialError> for ApiError {
    fn from(error: CredentialError) -> Self {
        match error {
            // Not its `From`: what a credential names and is not there says nothing to its bearer.
            CredentialError::Registry(error) => Self::internal(error),
            CredentialError::Refused(Refusal::OtherNamespace) => Self::forbidden(error.to_string()),
            CredentialError::Refused(Refusal::NoKeysYet) => Self::unavailable(error.to_string()),
            error => Self::unauthorized(error.to_string()),
        }
    }
}

impl From<DifferentNamespaces> for ApiError {
    fn from(error: DifferentNamespaces) -> Self {
        Self::bad_request("CONFLICTING_CREDENTIALS", error.to_string())
    }
}

impl From<DeployError> for ApiError {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::Module(PrepareError::Invalid(error)) => Self::invalid_module(error.to_string()),
            DeployError::Module(error @ (PrepareError::Busy | PrepareError::Load(LoadError::NoRoom(_)))) => {
                Self::overloaded(error.to_string())
            }
            DeployError::Module(error) => Self::internal(error),
            DeployError::Store(error @ BlobError::Unavailable(_)) => {
                tracing::warn!(%error, "a module could not be stored");
                Self::unavailable(
                    "the module cannot be stored now, as the blob store does not answer; nothing was deployed",
                )
            }
            DeployError::Store(error) => Self::internal(error),
            DeployError::Registry(error) => error.into(),
            DeployError::Migrations(error) => error.into(),
            DeployError::Disk(error) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "INSUFFICIENT_STORAGE", error.to_string())
            }
            error @ (DeployError::Stopping(_) | DeployError::Task(_)) => Self::internal(error),
        }
    }
}

impl From<NamespaceError> for ApiError {
    fn from(error: NamespaceError) -> Self {
        match error {
            NamespaceError::Exists(_) => {
                Self::new(StatusCode::CONFLICT, "NAMESPACE_EXISTS", error.to_string())
            }
            NamespaceError::NotFound(name) => Self::namespace_not_found(name.as_str()),
            NamespaceError::Registry(error) => error.into(),
            NamespaceError::Task(_) => Self::internal(error),
        }
    }
}

impl From<NoRoom> for ApiError {
    fn from(error: NoRoom) -> Self {
        let hint = match error.scope {
            Scope::Namespace => Some(
                "a namespace has a share of the node; the operator sets it with `namespace_share_percent`",
            ),
            Scope::Address => Some("clients that send a credential are not counted by their address"),
            Scope::Function => Some("its `concurrency` in function.yaml says how many may run at once"),
            Scope::Node | Scope::Key => None,
        };
        let refused = match error.scope {
            // The node has room: the function's author wants no more.
            Scope::Function => Self {
                retry_after_s: Some(BUSY_RETRY_AFTER_S),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "CONCURRENCY_LIMITED", error.to_string())
            },
            _ => Self::overloaded(error.to_string()),
        };
        Self { scope: Some(error.scope.as_str()), hint, ..refused }
    }
}

impl From<Limited> for ApiError {
    fn from(error: Limited) -> Self {
        Self {
            retry_after_s: Some(error.retry_after_s()),
            scope: Some(error.scope.as_str()),
            hint: Some("the operator sets the limits with the config keys that begin with `rates.`"),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", error.to_string())
        }
    }
}

impl From<orama_runtime::names::InvalidName> for ApiError {
    fn from(e: orama_runtime::names::InvalidName) -> Self {
        Self::bad_request("INVALID_NAME", e.to_string())
    }
}
