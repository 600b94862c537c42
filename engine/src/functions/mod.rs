//! The sky's SQL functions, and what their predicates say about where a row can lie.
//!
//! Positions are ICRS degrees. Membership is that of [`skyflight_sky::Region::contains`], borders
//! included, so what a query returns, what a chunk is pruned by and what a client computes agree.

mod about;
mod area_spec;
mod arguments;
mod binary;
mod constructors;
mod contains;
mod docs;
mod epochs;
mod footprint;
mod formula;
mod frames;
mod geometry;
mod healpix;
mod healpix_cells;
mod htm;
mod integer_predicate;
mod measures;
mod membership;
mod photometry;
mod quantile;
mod region_predicate;
mod separation;
mod separation_bound;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

use std::sync::Arc;

use datafusion::functions::math::signum;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub use area_spec::AreaSpecRule;
pub use integer_predicate::{IntegerPredicateRule, compare_integer_predicates};
pub use region_predicate::{RegionPredicate, region_predicate};

pub(crate) use arguments::{constant_number, scalar_number};
pub(crate) use separation_bound::{SeparationBound, separation_bound};

use about::{CoordSys, GetVersion};
use area_spec::AreaSpec;
use binary::{ExtractInt64, PolygonToBytes};
use constructors::{Constructor, Coordinate};
use contains::Contains;
use epochs::EpochPosition;
use footprint::Footprint;
use formula::{NumberFunction, RecordFunction};
use geometry::Shape;
use healpix::{HealpixCenter, HealpixIndex};
use healpix_cells::HealpixCell;
use htm::{HtmId, HtmLevel, HtmRanges};
use measures::Measure;
use membership::PointIn;
use quantile::Quantile;
use separation::Angle;

const SHAPES: [Shape; 5] = [Shape::Point, Shape::Circle, Shape::Box, Shape::Polygon, Shape::Ellipse];

/// scisql's name, the plain name, Qserv's restrictor and what the numbers mean.
const AREAS: [(&str, &str, &str, Footprint); 4] = [
    ("scisql_s2ptincircle", "s2ptincircle", "qserv_areaspec_circle", Footprint::Circle),
    ("scisql_s2ptinbox", "s2ptinbox", "qserv_areaspec_box", Footprint::RangeBox),
    ("scisql_s2ptinellipse", "s2ptinellipse", "qserv_areaspec_ellipse", Footprint::EllipseArcsec),
    ("scisql_s2ptincpoly", "s2ptincpoly", "qserv_areaspec_poly", Footprint::Polygon),
];

/// All sky functions, under lower-case names, all immutable.
///
/// To be registered after DataFusion's own: `contains` takes the place of the string function of
/// that name and does its work where it is given strings. `adql_in_*` are what CONTAINS is planned
/// as; a worker needs them by name.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let mut functions = vec![
        ScalarUDF::from(Angle::separation()),
        ScalarUDF::from(Angle::scisql_ang_sep()),
        ScalarUDF::from(Angle::distance()),
        ScalarUDF::from(Angle::position_angle()),
        ScalarUDF::from(Contains::new()),
        ScalarUDF::from(Contains::intersects()),
        ScalarUDF::from(Coordinate::ra()),
        ScalarUDF::from(Coordinate::dec()),
        ScalarUDF::from(HealpixIndex::new("healpix_index")),
        ScalarUDF::from(HealpixIndex::new("hpx_nest")),
        ScalarUDF::from(HealpixCenter::ra()),
        ScalarUDF::from(HealpixCenter::dec()),
        ScalarUDF::from(HealpixCell::neighbours()),
        ScalarUDF::from(HealpixCell::corners()),
        ScalarUDF::from(HealpixCell::bounds()),
        ScalarUDF::from(HtmId::new()),
        ScalarUDF::from(HtmLevel::new()),
        ScalarUDF::from(HtmRanges::circle()),
        ScalarUDF::from(HtmRanges::polygon()),
        ScalarUDF::from(HtmRanges::geometry()),
        ScalarUDF::from(PolygonToBytes::new()),
        ScalarUDF::from(ExtractInt64::new()),
        ScalarUDF::from(Measure::area()),
        ScalarUDF::from(Measure::centroid()),
        ScalarUDF::from(EpochPosition::new()),
        ScalarUDF::from(CoordSys::new()),
        ScalarUDF::from(GetVersion::new()),
        // ADQL's and MySQL's name of it.
        signum().as_ref().clone().with_aliases(["sign"]),
    ];
    let formulas = [photometry::CONVERSIONS, frames::COORDINATES, epochs::NUMBERS];
    functions.extend(formulas.into_iter().flatten().map(|formula| ScalarUDF::from(NumberFunction::new(formula))));
    let records = [frames::POSITIONS, epochs::STARS];
    functions.extend(records.into_iter().flatten().map(|record| ScalarUDF::from(RecordFunction::new(record))));
    functions.extend(SHAPES.map(|shape| ScalarUDF::from(Constructor::new(shape))));
    functions.extend(SHAPES.into_iter().filter_map(PointIn::adql).map(ScalarUDF::from));
    for (scisql, plain, restrictor, footprint) in AREAS {
        functions.push(ScalarUDF::from(PointIn::scisql(scisql, footprint)));
        functions.push(ScalarUDF::from(PointIn::scisql(plain, footprint)));
        functions.push(ScalarUDF::from(AreaSpec::new(restrictor, scisql, footprint)));
    }
    functions.into_iter().map(Arc::new).collect()
}

/// The aggregates of scisql, under lower-case names. A worker needs them by name.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    [Quantile::median(), Quantile::percentile()].map(|quantile| Arc::new(AggregateUDF::from(quantile))).to_vec()
}
