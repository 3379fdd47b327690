//! The HTTP request that an invocation serves, and the answer that its function shapes.

use super::{Answer, ServiceError};
use bytes::Bytes;

/// The status and the headers of an answer. Neither the names nor the values were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerHead {
    /// From 200 to 599.
    pub status: u16,
    /// Names and values, in the guest's order.
    pub headers: Vec<(String, String)>,
}

/// One HTTP request and its answer.
pub trait Exchange: Send + Sync {
    /// The request as `http_request` gives it: JSON.
    fn request(&self) -> Vec<u8>;

    /// Keeps a whole answer, which is sent when the function ends well. The last one holds.
    ///
    /// # Errors
    /// When a header is not one that can be sent, or the answer has begun.
    fn respond(&self, head: AnswerHead, body: Bytes) -> Result<(), ServiceError>;

    /// Begins an answer that is sent as it is written.
    ///
    /// # Errors
    /// As [`Self::respond`], and when this client cannot be sent such an answer.
    fn begin(&self, head: AnswerHead) -> Result<(), ServiceError>;

    /// Hands bytes to the connection, and waits while the client takes them slowly. `false` when it has gone.
    ///
    /// # Errors
    /// When no answer has begun.
    fn write(&self, bytes: Bytes) -> Answer<Result<bool, ServiceError>>;

    /// Whether more input may come after [`crate::invocation::Invocation::input`]: false once its end was told, true for good
    /// where it broke off.
    fn has_more_input(&self) -> bool {
        false
    }

    /// The next bytes of the input, at least one; `None` at its end. What is dropped before it is ready loses nothing.
    ///
    /// # Errors
    /// When the input breaks off, each time.
    fn next_input(&self) -> Answer<Result<Option<Bytes>, ServiceError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}
