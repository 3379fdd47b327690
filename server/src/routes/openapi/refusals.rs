//! The refusals of the API: the codes of each status. The tests' client fails for an answer with a code that is not here.

/// A status of refusals.
pub(super) struct Refusal {
    pub(super) status: u16,
    /// The name of the response that operations refer to.
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) codes: &'static [&'static str],
}

macro_rules! refusals {
    ($($status:literal $name:ident: $meaning:literal [$($code:ident)*])*) => {
        pub(super) const REFUSALS: &[Refusal] = &[$(Refusal {
            status: $status,
            name: stringify!($name),
            meaning: $meaning,
            codes: &[$(stringify!($code)),*],
        },)*];
    };
}

refusals! {
    400 Malformed: "The request is malformed; the message names the part." [
        INVALID_NAME INVALID_VERSION INVALID_QUERY INVALID_FORM INVALID_ROLE INVALID_BODY INVALID_TOPIC INVALID_TRIGGER
        INVALID_TRAFFIC CONFLICTING_CREDENTIALS INVALID_HANDSHAKE BAD_BODY
    ]
    401 Unauthorized: "No credential, or one that is not known." [UNAUTHORIZED]
    403 Forbidden: "The role or the namespace does not allow it." [
        FORBIDDEN FUNCTION_DISABLED FUNCTION_INTERNAL ORIGIN_NOT_ALLOWED
    ]
    404 NotFound: "There is nothing of this name." [
        NOT_FOUND FUNCTION_NOT_FOUND NAMESPACE_NOT_FOUND ALIAS_NOT_FOUND TRIGGER_NOT_FOUND DEAD_LETTER_NOT_FOUND
        KEY_NOT_FOUND SECRET_NOT_FOUND
    ]
    408 TooSlow: "The request did not arrive in time, or too slowly." [REQUEST_TIMEOUT]
    409 Conflict: "What is there does not allow it." [
        NO_VERSIONS_LEFT QUOTA_EXCEEDED VERSION_IN_USE TOO_MANY_ALIASES MIGRATION_CHANGED TOO_MANY_TRIGGERS
        NAMESPACE_EXISTS NAMESPACE_IN_USE NAMESPACE_BEING_DELETED KEY_IN_USE TOO_MANY_KEYS TOO_MANY_SECRETS
        ROTATION_UNDER_WAY SECRETS_DAMAGED
    ]
    413 TooLarge: "The request is over a limit, which the message states." [PAYLOAD_TOO_LARGE]
    422 NotAccepted: "The request is well formed and not accepted; the message says why." [
        INVALID_CONFIG INVALID_NAME INVALID_MODULE SQL_REFUSED TOO_MANY_STATEMENTS MIGRATION_FAILED
    ]
    426 UpgradeRequired: "The path is for WebSockets." [UPGRADE_REQUIRED]
    429 TooMany: "Too many requests; see `retry_after`." [RATE_LIMITED CONCURRENCY_LIMITED]
    431 HeadTooLarge: "The request's head has more than 64 KiB or 100 lines." []
    500 Failed: "The function or the node failed." [
        FUNCTION_EXIT FUNCTION_TRAP OUT_OF_MEMORY OUTPUT_TOO_LARGE INTERNAL CODE_UNAVAILABLE
    ]
    503 Unavailable: "The node has no room now, or something that it needs does not answer." [OVERLOADED UNAVAILABLE]
    504 TimedOut: "It took too long." [TIMEOUT DEADLINE_EXCEEDED]
    507 DiskFull: "The disk of the node has only its reserve left." [INSUFFICIENT_STORAGE]
}

/// What is known of a status.
pub(super) fn refusal(status: u16) -> Option<&'static Refusal> {
    REFUSALS.iter().find(|refusal| refusal.status == status)
}
