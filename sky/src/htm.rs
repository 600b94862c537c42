//! The Hierarchical Triangular Mesh, so that ids stored by Qserv, scisql and SDSS can be made and searched here.
//!
//! Eight triangles (an octant of the sphere each) are split into four again and again through the middles of
//! their sides (Kunszt, Szalay & Thakar 2001, in "Mining the Sky", 631; Szalay et al. 2007, arXiv:cs/0701164).
//! Ids are those of scisql's `s2HtmId` and sphgeom's `HtmPixelization`: a root is 8 to 11 in the south (S0 to S3)
//! and 12 to 15 in the north (N0 to N3), and every level appends two bits.

use std::ops::{Range, RangeInclusive};

use crate::cap::{Cap, Patch, Relation, SLACK_RAD, tolerance_rad, touches};
use crate::error::SkyError;
use crate::id_ranges::{coarsened, merged};
use crate::orientation::orientation;
use crate::position::{Position, UnitVector};
use crate::region::Region;

/// The finest level with ids, as in scisql: trixels about 20 mas wide.
const MAX_LEVEL: u8 = 24;

/// Covers look at trixels down to this level, below which their sides are rounding error.
const FINEST_SPLIT: u8 = 29;

/// No cover follows the border of its region with more trixels than about this.
const MOST_TRIXELS: usize = 1 << 17;

/// The id of the trixel that holds the position (ICRS) at a level of 0 to 24: from 8 · 4^level up to, and not
/// with, 16 · 4^level.
///
/// Every position has one id. On a border it is that of sphgeom's `HtmPixelization::index`: the first of the
/// four parts whose side the position is on or within, judged without rounding error.
///
/// # Errors
/// Where the level is above 24.
pub fn htm_id(position: Position, level: u8) -> Result<u64, SkyError> {
    let level = checked(level)?;
    let v = position.unit_vector();
    let mut trixel = Trixel::root_of(v);
    for _ in 0..level {
        trixel = trixel.child_of(v);
    }
    Ok(trixel.id)
}

/// The level of an id (0 to 24); none where no trixel has the id. The same as scisql's `s2HtmLevel`.
pub fn htm_level(id: u64) -> Option<u8> {
    let digits = id.checked_ilog2()?.checked_sub(3)?;
    let level = u8::try_from(digits / 2).ok()?;
    (digits % 2 == 0 && level <= MAX_LEVEL).then_some(level)
}

/// Ranges of ids at a level (0 to 24) that hold every position of the region: ascending, apart from each other,
/// both ends included, no more than `max_ranges` of them (0 counts as 1). Empty for an empty region.
///
/// The cover may hold too much, never too little. It holds more where fewer ranges are allowed: the border is
/// then followed by coarser trixels and the narrowest gaps are filled. Trixels that the region misses by less
/// than about a sixteenth of their size may be in it. Whatever `max_ranges`, a border is followed by about
/// 100,000 trixels at most, and a coverage map (MOC) by its inside as well.
///
/// # Errors
/// Where the level is above 24.
pub fn htm_ranges(region: &Region, level: u8, max_ranges: usize) -> Result<Vec<RangeInclusive<u64>>, SkyError> {
    let level = checked(level)?;
    // A border of n trixels makes about n / 3 ranges; filling gaps does the rest.
    let budget = max_ranges.saturating_mul(8).clamp(64, MOST_TRIXELS);
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut border: Vec<Trixel> = (0..8).map(Trixel::root).collect();
    for depth in 0..=level {
        border.retain(|trixel| match region.relation(&trixel.cap()) {
            Relation::Outside => false,
            Relation::Inside => {
                ranges.push(trixel.ids_at(level));
                false
            }
            Relation::Partial => true,
        });
        if depth == level || 4 * border.len() > budget {
            break;
        }
        border = border.iter().flat_map(Trixel::children).collect();
    }
    for trixel in &border {
        if touches(region, trixel, tolerance_rad(region.scale_rad(), trixel.cap().radius_rad)) {
            ranges.push(trixel.ids_at(level));
        }
    }
    let ranges = coarsened(&merged(ranges), max_ranges);
    Ok(ranges.into_iter().map(|range| range.start..=range.end - 1).collect())
}

fn checked(level: u8) -> Result<u8, SkyError> {
    if level > MAX_LEVEL { Err(SkyError::HtmLevel(level)) } else { Ok(level) }
}

/// One triangle of the mesh.
#[derive(Clone, Copy, Debug)]
struct Trixel {
    id: u64,
    level: u8,
    /// Counter-clockwise, seen from outside.
    corners: [UnitVector; 3],
}

