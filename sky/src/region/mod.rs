//! Regions of the sky that a query can ask for. Each shape says which positions it holds, and of a cap whether
//! it lies outside; the second must agree with the first, for covers rest on it.

mod circle;
mod containment;
mod ellipse;
mod intersection;
mod moc;
mod moc_fits;
mod polygon;
mod polygon_bytes;
mod ra_dec_range;
mod sky_box;

pub use circle::Circle;
pub use ellipse::Ellipse;
pub use moc::MocRegion;
pub use polygon::ConvexPolygon;
pub use ra_dec_range::RaDecRange;
pub use sky_box::SkyBox;

use std::f64::consts::PI;

use crate::cap::{Cap, Relation};
use crate::position::Position;
use crate::ra_interval::RaInterval;

/// A region of the sky, ICRS. Borders belong to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Region {
    /// All positions within a radius of a centre.
    Circle(Circle),
    /// Between two right ascensions and two declinations, across 0 where asked.
    Box(SkyBox),
    /// An ellipse on the tangent plane of its centre.
    Ellipse(Ellipse),
    /// A convex polygon with great-circle sides.
    Polygon(ConvexPolygon),
    /// A set of HEALPix cells.
    Moc(MocRegion),
    /// Limits on right ascension and declination as plain numbers.
    RaDec(RaDecRange),
    /// Everything.
    AllSky,
}

impl Region {
    /// Whether the region holds the position.
    pub fn contains(&self, p: Position) -> bool {
        match self {
            Region::Circle(circle) => circle.contains(p),
            Region::Box(sky_box) => sky_box.contains(p),
            Region::Ellipse(ellipse) => ellipse.contains(p),
            Region::Polygon(polygon) => polygon.contains(p),
            Region::Moc(moc) => moc.contains(p),
            Region::RaDec(range) => range.contains(p),
            Region::AllSky => true,
        }
    }

    /// The area on the sphere in square degrees (the whole sky has 41,252.96), exact up to rounding: 0 for an
    /// empty region, none for limits on plain numbers, which may name the same sky on several turns of the circle.
    ///
    /// The area of an ellipse is that of its outline on the sky, a little more than π times its semi-axes, since
    /// it is defined on the tangent plane. The area of a coverage map is that of its cells.
    pub fn area_deg2(&self) -> Option<f64> {
        let area_sr = match self {
            Region::Circle(circle) => circle.area_sr(),
            Region::Box(sky_box) => sky_box.area_sr(),
            Region::Ellipse(ellipse) => ellipse.area_sr(),
            Region::Polygon(polygon) => polygon.area_sr(),
            Region::Moc(moc) => moc.area_sr(),
            Region::AllSky => 4.0 * PI,
            Region::RaDec(_) => return None,
        };
        Some(area_sr.to_degrees().to_degrees())
    }

    /// The centre: of a circle and an ellipse the position it is drawn about, of a polygon the centre of mass of its
    /// area. None for the other kinds.
    pub fn centroid(&self) -> Option<Position> {
        match self {
            Region::Circle(circle) => Some(circle.center()),
            Region::Ellipse(ellipse) => Some(ellipse.center()),
            Region::Polygon(polygon) => Some(polygon.centroid()),
            Region::Box(_) | Region::Moc(_) | Region::RaDec(_) | Region::AllSky => None,
        }
    }

    /// How a cap lies to the region.
    pub(crate) fn relation(&self, cap: &Cap) -> Relation {
        match self {
            Region::Circle(circle) => circle.relation(cap),
            Region::Box(sky_box) => sky_box.bounds().map_or(Relation::Outside, |bounds| bounds.relation(cap)),
            Region::Ellipse(ellipse) => ellipse.relation(cap),
            Region::Polygon(polygon) => polygon.relation(cap),
            Region::Moc(moc) => moc.relation(cap),
            Region::RaDec(range) => range.bounds().map_or(Relation::Outside, |bounds| bounds.relation(cap)),
            Region::AllSky => Relation::Inside,
        }
    }

    /// The radius of a cap about the size of the region, which sets how finely a cover looks.
    pub(crate) fn scale_rad(&self) -> f64 {
        match self {
            Region::Circle(circle) => circle.cap().radius_rad,
            Region::Box(sky_box) => sky_box.bounds().map_or(0.0, |bounds| bounds.scale_rad()),
            Region::Ellipse(ellipse) => ellipse.cap().radius_rad,
            Region::Polygon(polygon) => polygon.cap().radius_rad,
            Region::RaDec(range) => range.bounds().map_or(0.0, |bounds| bounds.scale_rad()),
            Region::Moc(_) | Region::AllSky => PI,
        }
    }
}

impl From<Circle> for Region {
    fn from(circle: Circle) -> Self {
        Region::Circle(circle)
    }
}

impl From<SkyBox> for Region {
    fn from(sky_box: SkyBox) -> Self {
        Region::Box(sky_box)
    }
}

impl From<Ellipse> for Region {
    fn from(ellipse: Ellipse) -> Self {
        Region::Ellipse(ellipse)
    }
}

impl From<ConvexPolygon> for Region {
    fn from(polygon: ConvexPolygon) -> Self {
        Region::Polygon(polygon)
    }
}

impl From<MocRegion> for Region {
    fn from(moc: MocRegion) -> Self {
        Region::Moc(moc)
    }
}

impl From<RaDecRange> for Region {
    fn from(range: RaDecRange) -> Self {
        Region::RaDec(range)
    }
}

/// A closed box of right ascension and declination (degrees) that is not empty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RaDecBox {
    pub(crate) ra: RaInterval,
    pub(crate) dec_min: f64,
    pub(crate) dec_max: f64,
}

impl RaDecBox {
    fn relation(&self, cap: &Cap) -> Relation {
        let other = cap.bounding_box();
        if other.dec_max < self.dec_min || other.dec_min > self.dec_max || !other.ra.intersects(self.ra) {
            return Relation::Outside;
        }
        // The cap's box is clipped to the poles before it is compared.
        let north = other.dec_max.min(90.0) <= self.dec_max;
        let south = other.dec_min.max(-90.0) >= self.dec_min;
        if north && south && self.ra.holds(other.ra) { Relation::Inside } else { Relation::Partial }
    }

    fn scale_rad(&self) -> f64 {
        let height = self.dec_max - self.dec_min;
        let widest = if self.dec_min <= 0.0 && self.dec_max >= 0.0 {
            1.0
        } else {
            self.dec_min.abs().min(self.dec_max.abs()).to_radians().cos()
        };
        (0.5 * height.max(self.ra.width() * widest)).to_radians()
    }
}
