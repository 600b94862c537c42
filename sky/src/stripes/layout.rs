//! The numbers of the stripe scheme: how many chunks and sub-chunks each stripe has, and how they are numbered.
//!
//! The formulas are those of Qserv's partitioner (lsst/qserv, src/partition/Chunker and Geometry), to the order of
//! the floating-point operations, because ids must agree on positions at borders.

use crate::error::SkyError;
use crate::ra_interval::RaInterval;
use crate::stripes::ChunkBox;

const ARCSEC_DEG: f64 = 1.0 / 3600.0;

/// A longitude this close to 360 (0.001 arcsec) is 360: the last chunk ends where the first begins.
const CLOSING_DEG: f64 = 0.001 / 3600.0;

/// So many stripes make five million chunks of 0.1 degree; lists of chunks stay of bounded size.
const MOST_STRIPES: u32 = 2_000;

/// A sub-chunk by its place in the layout. Sub-stripes count through all stripes from the south pole, sub-chunks
/// through all chunks of their stripe from right ascension 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) stripe: usize,
    pub(super) sub_stripe: usize,
    pub(super) chunk: u32,
    pub(super) sub_chunk: u32,
}

#[derive(Debug)]
pub(super) struct Layout {
    stripes: u32,
    sub_stripes: u32,
    overlap_deg: f64,
    sub_stripe_height: f64,
    chunks_per_stripe: Vec<u32>,
    /// The four below are per sub-stripe.
    rows: Vec<SubStripe>,
    most_sub_chunks: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SubStripe {
    pub(super) sub_chunks_per_chunk: u32,
    /// Width of a sub-chunk in right ascension, degrees.
    pub(super) sub_chunk_width: f64,
    /// The overlap radius in right ascension, degrees: positions of the sub-stripe that differ by more are
    /// farther apart than the radius.
    pub(super) alpha: f64,
}

impl Layout {
    pub(super) fn new(stripes: u32, sub_stripes: u32, overlap_deg: f64) -> Result<Layout, SkyError> {
        let fault = |text: String| Err(SkyError::Scheme(text));
        if !(1..=MOST_STRIPES).contains(&stripes) || sub_stripes == 0 {
            return fault(format!(
                "{stripes} stripes of {sub_stripes} sub-stripes; it takes 1 to {MOST_STRIPES} stripes and at least one sub-stripe"
            ));
        }
        if !(0.0..=10.0).contains(&overlap_deg) {
            return fault(format!("the overlap radius of {overlap_deg} deg is outside [0, 10] deg"));
        }
        let sub_stripe_count = u64::from(stripes) * u64::from(sub_stripes);
        let sub_stripe_height = 180.0 / sub_stripe_count as f64;
        if sub_stripe_height < ARCSEC_DEG {
            return fault(format!("{sub_stripe_count} sub-stripes are each lower than an arcsecond; take fewer"));
        }
        if sub_stripe_height < overlap_deg {
            return fault(format!(
                "the overlap radius of {overlap_deg} deg exceeds the sub-stripe height of {sub_stripe_height} deg"
            ));
        }
        let mut layout = Layout {
            stripes,
            sub_stripes,
            overlap_deg,
            sub_stripe_height,
            chunks_per_stripe: Vec::with_capacity(stripes as usize),
            rows: Vec::with_capacity(sub_stripe_count as usize),
            most_sub_chunks: 0,
        };
        let stripe_height = 180.0 / f64::from(stripes);
        for stripe in 0..stripes {
            let (south, north) = (f64::from(stripe), f64::from(stripe + 1));
            let chunks = segments(south * stripe_height - 90.0, north * stripe_height - 90.0, stripe_height);
            layout.chunks_per_stripe.push(chunks);
            for row in stripe * sub_stripes..(stripe + 1) * sub_stripes {
                layout.add_sub_stripe(row, chunks)?;
            }
        }
        Ok(layout)
    }