impl Trixel {
    /// The root of a number: 0 to 3 for S0 to S3, 4 to 7 for N0 to N3.
    fn root(number: u8) -> Trixel {
        const X: UnitVector = UnitVector { x: 1.0, y: 0.0, z: 0.0 };
        const Y: UnitVector = UnitVector { x: 0.0, y: 1.0, z: 0.0 };
        const Z: UnitVector = UnitVector { x: 0.0, y: 0.0, z: 1.0 };
        const WEST: UnitVector = UnitVector { x: -1.0, y: 0.0, z: 0.0 };
        const SOUTH: UnitVector = UnitVector { x: 0.0, y: 0.0, z: -1.0 };
        const BACK: UnitVector = UnitVector { x: 0.0, y: -1.0, z: 0.0 };
        const CORNERS: [[UnitVector; 3]; 8] = [
            [X, SOUTH, Y],
            [Y, SOUTH, WEST],
            [WEST, SOUTH, BACK],
            [BACK, SOUTH, X],
            [X, Z, BACK],
            [BACK, Z, WEST],
            [WEST, Z, Y],
            [Y, Z, X],
        ];
        let number = number % 8;
        Trixel { id: 8 + u64::from(number), level: 0, corners: CORNERS[usize::from(number)] }
    }

    /// The root that holds a direction. The equator belongs to the north, and a meridian between two roots to the
    /// eastern one, as in sphgeom.
    fn root_of(v: UnitVector) -> Trixel {
        let quarter = if v.y > 0.0 {
            u8::from(v.x <= 0.0)
        } else if v.y == 0.0 {
            if v.x >= 0.0 { 0 } else { 2 }
        } else if v.x < 0.0 {
            2
        } else {
            3
        };
        // Counted eastward in the south, westward in the north.
        Trixel::root(if v.z < 0.0 { quarter } else { 7 - quarter })
    }

    /// The part that holds a direction of this trixel. Whatever rounding says, one of the four does.
    fn child_of(&self, v: UnitVector) -> Trixel {
        let middles = self.middles();
        let [m12, m20, m01] = middles;
        let number = if orientation(v, m01, m20).is_ge() {
            0
        } else if orientation(v, m12, m01).is_ge() {
            1
        } else if orientation(v, m20, m12).is_ge() {
            2
        } else {
            3
        };
        self.parts(middles)[number]
    }

    /// The four parts: those at the three corners, then the one in the middle.
    fn children(&self) -> [Trixel; 4] {
        self.parts(self.middles())
    }

    fn parts(&self, [m12, m20, m01]: [UnitVector; 3]) -> [Trixel; 4] {
        let [v0, v1, v2] = self.corners;
        let mut id = 4 * self.id;
        [[v0, m01, m20], [v1, m12, m01], [v2, m20, m12], [m12, m20, m01]].map(|corners| {
            let child = Trixel { id, level: self.level + 1, corners };
            id += 1;
            child
        })
    }

    /// The middles of the sides, each opposite to the corner of its place.
    fn middles(&self) -> [UnitVector; 3] {
        let [v0, v1, v2] = self.corners;
        [middle(v1, v2), middle(v2, v0), middle(v0, v1)]
    }

    /// The ids of the trixels of a level that this one holds.
    fn ids_at(&self, level: u8) -> Range<u64> {
        let shift = 2 * level.saturating_sub(self.level);
        (self.id << shift)..((self.id + 1) << shift)
    }

    fn middle(&self) -> UnitVector {
        let [a, b, c] = self.corners;
        unit(a.x + b.x + c.x, a.y + b.y + c.y, a.z + b.z + c.z)
    }
}

impl Patch for Trixel {
    /// A cap smaller than a hemisphere is convex, so holding the corners is enough.
    fn cap(&self) -> Cap {
        let center = self.middle();
        let farthest = self.corners.iter().map(|corner| center.angle_rad(*corner)).fold(0.0, f64::max);
        Cap { center, radius_rad: farthest + SLACK_RAD }
    }

    fn center(&self) -> Position {
        let (longitude, latitude) = self.middle().longitude_latitude();
        Position::from_radians(longitude, latitude)
    }

    fn split(&self) -> Option<[Trixel; 4]> {
        (self.level < FINEST_SPLIT).then(|| self.children())
    }
}

fn middle(a: UnitVector, b: UnitVector) -> UnitVector {
    unit(a.x + b.x, a.y + b.y, a.z + b.z)
}

/// The direction of a sum of corners, which never vanishes. It is divided by its largest component first, so that
/// corners, and with them ids on borders, are to the last bit those of sphgeom.
fn unit(x: f64, y: f64, z: f64) -> UnitVector {
    let largest = x.abs().max(y.abs()).max(z.abs());
    let (x, y, z) = (x / largest, y / largest, z / largest);
    // The square of the largest is 1; the sum of the other two comes first.
    let others = if x.abs() == 1.0 {
        y * y + z * z
    } else if y.abs() == 1.0 {
        x * x + z * z
    } else {
        x * x + y * y
    };
    let length = (1.0 + others).sqrt();
    UnitVector { x: x / length, y: y / length, z: z / length }
}
