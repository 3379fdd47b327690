//! What is told of the node: its audit trail, its traces and metrics.

use crate::config::key::{Key, Takes, quoted};
use crate::limits::{AUDIT_KEEP_DAYS, TELEMETRY_METRICS_SECONDS};
use crate::telemetry::TelemetrySettings;

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "audit.keep_days",
        "How long the audit trail is kept.",
        Takes::Number(AUDIT_KEEP_DAYS, |c| &mut c.audit_keep_days),
    ),
    Key::new(
        "telemetry.endpoint",
        "The collector that traces and metrics are sent to, as OTLP over HTTP; without it nothing is sent.",
        Takes::Other {
            form: "a URL, such as `\"http://127.0.0.1:4318\"`",
            set: |c, v| {
                c.telemetry.endpoint = Some(TelemetrySettings::endpoint(v.text()?)?);
                Ok(())
            },
            get: |c| c.telemetry.endpoint.as_ref().map(|url| quoted(url.as_str())),
        },
    ),
    Key::new(
        "telemetry.sample",
        "The share of requests without a trace of their own that are traced.",
        Takes::Other {
            form: "a number from 0 to 1",
            set: |c, v| v.share().map(|share| c.telemetry.sample = share),
            get: |c| Some(c.telemetry.sample.to_string()),
        },
    ),
    Key::new(
        "telemetry.metrics_seconds",
        "How often metrics are sent; 0 sends none.",
        Takes::Seconds(TELEMETRY_METRICS_SECONDS, |c| &mut c.telemetry.metrics_every),
    ),
];
