//! The ids of rows, messages and log entries: UUIDs of version 7, which sort by the time of their creation.

use crate::clock::now_ms;
use uuid::Uuid;

/// A new id. Ids of one process are strictly increasing, which takes a lock that all threads share.
#[must_use]
pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// An id of these random bytes and the present millisecond. It takes no lock, so it is the one for cores and publishers; ids
/// of the same millisecond have no order.
#[must_use]
pub fn id_from(random: &[u8; 10]) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(now_ms()).unwrap_or(0), random).into_uuid()
}
