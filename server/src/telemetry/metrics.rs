//! The node's metrics for a collector: what `/metrics` tells, read back from its text, so that both always tell the same.

use super::spans::{nanos, resource, scope, text};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum,
};
use std::time::SystemTime;

/// Sums count from the start of the node.
const TEMPORALITY: i32 = AggregationTemporality::Cumulative as i32;

/// One line: the rest of its name behind the family's, its labels, its value.
type Line<'a> = (&'a str, Vec<(&'a str, &'a str)>, f64);

/// The message for a collector, from the text of `/metrics`. `times` are the node's start and now.
pub(super) fn encode(
    node: &str,
    rendered: &str,
    times: (SystemTime, SystemTime),
) -> ExportMetricsServiceRequest {
    let times = (nanos(times.0), nanos(times.1));
    let mut metrics = Vec::new();
    for family in rendered.split("# HELP ").filter(|family| !family.is_empty()) {
        let mut lines = family.lines();
        let Some((name, help)) = lines.next().and_then(|line| line.split_once(' ')) else { continue };
        let Some(kind) = lines.next().and_then(|line| line.rsplit(' ').next()) else { continue };
        let lines: Vec<_> = lines.filter_map(|line| read(name, line)).collect();
        let data = match kind {
            "counter" => Data::Sum(Sum {
                data_points: points(&lines, times),
                aggregation_temporality: TEMPORALITY,
                is_monotonic: true,
            }),
            "histogram" => Data::Histogram(Histogram {
                data_points: histograms(&lines, times),
                aggregation_temporality: TEMPORALITY,
            }),
            _ => Data::Gauge(Gauge { data_points: points(&lines, times) }),
        };
        let (name, description) = (name.to_owned(), help.to_owned());
        metrics.push(Metric { name, description, data: Some(data), ..Metric::default() });
    }
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() }];
    let resource = Some(resource(node));
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }
}

/// Reads a line. No value of a label has a quote or a comma in it.
fn read<'a>(family: &str, line: &'a str) -> Option<Line<'a>> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels.trim_end_matches('}').split(',').filter_map(|label| {
        let (key, value) = label.split_once('=')?;
        Some((key, value.trim_matches('"')))
    });
    Some((name.strip_prefix(family)?, labels.collect(), value.parse().ok()?))
}

fn attributes(labels: &[(&str, &str)]) -> Vec<KeyValue> {
    labels.iter().filter(|(key, _)| *key != "le").map(|(key, value)| text(key, *value)).collect()
}

fn points(lines: &[Line<'_>], (start, now): (u64, u64)) -> Vec<NumberDataPoint> {
    let point = |(_, labels, value): &Line<'_>| NumberDataPoint {
        attributes: attributes(labels),
        start_time_unix_nano: start,
        time_unix_nano: now,
        value: Some(Value::AsDouble(*value)),
        ..NumberDataPoint::default()
    };
    lines.iter().map(point).collect()
}

/// Buckets, sum and count of a series follow each other.
fn histograms(lines: &[Line<'_>], (start, now): (u64, u64)) -> Vec<HistogramDataPoint> {
    let mut points = Vec::new();
    let mut point = HistogramDataPoint::default();
    let mut below = 0.0;
    for (rest, labels, value) in lines {
        match *rest {
            "_bucket" => {
                point.bucket_counts.push((value - below) as u64);
                below = *value;
                let end = labels.iter().find(|(key, _)| *key == "le").and_then(|(_, le)| le.parse().ok());
                point.explicit_bounds.extend(end.filter(|end: &f64| end.is_finite()));
            }
            "_sum" => point.sum = Some(*value),
            _ => {
                point.count = *value as u64;
                point.attributes = attributes(labels);
                (point.start_time_unix_nano, point.time_unix_nano) = (start, now);
                points.push(std::mem::take(&mut point));
                below = 0.0;
            }
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_read_back() {
        let rendered = "# HELP a_total All of them.\n# TYPE a_total counter\na_total{code=\"x\",of=\"y\"} 3\na_total 4\n\
            # HELP b Now.\n# TYPE b gauge\nb 0.5\n\
            # HELP c_seconds Time.\n# TYPE c_seconds histogram\n\
            c_seconds_bucket{f=\"g\",le=\"0.1\"} 2\nc_seconds_bucket{f=\"g\",le=\"+Inf\"} 5\nc_seconds_sum{f=\"g\"} 1.5\n\
            c_seconds_count{f=\"g\"} 5\n";
        let now = SystemTime::now();
        let message = encode("n", rendered, (now, now));
        let metrics = &message.resource_metrics[0].scope_metrics[0].metrics;
        let names: Vec<_> =
            metrics.iter().map(|metric| (metric.name.as_str(), metric.description.as_str())).collect();
        assert_eq!(names, [("a_total", "All of them."), ("b", "Now."), ("c_seconds", "Time.")]);
        let Some(Data::Sum(sum)) = &metrics[0].data else { panic!("no sum") };
        assert_eq!(sum.data_points[0].attributes, [text("code", "x"), text("of", "y")]);
        assert_eq!(sum.data_points[1].value, Some(Value::AsDouble(4.0)));
        let Some(Data::Gauge(gauge)) = &metrics[1].data else { panic!("no gauge") };
        assert_eq!(gauge.data_points[0].value, Some(Value::AsDouble(0.5)));
        let Some(Data::Histogram(histogram)) = &metrics[2].data else { panic!("no histogram") };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.sum, point.attributes.len()), (5, Some(1.5), 1));
        assert_eq!((&point.bucket_counts[..], &point.explicit_bounds[..]), (&[2, 3][..], &[0.1][..]));
    }
}
