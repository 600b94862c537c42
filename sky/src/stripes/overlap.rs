//! Which sub-chunks hold a position in their overlap, as Qserv's partitioner decides.

use crate::stripes::layout::{Layout, Place, close_circle};

impl Layout {
    /// Visits the sub-chunks, other than its own, whose overlap holds a position (degrees), some perhaps twice.
    pub(super) fn visit_overlaps(&self, ra: f64, dec: f64, visit: &mut dyn FnMut(Place)) {
        let overlap = self.overlap_deg();
        if overlap == 0.0 {
            return;
        }
        let own = self.locate(ra, dec);
        let (dec_min, dec_max) = self.sub_stripe_edges(own.sub_stripe);
        // An overlap is never larger than a sub-stripe or a sub-chunk, so one step in each direction is enough.
        if own.sub_stripe > 0 && dec < dec_min + overlap {
            self.visit_beyond(own.sub_stripe - 1, ra, visit);
        }
        if own.sub_stripe + 1 < self.sub_stripe_count() && dec >= dec_max - overlap {
            self.visit_beyond(own.sub_stripe + 1, ra, visit);
        }
        let row = self.sub_stripe(own.sub_stripe);
        let count = self.sub_chunks_in(own.sub_stripe);
        if count == 1 {
            return;
        }
        let ra_min = f64::from(own.sub_chunk) * row.sub_chunk_width;
        let ra_max = close_circle(f64::from(own.sub_chunk + 1) * row.sub_chunk_width);
        if ra < ra_min + row.alpha {
            visit(self.sub_chunk(own.sub_stripe, (own.sub_chunk + count - 1) % count));
        }
        if ra > ra_max - row.alpha {
            visit(self.sub_chunk(own.sub_stripe, (own.sub_chunk + 1) % count));
        }
    }

    /// Visits the sub-chunks of the sub-stripe above or below that reach a right ascension.
    fn visit_beyond(&self, sub_stripe: usize, ra: f64, visit: &mut dyn FnMut(Place)) {
        let row = self.sub_stripe(sub_stripe);
        let count = i64::from(self.sub_chunks_in(sub_stripe));
        let first = ((ra - row.alpha) / row.sub_chunk_width).floor() as i64;
        let last = ((ra + row.alpha) / row.sub_chunk_width).floor() as i64;
        for sub_chunk in first..=last.min(first + count - 1) {
            visit(self.sub_chunk(sub_stripe, sub_chunk.rem_euclid(count) as u32));
        }
    }
}
