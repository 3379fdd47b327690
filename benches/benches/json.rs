//! The cost of deciding whether an output is one JSON value: serde_json, which the node uses, beside simd-json.
//!
//! simd-json changes the text that it parses, so it needs a copy of an output that is sent on; the copy counts. It is measured
//! with buffers of its own for each text and with buffers that are kept.

// A benchmark that cannot be set up panics.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use orama_server::is_one_json_value;
use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

/// The sizes of the outputs, in bytes.
const SIZES: [usize; 3] = [100, 64 << 10, 8 << 20];

/// An array of records, filled up with spaces to a size.
fn records(bytes: usize) -> Vec<u8> {
    let mut text = String::with_capacity(bytes);
    let mut separator = '[';
    for id in 0.. {
        let mut record = String::new();
        let _ = write!(
            record,
            "{separator}{{\"id\":{id},\"name\":\"Zoë \\\"{id}\\\"\",\"price\":{}.25,\"tags\":[\"a\",\"bc\"],\"on\":true}}",
            id % 1000,
        );
        if text.len() + record.len() + 1 > bytes {
            break;
        }
        text.push_str(&record);
        separator = ',';
    }
    text.push(']');
    text.extend(std::iter::repeat_n(' ', bytes - text.len()));
    text.into_bytes()
}

/// One string of letters.
fn string(bytes: usize) -> Vec<u8> {
    format!("\"{}\"", "x".repeat(bytes - 2)).into_bytes()
}

fn with_simd(output: &[u8]) -> bool {
    simd_json::to_tape(&mut output.to_vec()).is_ok()
}

fn json(c: &mut Criterion) {
    let mut group = c.benchmark_group("one JSON value");
    group.measurement_time(Duration::from_secs(3)).sample_size(20);
    for size in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        for (kind, output) in [("records", records(size)), ("string", string(size))] {
            assert!(output.len() == size && is_one_json_value(&output) && with_simd(&output), "{kind}");
            let name = |parser: &str| BenchmarkId::new(format!("{parser}, {kind}"), size);
            group.bench_function(name("serde_json"), |b| b.iter(|| is_one_json_value(black_box(&output))));
            group.bench_function(name("simd-json"), |b| b.iter(|| with_simd(black_box(&output))));
            let (mut copy, mut buffers) = (Vec::new(), simd_json::Buffers::default());
            group.bench_function(name("simd-json, buffers kept"), |b| {
                b.iter(|| {
                    copy.clear();
                    copy.extend_from_slice(black_box(&output));
                    simd_json::to_tape_with_buffers(&mut copy, &mut buffers).is_ok()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, json);
criterion_main!(benches);
