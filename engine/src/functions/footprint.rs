//! What the numbers of a region mean, and a test of positions against it that is fast where most
//! rows lie outside.

use skyflight_sky::{Arcsec, Circle, ConvexPolygon, Degrees, Ellipse, Position, Region, SkyBox};

/// A kind of region and the parameters it is given by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Footprint {
    /// ra, dec, radius in degrees.
    Circle,
    /// ra_min, dec_min, ra_max, dec_max in degrees, as in Qserv and scisql.
    RangeBox,
    /// ra, dec, width, height in degrees, as in ADQL: sides are great circles that cross the arms
    /// of the box at right angles.
    CenterBox,
    /// ra, dec in degrees, semi-axes in arcseconds, position angle in degrees, as in scisql.
    EllipseArcsec,
    /// ra, dec, semi-axes and position angle in degrees.
    EllipseDegrees,
    /// ra, dec of each vertex in degrees.
    Polygon,
}

impl Footprint {
    /// Whether a region of this kind can have `count` parameters.
    pub(super) fn accepts(self, count: usize) -> bool {
        match self {
            Footprint::Circle => count == 3,
            Footprint::RangeBox | Footprint::CenterBox => count == 4,
            Footprint::EllipseArcsec | Footprint::EllipseDegrees => count == 5,
            Footprint::Polygon => count >= 6 && count.is_multiple_of(2),
        }
    }

    /// The parameters as they are written in SQL.
    pub(super) fn usage(self) -> &'static str {
        match self {
            Footprint::Circle => "ra, dec, radius",
            Footprint::RangeBox => "ra_min, dec_min, ra_max, dec_max",
            Footprint::CenterBox => "ra, dec, width, height",
            Footprint::EllipseArcsec => "ra, dec, semi_major_arcsec, semi_minor_arcsec, position_angle",
            Footprint::EllipseDegrees => "ra, dec, semi_major, semi_minor, position_angle",
            Footprint::Polygon => "ra1, dec1, ra2, dec2, ra3, dec3, …",
        }
    }

    /// Builds the region, or says what is wrong with the parameters.
    pub(super) fn region(self, parameters: &[f64]) -> Result<Region, String> {
        match (self, parameters) {
            (Footprint::Circle, &[ra, dec, radius]) => {
                Circle::new(position(ra, dec)?, Degrees(radius)).map(Region::Circle).map_err(say)
            }
            (Footprint::RangeBox, &[ra_min, dec_min, ra_max, dec_max]) => {
                SkyBox::new(Degrees(ra_min), Degrees(dec_min), Degrees(ra_max), Degrees(dec_max))
                    .map(Region::Box)
                    .map_err(say)
            }
            (Footprint::CenterBox, &[ra, dec, width, height]) => {
                let corners = center_box_corners(position(ra, dec)?, width, height)?;
                ConvexPolygon::new(&corners).map(Region::Polygon).map_err(say)
            }
            (Footprint::EllipseArcsec, &[ra, dec, major, minor, angle]) => {
                ellipse(position(ra, dec)?, Arcsec(major), Arcsec(minor), angle)
            }
            (Footprint::EllipseDegrees, &[ra, dec, major, minor, angle]) => {
                ellipse(position(ra, dec)?, Degrees(major).into(), Degrees(minor).into(), angle)
            }
            (Footprint::Polygon, coordinates) if self.accepts(coordinates.len()) => {
                let vertices: Result<Vec<Position>, String> =
                    coordinates.chunks_exact(2).map(|v| position(v[0], v[1])).collect();
                ConvexPolygon::new(&vertices?).map(Region::Polygon).map_err(say)
            }
            (_, parameters) => {
                Err(format!("{} numbers do not make this region; give {}", parameters.len(), self.usage()))
            }
        }
    }

    /// Says what is wrong with those parameters that are already known.
    pub(super) fn check(self, known: &[Option<f64>]) -> Result<(), String> {
        let all: Option<Vec<f64>> = known.iter().copied().collect();
        if let Some(parameters) = all {
            return self.region(&parameters).map(|_| ());
        }
        // One unknown number must not hide what is wrong with the others: a value that is surely
        // good stands in for it where the rest can be judged alone.
        match (self, known) {
            (Footprint::Circle, &[_, dec, radius]) => {
                self.check_with(&[Some(0.0), dec.or(Some(0.0)), radius.or(Some(1.0))])
            }
            (Footprint::EllipseArcsec | Footprint::EllipseDegrees, &[_, dec, Some(major), Some(minor), angle]) => {
                self.check_with(&[Some(0.0), dec.or(Some(0.0)), Some(major), Some(minor), angle.or(Some(0.0))])
            }
            (Footprint::CenterBox, &[_, dec, width, height]) => {
                self.check_with(&[Some(0.0), dec.or(Some(0.0)), width.or(Some(1.0)), height.or(Some(1.0))])
            }
            _ => Ok(()),
        }
    }

    fn check_with(self, parameters: &[Option<f64>]) -> Result<(), String> {
        let parameters: Option<Vec<f64>> = parameters.iter().copied().collect();
        parameters.map_or(Ok(()), |p| self.region(&p).map(|_| ()))
    }

    /// A circle that holds the whole region, as its centre and radius in degrees, where one is cheap to find.
    pub(super) fn enclosing(self, parameters: &[f64]) -> Option<(Position, f64)> {
        match (self, parameters) {
            (Footprint::Circle, &[ra, dec, radius]) => Some((position(ra, dec).ok()?, radius)),
            // The scisql ellipse is one in the orthographic plane, where sin stands for angle.
            (Footprint::EllipseArcsec, &[ra, dec, major, _, _]) => {
                Some((position(ra, dec).ok()?, 1.01 * Degrees::from(Arcsec(major)).0))
            }
            (Footprint::EllipseDegrees, &[ra, dec, major, _, _]) => Some((position(ra, dec).ok()?, 1.01 * major)),
            (Footprint::CenterBox, &[ra, dec, width, height]) => {
                let center = position(ra, dec).ok()?;
                around(center, &center_box_corners(center, width, height).ok()?)
            }
            (Footprint::Polygon, coordinates) => {
                let vertices: Option<Vec<Position>> =
                    coordinates.chunks_exact(2).map(|v| position(v[0], v[1]).ok()).collect();
                let vertices = vertices?;
                around(middle(&vertices)?, &vertices)
            }
            _ => None,
        }
    }
}

