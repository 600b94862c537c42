//! Sets of cells as ranges of their numbers, for HEALPix and for the triangular mesh: sorted, apart from each
//! other, and no more of them than asked for.

use std::cmp::Reverse;
use std::ops::Range;

/// Sorts ranges and joins those that touch.
pub(crate) fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Merged ranges with the narrowest gaps filled, until no more than `most` (at least one) are left.
pub(crate) fn coarsened(merged: &[Range<u64>], most: usize) -> Vec<Range<u64>> {
    let gap = |i: &usize| merged[*i].start - merged[i - 1].end;
    let mut widest: Vec<usize> = (1..merged.len()).collect();
    widest.sort_by_key(|i| Reverse(gap(i)));
    widest.truncate(most.max(1) - 1);
    widest.sort_unstable();
    let mut ranges = Vec::with_capacity(widest.len() + 1);
    let mut first = 0;
    for next in widest.into_iter().chain((!merged.is_empty()).then_some(merged.len())) {
        ranges.push(merged[first].start..merged[next - 1].end);
        first = next;
    }
    ranges
}
