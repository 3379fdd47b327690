//! Traces: which request a run belongs to, across functions and nodes, and what it did in between.
//!
//! The form is that of the W3C's Trace Context. A run that belongs to no trace costs one comparison in each host call.

use std::fmt;
use std::time::Instant;

/// Host calls of a run that become spans; the others are only counted.
pub const SPANS_MAX: usize = 128;

/// The header that tells which trace a request belongs to.
pub const TRACEPARENT: &str = "traceparent";

/// The most bytes of a detail that are kept.
const DETAIL_MAX: usize = 512;

/// A place in a trace: what happens next is a child of its span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace. Not 0.
    pub trace_id: u128,
    /// The span. Not 0.
    pub span_id: u64,
    /// Whether spans are recorded.
    pub is_sampled: bool,
}

impl TraceContext {
    /// Reads the header `traceparent`; `None` for one that is to be ignored.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let version = parts.next().filter(|version| is_hex(version, 2) && *version != "ff")?;
        let trace_id = parts.next().filter(|id| is_hex(id, 32))?;
        let span_id = parts.next().filter(|id| is_hex(id, 16))?;
        let flags = parts.next().filter(|flags| is_hex(flags, 2))?;
        // Later versions may have more parts.
        if version == "00" && parts.next().is_some() {
            return None;
        }
        let trace_id = u128::from_str_radix(trace_id, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span_id, 16).ok().filter(|id| *id != 0)?;
        let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Self { trace_id, span_id, is_sampled })
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The header `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id, is_sampled } = self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(*is_sampled))
    }
}

/// A host call of a run that is traced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSpan {
    /// The host function.
    pub name: &'static str,
    /// Its id.
    pub span_id: u64,
    /// When it was called.
    pub begun: Instant,
    /// When it had its answer.
    pub ended: Instant,
    /// What it was about: SQL without values, a host, a topic, a function. Empty if it does not say.
    pub detail: String,
    /// Whether it failed.
    pub is_failed: bool,
}

/// What a run that is traced has done so far.
#[derive(Debug, Default)]
pub struct Spans {
    /// Its host calls, the first [`SPANS_MAX`].
    pub calls: Vec<HostSpan>,
    /// How many others there were.
    pub left_out: u32,
    /// Ids given so far. Those of a run follow its own, which is random.
    given: u64,
    current: u64,
    detail: String,
    is_failed: bool,
}

impl Spans {
    /// The id of the next call's span.
    pub(crate) fn begin(&mut self, of: &TraceContext) -> u64 {
        self.given += 1;
        self.detail.clear();
        self.is_failed = false;
        self.current = of.span_id.wrapping_add(self.given).max(1);
        self.current
    }

    /// The span of the call under way.
    pub(crate) const fn current(&self) -> u64 {
        self.current
    }

    /// The call under way tells its guest of a failure.
    pub(crate) const fn note_failure(&mut self) {
        self.is_failed = true;
    }

    /// Says what the call is about.
    pub(crate) fn describe(&mut self, detail: &str) {
        let end = detail.floor_char_boundary(DETAIL_MAX);
        self.detail = detail.get(..end).unwrap_or_default().to_owned();
    }

    /// Keeps a call that has its answer.
    pub(crate) fn end(&mut self, name: &'static str, span_id: u64, begun: Instant, is_failed: bool) {
        if self.calls.len() >= SPANS_MAX {
            self.left_out += 1;
            return;
        }
        let detail = std::mem::take(&mut self.detail);
        let is_failed = is_failed || self.is_failed;
        self.calls.push(HostSpan { name, span_id, begun, ended: Instant::now(), detail, is_failed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_as_it_is_written() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0bb902b7-01";
        let context = TraceContext::parse(text).unwrap();
        assert!(context.is_sampled && context.span_id == 0x00f0_67aa_0bb9_02b7);
        assert_eq!(context.to_string(), text);
        let not = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0bb902b7-02").unwrap();
        assert!(!not.is_sampled && not.to_string().ends_with("-00"));
        assert!(
            TraceContext::parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0bb902b7-01-more").is_some()
        );
    }

    #[test]
    fn what_is_no_header_is_ignored() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0bb902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0bb902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0bb902b7-01",
            "00-00000000000000000000000000000000-00f067aa0bb902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0bb902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0bb902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0bb902b7-01",
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
    }
}
