//! Bakes data segments into the image of a module's memory.

use crate::limits::{IMAGE_PER_DATA, IMAGE_SMALLEST_BYTES};
use crate::memory::ImageBytes;
use std::ops::Range;
use wasmparser::{BinaryReaderError, Data, DataKind, Operator};

/// Bakes the first segments: as many as set constant places within a memory of `memory_bytes`, in an image that is not much
/// larger than they are. Returns their number and the image. The remaining ones are copied when an instance is made, after
/// the image.
pub(super) fn bake(
    segments: &[Data<'_>],
    memory_bytes: u64,
) -> Result<(usize, ImageBytes), BinaryReaderError> {
    let mut places = Vec::new();
    let (mut all, mut data) = (0..0, 0);
    // The number of segments, of places, and the hull of the longest beginning that makes an image.
    let mut baked = (0, 0, 0..0);
    for (index, segment) in segments.iter().enumerate() {
        if let DataKind::Active { offset_expr, .. } = &segment.kind {
            let Some(start) = constant(offset_expr)? else { break };
            let place = start..start + segment.data.len() as u64;
            if place.end > memory_bytes {
                break;
            }
            if !place.is_empty() {
                all = hull(&all, &place);
                data += place.end - place.start;
                places.push((place.start, segment.data));
            }
        }
        if all.end - all.start <= IMAGE_SMALLEST_BYTES.max(data.saturating_mul(IMAGE_PER_DATA)) {
            baked = (index + 1, places.len(), all.clone());
        }
    }
    let (baked, placed, all) = baked;
    // Not larger than the segments times `IMAGE_PER_DATA`, or `IMAGE_SMALLEST_BYTES`.
    let mut bytes = vec![0; (all.end - all.start) as usize];
    for (start, data) in places.into_iter().take(placed) {
        let at = (start - all.start) as usize;
        if let Some(place) = bytes.get_mut(at..at + data.len()) {
            place.copy_from_slice(data);
        }
    }
    Ok((baked, ImageBytes { start: all.start, bytes }))
}

/// The value of an offset that is the same in each instance.
fn constant(offset: &wasmparser::ConstExpr<'_>) -> Result<Option<u64>, BinaryReaderError> {
    let mut operators = offset.get_operators_reader();
    Ok(match (operators.read()?, operators.read()?) {
        (Operator::I32Const { value }, Operator::End) => Some(u64::from(value.cast_unsigned())),
        _ => None,
    })
}

/// The smallest range that holds both, of which the second is not empty.
fn hull(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    if a.is_empty() { b.clone() } else { a.start.min(b.start)..a.end.max(b.end) }
}
