//! The format of entries in Olric: a value with its expiry, or the version of a counter.

use crate::clock;
use bytes::Bytes;
use std::time::Duration;

/// Size of the header: the form of the entry and its expiry in milliseconds since the Unix epoch; 0 is none.
const HEADER_BYTES: usize = 1 + 8;
const VALUE: u8 = b'v';
/// A counter: followed by a [`Version`] and the text that was set, which is empty if an increment created it.
const NUMBER: u8 = b'n';

/// The version of a counter. Each set creates a new one, under which the number is stored, so an increment of a replaced counter
/// does not change the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version([u8; 16]);

impl Version {
    /// A new version.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Its key in the DMap of counters.
    pub(super) fn key(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }
}

/// An entry as Olric stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry(Bytes);

impl Entry {
    pub(super) fn value(value: &[u8], ttl: Option<Duration>) -> Self {
        Self::new(VALUE, ttl, &[value])
    }

    pub(super) fn number(version: Version, text: &[u8], ttl: Option<Duration>) -> Self {
        Self::new(NUMBER, ttl, &[&version.0, text])
    }

    fn new(form: u8, ttl: Option<Duration>, parts: &[&[u8]]) -> Self {
        let ends = ttl.map_or(0, |ttl| now_ms().saturating_add(ttl.as_millis() as u64));
        let mut bytes = vec![form];
        bytes.extend(ends.to_be_bytes());
        parts.iter().for_each(|part| bytes.extend(*part));
        Self(Bytes::from(bytes))
    }

    /// Parses a stored entry. `None` for bytes that no node writes.
    pub(super) fn parse(bytes: Bytes) -> Option<Self> {
        let is_whole = match *bytes.first()? {
            VALUE => bytes.len() >= HEADER_BYTES,
            NUMBER => bytes.len() >= HEADER_BYTES + size_of::<Version>(),
            _ => false,
        };
        is_whole.then_some(Self(bytes))
    }

    pub(super) fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The value that was set. For a counter, it is valid only until the first increment.
    pub(super) fn payload(&self) -> Bytes {
        let skipped = if self.version().is_some() { size_of::<Version>() } else { 0 };
        self.0.slice(HEADER_BYTES + skipped..)
    }

    /// The version of a counter; `None` for other values.
    pub(super) fn version(&self) -> Option<Version> {
        let rest = self.0.strip_prefix(&[NUMBER])?.get(8..)?;
        rest.first_chunk().copied().map(Version)
    }

    /// The time until it expires, by the clocks of the node that wrote it and of this node; `None` if it does not expire.
    pub(super) fn remaining(&self) -> Option<Duration> {
        let ends = self.0.get(1..).and_then(|rest| rest.first_chunk().copied()).map(u64::from_be_bytes)?;
        (ends != 0).then(|| Duration::from_millis(ends.saturating_sub(now_ms())))
    }
}

fn now_ms() -> u64 {
    clock::now_ms().cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were() {
        for payload in [b"".as_slice(), b"value", &[0, 255, b'n', b'v']] {
            let entry = Entry::parse(Entry::value(payload, None).bytes().clone()).unwrap();
            assert_eq!((entry.payload(), entry.version(), entry.remaining()), (payload.into(), None, None));
        }
        let version = Version::new().unwrap();
        let entry = Entry::number(version, b"-12", Some(Duration::from_secs(60)));
        let entry = Entry::parse(entry.bytes().clone()).unwrap();
        assert_eq!((entry.payload(), entry.version()), (Bytes::from_static(b"-12"), Some(version)));
        let remaining = entry.remaining().unwrap();
        assert!(remaining <= Duration::from_secs(60) && !remaining.is_zero(), "{remaining:?}");
        assert_ne!(version, Version::new().unwrap());
        assert_eq!(version.key().len(), 32);
    }

    #[test]
    fn what_no_node_writes_is_no_entry() {
        let number = Entry::number(Version::new().unwrap(), b"", None);
        for bytes in [b"".as_slice(), b"5", b"v1234567", b"x12345678", &number.bytes()[..24]] {
            assert_eq!(Entry::parse(Bytes::copy_from_slice(bytes)), None, "{bytes:?}");
        }
        assert!(Entry::parse(number.bytes().clone()).is_some());
    }
}
