//! What fuzz targets call of callers' tokens.

use super::{Refusal, Tokens};
use orama_runtime::invocation::Caller;
use orama_runtime::names::Namespace;

/// Who a token speaks for, in which namespace, and until which Unix second; whether the namespace exists is not asked.
///
/// # Errors
/// [`Refusal`]
pub fn check(tokens: &Tokens, token: &str) -> Result<(Caller, Namespace, u64), Refusal> {
    tokens.check(token)
}