/// The circle about `center` that holds the polygon of `vertices`: of less than a hemisphere it is convex, and holds
/// all of the polygon when it holds the vertices.
fn around(center: Position, vertices: &[Position]) -> Option<(Position, f64)> {
    let radius = vertices.iter().map(|v| skyflight_sky::separation(center, *v).0).fold(0.0, f64::max) + 1e-9;
    (radius < 90.0).then_some((center, radius))
}

/// A region ready to be asked about many positions.
#[derive(Debug)]
pub(super) struct RegionTest {
    region: Region,
    cap: Option<Cap>,
}

impl RegionTest {
    pub(super) fn new(footprint: Footprint, parameters: &[f64]) -> Result<Self, String> {
        let region = footprint.region(parameters)?;
        let cap = footprint.enclosing(parameters).and_then(|(center, radius)| Cap::new(center, radius));
        Ok(RegionTest { region, cap })
    }

    /// A polygon that is not given by numbers.
    pub(super) fn of_polygon(polygon: ConvexPolygon) -> Self {
        RegionTest { region: Region::Polygon(polygon), cap: None }
    }

    /// Whether (ra, dec), in degrees, lies in the region; `None` when it is no position.
    ///
    /// The answer is that of [`Region::contains`]; the cap only saves work.
    pub(super) fn contains(&self, ra: f64, dec: f64) -> Option<bool> {
        if !ra.is_finite() || !(-90.0..=90.0).contains(&dec) {
            return None;
        }
        if self.cap.as_ref().is_some_and(|cap| cap.excludes(ra, dec)) {
            return Some(false);
        }
        Position::new(Degrees(ra), Degrees(dec)).ok().map(|p| self.region.contains(p))
    }
}

/// Bounds in right ascension and declination of a spherical cap, in degrees.
#[derive(Debug)]
struct Cap {
    ra: f64,
    dec: f64,
    half_width: f64,
    half_height: f64,
}

impl Cap {
    /// `None` where the cap is so large that it excludes little.
    fn new(center: Position, radius: f64) -> Option<Cap> {
        if !(0.0..60.0).contains(&radius) {
            return None;
        }
        // Far more than the rounding of any test, far less than any chunk.
        let half_height = radius + 1e-9;
        let dec = center.dec().0;
        let reach = half_height.to_radians().sin() / dec.to_radians().cos();
        let half_width =
            if dec.abs() + half_height < 89.9 && reach < 1.0 { reach.asin().to_degrees() + 1e-6 } else { 360.0 };
        Some(Cap { ra: center.ra().0, dec, half_width, half_height })
    }

    fn excludes(&self, ra: f64, dec: f64) -> bool {
        if (dec - self.dec).abs() > self.half_height {
            return true;
        }
        let mut away = (ra - self.ra).abs();
        if away > 180.0 {
            away = if away < 360.0 { 360.0 - away } else { ((away + 180.0).rem_euclid(360.0) - 180.0).abs() };
        }
        away > self.half_width
    }
}

fn ellipse(center: Position, major: Arcsec, minor: Arcsec, angle: f64) -> Result<Region, String> {
    Ellipse::new(center, major, minor, Degrees(angle)).map(Region::Ellipse).map_err(say)
}

/// Corners of ADQL's BOX: the gnomonic rectangle about the centre.
fn center_box_corners(center: Position, width: f64, height: f64) -> Result<[Position; 4], String> {
    if !(width > 0.0 && width < 180.0 && height > 0.0 && height < 180.0) {
        return Err(format!("a box {width} by {height} degrees cannot be drawn; give sides above 0 and below 180"));
    }
    let (xi, eta) = ((width / 2.0).to_radians().tan(), (height / 2.0).to_radians().tan());
    let (sin_ra, cos_ra) = center.ra().radians().sin_cos();
    let (sin_dec, cos_dec) = center.dec().radians().sin_cos();
    let corner = |xi: f64, eta: f64| {
        let x = cos_dec * cos_ra - xi * sin_ra - eta * sin_dec * cos_ra;
        let y = cos_dec * sin_ra + xi * cos_ra - eta * sin_dec * sin_ra;
        let z = sin_dec + eta * cos_dec;
        direction(x, y, z)
    };
    Ok([corner(xi, eta)?, corner(-xi, eta)?, corner(-xi, -eta)?, corner(xi, -eta)?])
}

fn middle(vertices: &[Position]) -> Option<Position> {
    let sum = vertices.iter().map(|v| v.unit_vector()).fold((0.0, 0.0, 0.0), |s, v| (s.0 + v.x, s.1 + v.y, s.2 + v.z));
    direction(sum.0, sum.1, sum.2).ok()
}

fn direction(x: f64, y: f64, z: f64) -> Result<Position, String> {
    position(y.atan2(x).to_degrees(), z.atan2(x.hypot(y)).to_degrees())
}

fn position(ra: f64, dec: f64) -> Result<Position, String> {
    Position::new(Degrees(ra), Degrees(dec)).map_err(say)
}

fn say(error: impl std::fmt::Display) -> String {
    error.to_string()
}
