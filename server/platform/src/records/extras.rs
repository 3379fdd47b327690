//! What was added to records later, as it is stored and as nodes send it to each other. Each part may be missing.

use super::{Function, Record, RequestId, stats};
use orama_runtime::invocation::Status;
use orama_runtime::phases::{HostCalls, Phases};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

/// The parts of a record that older versions do not have. What is missing is as in the default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Extras<'a> {
    #[serde(rename = "e", skip_serializing_if = "str::is_empty")]
    error_code: Cow<'a, str>,
    #[serde(rename = "s", skip_serializing_if = "is_default")]
    http_status: u16,
    /// Microseconds of waiting and of the start.
    #[serde(rename = "p", skip_serializing_if = "is_default")]
    phases: (u32, u32),
    /// Place of the kind, count, microseconds waited.
    #[serde(rename = "h", skip_serializing_if = "Vec::is_empty")]
    host_calls: Vec<(u8, u32, u32)>,
    #[serde(rename = "m", skip_serializing_if = "is_default")]
    memory_bytes: u64,
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    caller: Option<Cow<'a, str>>,
    #[serde(rename = "a", skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    /// In hexadecimal: JSON numbers hold less.
    #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
    trace_id: Option<Cow<'a, str>>,
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    client_request_id: Option<Cow<'a, str>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl<'a> Extras<'a> {
    /// Those of a record.
    #[must_use]
    pub fn of(record: &'a Record) -> Self {
        let Phases { wait_us, start_us, calls } = record.phases;
        let made = calls.iter().enumerate().filter(|(_, calls)| calls.count > 0);
        Self {
            error_code: record.error_code.into(),
            http_status: record.http_status,
            phases: (wait_us, start_us),
            host_calls: made.map(|(kind, calls)| (kind as u8, calls.count, calls.waited_us)).collect(),
            memory_bytes: record.memory_bytes,
            caller: record.caller.as_deref().map(Cow::from),
            client: record.client,
            trace_id: (record.trace_id != 0).then(|| format!("{:032x}", record.trace_id).into()),
            client_request_id: record.client_request_id.as_deref().map(Cow::from),
        }
    }

    /// The same, without the record.
    #[must_use]
    pub fn into_owned(self) -> Extras<'static> {
        let owned = |text: Cow<'a, str>| Cow::Owned(text.into_owned());
        Extras {
            error_code: owned(self.error_code),
            caller: self.caller.map(owned),
            trace_id: self.trace_id.map(owned),
            client_request_id: self.client_request_id.map(owned),
            http_status: self.http_status,
            phases: self.phases,
            host_calls: self.host_calls,
            memory_bytes: self.memory_bytes,
            client: self.client,
        }
    }

    /// A record that has them, and nothing else.
    #[must_use]
    pub fn into_record(self, function: Arc<Function>) -> Record {
        let (wait_us, start_us) = self.phases;
        let mut phases = Phases { wait_us, start_us, ..Phases::default() };
        for (kind, count, waited_us) in self.host_calls {
            if let Some(calls) = phases.calls.get_mut(usize::from(kind)) {
                *calls = HostCalls { count, waited_us };
            }
        }
        let trace_id = self.trace_id.and_then(|id| u128::from_str_radix(&id, 16).ok());
        Record {
            request_id: RequestId::from(""),
            function,
            version: 0,
            trigger_type: "other",
            attempt: 1,
            status: Status::Error,
            duration_us: 0,
            input_size: 0,
            output_size: 0,
            error: None,
            started_at_ms: 0,
            messages: Vec::new(),
            error_code: stats::known_code(&self.error_code),
            http_status: self.http_status,
            phases,
            memory_bytes: self.memory_bytes,
            caller: self.caller.map(Arc::from),
            client: self.client,
            trace_id: trace_id.unwrap_or_default(),
            client_request_id: self.client_request_id.map(|id| id.into_owned().into_boxed_str()),
        }
    }
}