    fn add_sub_stripe(&mut self, row: u32, chunks: u32) -> Result<(), SkyError> {
        let dec_min = f64::from(row) * self.sub_stripe_height - 90.0;
        let dec_max = f64::from(row + 1) * self.sub_stripe_height - 90.0;
        let sub_chunks_per_chunk = segments(dec_min, dec_max, self.sub_stripe_height) / chunks;
        if sub_chunks_per_chunk == 0 {
            return Err(SkyError::Scheme(format!("sub-stripe {row} has no sub-chunks; take more sub-stripes")));
        }
        let sub_chunk_width = 360.0 / f64::from(sub_chunks_per_chunk * chunks);
        let alpha = ra_reach(self.overlap_deg, dec_min.abs().max(dec_max.abs()));
        if alpha > sub_chunk_width {
            return Err(SkyError::Scheme(format!(
                "the overlap radius of {} deg exceeds the width of sub-chunks at declination {dec_min} deg; take \
                 fewer stripes or sub-stripes, or a smaller overlap",
                self.overlap_deg
            )));
        }
        self.most_sub_chunks = self.most_sub_chunks.max(sub_chunks_per_chunk);
        self.rows.push(SubStripe { sub_chunks_per_chunk, sub_chunk_width, alpha });
        Ok(())
    }

    pub(super) fn stripes(&self) -> usize {
        self.chunks_per_stripe.len()
    }

    pub(super) fn chunks_in(&self, stripe: usize) -> u32 {
        self.chunks_per_stripe[stripe]
    }

    pub(super) fn overlap_deg(&self) -> f64 {
        self.overlap_deg
    }

