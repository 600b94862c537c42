//! Covers of regions with the chunks of the stripe scheme: candidates by declination and right ascension, and a
//! closer look at those of regions that are no boxes.

use crate::cap::{Cap, Patch, tolerance_rad, touches};
use crate::chunk::ChunkId;
use crate::healpix::Cell;
use crate::position::{Position, UnitVector};
use crate::ra_interval::RaInterval;
use crate::region::{MocRegion, RaDecBox, Region};
use crate::stripes::ChunkBox;
use crate::stripes::layout::Layout;

/// Candidates are taken this much too generously (3.6 microarcsec), far above rounding.
const MARGIN_DEG: f64 = 1e-9;

pub(super) fn cover(layout: &Layout, region: &Region) -> Vec<ChunkId> {
    let mut found = Vec::new();
    match region {
        Region::AllSky => visit_box(layout, whole_sky(), &mut |stripe, chunk| found.push(id(layout, stripe, chunk))),
        Region::Box(sky_box) => {
            if let Some(bounds) = sky_box.bounds() {
                visit_box(layout, bounds, &mut |stripe, chunk| found.push(id(layout, stripe, chunk)));
            }
        }
        Region::RaDec(range) => {
            if let Some(bounds) = range.bounds() {
                visit_box(layout, bounds, &mut |stripe, chunk| found.push(id(layout, stripe, chunk)));
            }
        }
        // The arcs of a circle in each stripe are exact.
        Region::Circle(circle) => {
            visit_cap(layout, &circle.cap(), &mut |stripe, chunk| found.push(id(layout, stripe, chunk)));
        }
        Region::Ellipse(ellipse) => look_closer(layout, region, &[ellipse.cap()], &mut found),
        Region::Polygon(polygon) => look_closer(layout, region, &[polygon.cap()], &mut found),
        Region::Moc(moc) => look_closer(layout, region, &moc_caps(layout, moc), &mut found),
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn id(layout: &Layout, stripe: usize, chunk: u32) -> ChunkId {
    ChunkId(layout.chunk_id(stripe, chunk))
}

fn whole_sky() -> RaDecBox {
    RaDecBox { ra: RaInterval::FULL, dec_min: -90.0, dec_max: 90.0 }
}

fn visit_box(layout: &Layout, bounds: RaDecBox, visit: &mut dyn FnMut(usize, u32)) {
    for stripe in layout.stripes_between(bounds.dec_min - MARGIN_DEG, bounds.dec_max + MARGIN_DEG) {
        layout.visit_chunks(stripe, bounds.ra.widened(MARGIN_DEG), &mut |chunk| visit(stripe, chunk));
    }
}

/// Visits the chunks that a cap reaches.
fn visit_cap(layout: &Layout, cap: &Cap, visit: &mut dyn FnMut(usize, u32)) {
    let dec = cap.center.z.atan2(cap.center.x.hypot(cap.center.y));
    let ra = cap.center.y.atan2(cap.center.x).to_degrees();
    let (south, north) = ((dec - cap.radius_rad).to_degrees(), (dec + cap.radius_rad).to_degrees());
    // The declination where the circle is widest in right ascension; it has none where it holds a pole.
    let widest = (dec.sin() / cap.radius_rad.cos()).clamp(-1.0, 1.0).asin();
    for stripe in layout.stripes_between(south - 2.0 * MARGIN_DEG, north + 2.0 * MARGIN_DEG) {
        let belt = layout.chunk_box(stripe, 0);
        let dec_min = belt.dec_min.max(south).min(belt.dec_max).to_radians();
        let dec_max = belt.dec_max.min(north).max(belt.dec_min).to_radians();
        let half_width = [dec_min, dec_max, widest.clamp(dec_min, dec_max)]
            .into_iter()
            .map(|at| half_width_deg(dec, cap.radius_rad, at))
            .fold(0.0, f64::max);
        layout.visit_chunks(stripe, RaInterval::around(ra, half_width), &mut |chunk| visit(stripe, chunk));
    }
}

/// Half the width in right ascension of a circle where it crosses a declination (radians), degrees, rounded up.
fn half_width_deg(center_dec: f64, radius: f64, at_dec: f64) -> f64 {
    // cos r = sin δ sin δ₀ + cos δ cos δ₀ cos α, solved for sin²(α/2), which keeps small angles.
    let cosines = center_dec.cos() * at_dec.cos();
    let half = |angle: f64| (0.5 * angle).sin();
    let excess = half(radius).powi(2) - half(at_dec - center_dec).powi(2);
    // Rounding of the two squares, and with it of the square root, is below this.
    let sin2 = (excess.max(0.0) + 1e-15) / cosines.max(f64::MIN_POSITIVE);
    if radius >= std::f64::consts::PI || sin2 >= 1.0 - 1e-9 {
        return 180.0;
    }
    2.0 * sin2.sqrt().asin().to_degrees() + MARGIN_DEG
}

/// Adds the chunks that any of the caps reaches and the region then touches.
fn look_closer(layout: &Layout, region: &Region, caps: &[Cap], found: &mut Vec<ChunkId>) {
    let mut candidates = Vec::new();
    for cap in caps {
        visit_cap(layout, cap, &mut |stripe, chunk| candidates.push((stripe, chunk)));
    }
    candidates.sort_unstable();
    candidates.dedup();
    for (stripe, chunk) in candidates {
        let patch = layout.chunk_box(stripe, chunk);
        if touches(region, &patch, tolerance_rad(region.scale_rad(), patch.cap().radius_rad)) {
            found.push(id(layout, stripe, chunk));
        }
    }
}

/// Caps that together hold a coverage map, none much larger than a chunk.
fn moc_caps(layout: &Layout, moc: &MocRegion) -> Vec<Cap> {
    let belt = layout.chunk_box(0, 0);
    let size = (belt.dec_max - belt.dec_min).to_radians();
    let mut caps = Vec::new();
    let mut open: Vec<Cell> = Cell::base().collect();
    while let Some(cell) = open.pop() {
        if moc.overlapping(&cell.range29()).is_empty() {
            continue;
        }
        let cap = cell.bounding_cap();
        match cell.children() {
            Some(children) if cap.radius_rad > 0.5 * size => open.extend(children),
            _ => caps.push(cap),
        }
    }
    caps
}

impl Patch for ChunkBox {
    /// A cap around the middle that reaches the farthest corner; around a pole where the box is too wide for
    /// corners to be farthest.
    fn cap(&self) -> Cap {
        let (ra_mid, dec_mid) = self.middle();
        if self.ra_max - self.ra_min > 180.0 {
            let (z, reach) = if dec_mid >= 0.0 { (1.0, 90.0 - self.dec_min) } else { (-1.0, self.dec_max + 90.0) };
            return Cap { center: UnitVector { x: 0.0, y: 0.0, z }, radius_rad: (reach + MARGIN_DEG).to_radians() };
        }
        let center = UnitVector::from_radians(ra_mid.to_radians(), dec_mid.to_radians());
        let radius_rad = [self.dec_min, self.dec_max]
            .into_iter()
            .map(|dec| center.angle_rad(UnitVector::from_radians(self.ra_min.to_radians(), dec.to_radians())))
            .fold(0.0, f64::max);
        Cap { center, radius_rad: radius_rad + MARGIN_DEG.to_radians() }
    }

    fn center(&self) -> Position {
        let (ra, dec) = self.middle();
        Position::from_radians(ra.to_radians(), dec.to_radians())
    }

    /// Parts of much the same width and height. Cutting both ways always would make ever more slivers at a pole.
    fn split(&self) -> Option<[ChunkBox; 4]> {
        let widest = if self.dec_min < 0.0 && self.dec_max > 0.0 {
            1.0
        } else {
            self.dec_min.abs().min(self.dec_max.abs()).to_radians().cos()
        };
        let width = (self.ra_max - self.ra_min) * widest;
        let height = self.dec_max - self.dec_min;
        let columns = if width > 2.0 * height {
            4
        } else if height > 2.0 * width {
            1
        } else {
            2
        };
        Some(std::array::from_fn(|i| self.part(i % columns, columns, i / columns, 4 / columns)))
    }
}

impl ChunkBox {
    fn middle(&self) -> (f64, f64) {
        (0.5 * (self.ra_min + self.ra_max), 0.5 * (self.dec_min + self.dec_max))
    }

    /// The part at a column and a row of so many.
    fn part(&self, column: usize, columns: usize, row: usize, rows: usize) -> ChunkBox {
        let cut = |from: f64, to: f64, i: usize, of: usize| {
            if i == of { to } else { from + (to - from) * i as f64 / of as f64 }
        };
        ChunkBox {
            ra_min: cut(self.ra_min, self.ra_max, column, columns),
            ra_max: cut(self.ra_min, self.ra_max, column + 1, columns),
            dec_min: cut(self.dec_min, self.dec_max, row, rows),
            dec_max: cut(self.dec_min, self.dec_max, row + 1, rows),
        }
    }
}
