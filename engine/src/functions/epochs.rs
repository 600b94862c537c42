//! Stars at another epoch: `epoch_prop`, its single columns, and `epoch_prop_pos` for geometry.
//!
//! Names and arguments are those of the Gaia archive's EPOCH_PROP and EPOCH_PROP_POS.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use skyflight_sky::{Astrometry, Degrees, Mas, MasPerYear, Position};

use super::arguments::{Numbers, is_constant};
use super::constructors::Constructor;
use super::docs;
use super::formula::{Formula, MOST_FIELDS, NumberFunction, Record, Row, check, coerced, fill};
use super::geometry::{Shape, geometries, geometry_type};

const PARAMETERS: &str = "ra, dec, parallax, pmra, pmdec, radial_velocity, from_epoch, to_epoch";

const RA: Formula = number("epoch_prop_ra", |row| Some(propagated(row)?.position.ra().0));
const DEC: Formula = number("epoch_prop_dec", |row| Some(propagated(row)?.position.dec().0));

/// One number each, for columns and conditions.
pub(super) const NUMBERS: &[Formula] = &[
    RA,
    DEC,
    number("epoch_prop_parallax", |row| Some(propagated(row)?.parallax?.0)),
    number("epoch_prop_pmra", |row| Some(propagated(row)?.pm_ra.0)),
    number("epoch_prop_pmdec", |row| Some(propagated(row)?.pm_dec.0)),
    number("epoch_prop_radial_velocity", |row| propagated(row)?.radial_velocity_km_s),
];

/// All six numbers at once.
pub(super) const STARS: &[Record] = &[Record {
    name: "epoch_prop",
    parameters: PARAMETERS,
    fields: &["ra", "dec", "parallax", "pmra", "pmdec", "radial_velocity"],
    check: is_usable,
    value: |row| propagated(row).map(fields),
}];

const fn number(name: &'static str, value: fn(Row) -> Option<f64>) -> Formula {
    Formula { name, parameters: PARAMETERS, check: is_usable, value }
}

/// The star of a row at its new epoch. Parallax and radial velocity may be missing; nothing else may.
fn propagated(row: Row) -> Option<Astrometry> {
    let &[Some(ra), Some(dec), parallax, Some(pm_ra), Some(pm_dec), radial_velocity_km_s, Some(from), Some(to)] = row
    else {
        return None;
    };
    let star = Astrometry {
        position: Position::new(Degrees(ra), Degrees(dec)).ok()?,
        parallax: parallax.map(Mas),
        pm_ra: MasPerYear(pm_ra),
        pm_dec: MasPerYear(pm_dec),
        radial_velocity_km_s,
    };
    star.propagated(from, to).ok()
}

fn fields(star: Astrometry) -> [Option<f64>; MOST_FIELDS] {
    [
        Some(star.position.ra().0),
        Some(star.position.dec().0),
        star.parallax.map(|parallax| parallax.0),
        Some(star.pm_ra.0),
        Some(star.pm_dec.0),
        star.radial_velocity_km_s,
    ]
}

fn is_usable(known: Row) -> Result<(), String> {
    if let [_, Some(dec), ..] = known {
        Position::new(Degrees(0.0), Degrees(*dec)).map_err(|e| e.to_string())?;
    }
    for epoch in known.iter().skip(6).flatten() {
        // Nothing is known of stars so long ago, while a Julian date is a number of millions.
        if !(-100_000.0..=100_000.0).contains(epoch) {
            return Err(format!("there is no epoch {epoch}; give Julian years, such as 2016.0"));
        }
    }
    Ok(())
}

/// `epoch_prop_pos(…)`: the position at the new epoch as a point.
///
/// The planner writes POINT(epoch_prop_ra(…), epoch_prop_dec(…)) in its place, from which a join can be planned.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct EpochPosition {
    signature: Signature,
}

impl EpochPosition {
    pub(super) fn new() -> Self {
        EpochPosition { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for EpochPosition {
    fn name(&self) -> &str {
        "epoch_prop_pos"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        coerced(self.name(), PARAMETERS, given)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(geometry_type())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check(self.name(), is_usable, &args)?;
        Ok(Arc::new(Field::new(self.name(), geometry_type(), true)))
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let coordinate = |formula: &'static Formula| {
            let function = Arc::new(ScalarUDF::from(NumberFunction::new(formula)));
            Expr::ScalarFunction(ScalarFunction::new_udf(function, args.clone()))
        };
        let point = Arc::new(ScalarUDF::from(Constructor::new(Shape::Point)));
        let call = ScalarFunction::new_udf(point, vec![coordinate(&RA), coordinate(&DEC)]);
        Ok(ExprSimplifyResult::Simplified(Expr::ScalarFunction(call)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let numbers = Numbers::read_all(&args.args)?;
        let constant = is_constant(&args);
        let rows = if constant { 1 } else { args.number_rows };
        let mut row_numbers = [None; 8];
        let (mut coordinates, mut valid) = (Vec::with_capacity(2 * rows), Vec::with_capacity(rows));
        for row in 0..rows {
            let star = propagated(fill(&mut row_numbers, &numbers, row));
            valid.push(star.is_some());
            coordinates.extend(star.map_or([0.0, 0.0], |s| [s.position.ra().0, s.position.dec().0]));
        }
        let array = geometries(Shape::Point, 2, coordinates, valid)?;
        if constant {
            return ScalarValue::try_from_array(&array, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(Arc::new(array)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        docs::documentation(self.name())
    }
}