    pub(super) fn sub_stripe_count(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn sub_stripe(&self, sub_stripe: usize) -> SubStripe {
        self.rows[sub_stripe]
    }

    pub(super) fn sub_chunks_in(&self, sub_stripe: usize) -> u32 {
        self.chunks_per_stripe[self.stripe_of(sub_stripe)] * self.rows[sub_stripe].sub_chunks_per_chunk
    }

    pub(super) fn stripe_of(&self, sub_stripe: usize) -> usize {
        sub_stripe / self.sub_stripes as usize
    }

    /// The sub-chunk at a place of its sub-stripe.
    pub(super) fn sub_chunk(&self, sub_stripe: usize, sub_chunk: u32) -> Place {
        Place {
            stripe: self.stripe_of(sub_stripe),
            sub_stripe,
            chunk: sub_chunk / self.rows[sub_stripe].sub_chunks_per_chunk,
            sub_chunk,
        }
    }

    /// The sub-chunk that holds a position (degrees).
    pub(super) fn locate(&self, ra: f64, dec: f64) -> Place {
        let sub_stripe = self.sub_stripe_at(dec);
        let sub_chunk = (ra / self.rows[sub_stripe].sub_chunk_width).floor() as u32;
        self.sub_chunk(sub_stripe, sub_chunk.min(self.sub_chunks_in(sub_stripe) - 1))
    }

    /// The sub-stripe that holds a declination; those beyond a pole are in the last one there.
    pub(super) fn sub_stripe_at(&self, dec: f64) -> usize {
        let row = ((dec + 90.0) / self.sub_stripe_height).floor() as usize;
        row.min(self.rows.len() - 1)
    }

    pub(super) fn chunk_id(&self, stripe: usize, chunk: u32) -> u64 {
        stripe as u64 * 2 * u64::from(self.stripes) + u64::from(chunk)
    }

    /// The stripe and the place in it of a chunk id, where there is such a chunk.
    pub(super) fn chunk_place(&self, id: u64) -> Option<(usize, u32)> {
        let per_stripe = 2 * u64::from(self.stripes);
        let stripe = usize::try_from(id / per_stripe).ok()?;
        let chunk = u32::try_from(id % per_stripe).ok()?;
        let chunks = *self.chunks_per_stripe.get(stripe)?;
        (chunk < chunks).then_some((stripe, chunk))
    }

    pub(super) fn sub_chunk_id(&self, place: Place) -> u32 {
        let row = (place.sub_stripe - place.stripe * self.sub_stripes as usize) as u32;
        let first = place.chunk * self.rows[place.sub_stripe].sub_chunks_per_chunk;
        row * self.most_sub_chunks + (place.sub_chunk - first)
    }

    /// The southern and northern edge of a sub-stripe, degrees.
    pub(super) fn sub_stripe_edges(&self, sub_stripe: usize) -> (f64, f64) {
        let edge = |row: usize| (row as f64 * self.sub_stripe_height - 90.0).clamp(-90.0, 90.0);
        (edge(sub_stripe), edge(sub_stripe + 1))
    }

    /// The box of a chunk, degrees.
    pub(super) fn chunk_box(&self, stripe: usize, chunk: u32) -> ChunkBox {
        let width = 360.0 / f64::from(self.chunks_per_stripe[stripe]);
        let rows = self.sub_stripes as usize;
        ChunkBox {
            ra_min: f64::from(chunk) * width,
            ra_max: close_circle(f64::from(chunk + 1) * width),
            dec_min: self.sub_stripe_edges(stripe * rows).0,
            dec_max: self.sub_stripe_edges((stripe + 1) * rows - 1).1,
        }
    }

    /// The stripes that have a declination between two, from the south.
    pub(super) fn stripes_between(&self, dec_min: f64, dec_max: f64) -> std::ops::RangeInclusive<usize> {
        let stripe = |dec: f64| self.stripe_of(self.sub_stripe_at(dec));
        stripe(dec_min)..=stripe(dec_max)
    }

    /// Visits the chunks of a stripe that have a right ascension in common with an arc, some perhaps twice.
    pub(super) fn visit_chunks(&self, stripe: usize, ra: RaInterval, visit: &mut dyn FnMut(u32)) {
        let chunks = self.chunks_per_stripe[stripe];
        if ra.width() >= 360.0 {
            (0..chunks).for_each(visit);
            return;
        }
        let width = 360.0 / f64::from(chunks);
        let first = (ra.start() / width).floor() as u64;
        let last = ((ra.start() + ra.width()) / width).floor() as u64;
        // An arc may end one turn on, in the chunk it began in.
        for chunk in first..=last.min(first + u64::from(chunks) - 1) {
            visit((chunk % u64::from(chunks)) as u32);
        }
    }
}

pub(super) fn close_circle(ra: f64) -> f64 {
    if ra > 360.0 - CLOSING_DEG { 360.0 } else { ra }
}

/// Into how many segments of right ascension a belt of declination is cut, so that positions one segment apart
/// are at least `width` degrees apart on the sky.
fn segments(dec_min: f64, dec_max: f64, width: f64) -> u32 {
    let dec = dec_min.abs().max(dec_max.abs());
    if dec > 90.0 - ARCSEC_DEG || width >= 180.0 {
        return 1;
    }
    let (sin_dec, cos_dec) = (dec.to_radians().sin(), dec.to_radians().cos());
    let x = width.to_radians().cos() - sin_dec * sin_dec;
    let u = cos_dec * cos_dec;
    let y = (u * u - x * x).abs().sqrt();
    (360.0 / y.atan2(x).to_degrees().abs()).floor() as u32
}

/// The half-width in right ascension (degrees) of a circle of radius `radius` around a position at `dec`.
fn ra_reach(radius: f64, dec: f64) -> f64 {
    if radius == 0.0 {
        return 0.0;
    }
    let dec = dec.clamp(-90.0, 90.0);
    if dec.abs() + radius > 90.0 - ARCSEC_DEG {
        return 180.0;
    }
    let (radius, dec) = (radius.to_radians(), dec.to_radians());
    let y = radius.sin();
    let x = ((dec - radius).cos() * (dec + radius).cos()).abs().sqrt();
    (y / x).atan().abs().to_degrees()
}
