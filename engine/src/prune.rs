//! From ordinary predicates to an area of sky, and from that to chunks and to pages of their files.
//!
//! A predicate chooses conservatively: it may keep a chunk or a page that has no matching row, never
//! drop one that has. A dropped chunk is a silently wrong answer.

use std::collections::{BTreeMap, HashMap};

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use skyflight_sky::{ChunkId, Degrees, MocRegion, RaDecRange, Region, Scheme};

use crate::functions::region_predicate;
use crate::locality::{Origin, Role};

/// Chunks in which rows may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChunkSet {
    /// Nothing is known: every chunk.
    All,
    /// These chunks, ascending.
    Some(Vec<ChunkId>),
}

impl ChunkSet {
    pub(crate) fn intersect(self, other: ChunkSet) -> ChunkSet {
        match (self, other) {
            (ChunkSet::All, set) | (set, ChunkSet::All) => set,
            (ChunkSet::Some(mut a), ChunkSet::Some(b)) => {
                a.retain(|chunk| b.binary_search(chunk).is_ok());
                ChunkSet::Some(a)
            }
        }
    }

    pub(crate) fn union(self, other: ChunkSet) -> ChunkSet {
        match (self, other) {
            (ChunkSet::All, _) | (_, ChunkSet::All) => ChunkSet::All,
            (ChunkSet::Some(mut a), ChunkSet::Some(b)) => {
                a.extend(b);
                a.sort_unstable();
                a.dedup();
                ChunkSet::Some(a)
            }
        }
    }
}

/// Where on the sky rows can lie that a predicate lets through: never too little, maybe too much.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Area {
    /// Nothing is known.
    AllSky,
    /// No row passes.
    Nowhere,
    Region(Region),
    /// In each of these.
    All(Vec<Area>),
    /// In one of these.
    Any(Vec<Area>),
}

impl Area {
    fn and(self, other: Area) -> Area {
        match (self, other) {
            (Area::Nowhere, _) | (_, Area::Nowhere) => Area::Nowhere,
            (Area::AllSky, area) | (area, Area::AllSky) => area,
            (Area::All(mut areas), area) => {
                areas.push(area);
                Area::All(areas)
            }
            (first, second) => Area::All(vec![first, second]),
        }
    }

    fn or(self, other: Area) -> Area {
        match (self, other) {
            (Area::AllSky, _) | (_, Area::AllSky) => Area::AllSky,
            (Area::Nowhere, area) | (area, Area::Nowhere) => area,
            (Area::Any(mut areas), area) => {
                areas.push(area);
                Area::Any(areas)
            }
            (first, second) => Area::Any(vec![first, second]),
        }
    }

    /// The chunks that hold the area.
    pub(crate) fn chunks(&self, scheme: &dyn Scheme) -> ChunkSet {
        match self {
            Area::AllSky => ChunkSet::All,
            Area::Nowhere => ChunkSet::Some(Vec::new()),
            Area::Region(region) => ChunkSet::Some(scheme.cover(region)),
            Area::All(areas) => areas.iter().fold(ChunkSet::All, |set, area| set.intersect(area.chunks(scheme))),
            Area::Any(areas) => {
                areas.iter().fold(ChunkSet::Some(Vec::new()), |set, area| set.union(area.chunks(scheme)))
            }
        }
    }

    /// The HEALPix cells that hold the area; `None` where that is all of them.
    pub(crate) fn cells(&self) -> Option<MocRegion> {
        match self {
            Area::AllSky => None,
            Area::Nowhere => Some(MocRegion::default()),
            Area::Region(region) => Some(MocRegion::covering(region, COVER_CELLS)),
            Area::All(areas) => areas.iter().filter_map(Area::cells).reduce(|a, b| a.intersection(&b)),
            Area::Any(areas) => {
                areas.iter().map(Area::cells).try_fold(MocRegion::default(), |all, cells| Some(all.union(&cells?)))
            }
        }
    }
}

/// Finer covers cost more to make than the pages they leave out.
const COVER_CELLS: usize = 64;

/// The area in which `predicate` can be true. `origin` tells where a column of the predicate comes
/// from; only a director's own position says anything about its place.
pub(crate) fn area_of(predicate: &Expr, origin: &dyn Fn(&Expr) -> Option<Origin>) -> Area {
    match predicate {
        Expr::BinaryExpr(BinaryExpr { op: Operator::And, .. }) => {
            let mut conjuncts = Vec::new();
            flatten_and(predicate, &mut conjuncts);
            let regions = conjuncts
                .iter()
                .filter(|c| bound(c, origin).is_none())
                .fold(Area::AllSky, |area, c| area.and(area_of(c, origin)));
            regions.and(ranges(&conjuncts, origin))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let left = area_of(left, origin);
            if left == Area::AllSky {
                return Area::AllSky;
            }
            left.or(area_of(right, origin))
        }
        Expr::Literal(ScalarValue::Boolean(Some(false) | None), _) => Area::Nowhere,
        Expr::Alias(alias) => area_of(&alias.expr, origin),
        other => match region(other, origin) {
            Some(region) => Area::Region(region),
            None => ranges(&[other], origin),
        },
    }
}

fn flatten_and<'a>(expr: &'a Expr, out: &mut Vec<&'a Expr>) {
    // A loop on the left spine: chains are left-deep and may be hundreds long.
    let mut spine = expr;
    while let Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) = spine {
        match right.as_ref() {
            Expr::BinaryExpr(BinaryExpr { op: Operator::And, .. }) => flatten_and(right, out),
            other => out.push(other),
        }
        spine = left;
    }
    out.push(spine);
}

fn region(predicate: &Expr, origin: &dyn Fn(&Expr) -> Option<Origin>) -> Option<Region> {
    let found = region_predicate(predicate)?;
    let (ra, dec) = (origin(&found.ra)?, origin(&found.dec)?);
    (ra.scan == dec.scan && ra.role == Role::DirectorRa && dec.role == Role::DirectorDec).then_some(found.region)
}

/// One side of a range on a position column.
struct Bound {
    scan: usize,
    role: Role,
    low: f64,
    high: f64,
}

/// Combines all bounds on the positions of one scan into one range of RA and Dec.
fn ranges(conjuncts: &[&Expr], origin: &dyn Fn(&Expr) -> Option<Origin>) -> Area {
    let mut boxes: BTreeMap<usize, HashMap<Role, (f64, f64)>> = BTreeMap::new();
    for conjunct in conjuncts {
        if let Some(bound) = bound(conjunct, origin) {
            let (low, high) =
                boxes.entry(bound.scan).or_default().entry(bound.role).or_insert((f64::NEG_INFINITY, f64::INFINITY));
            *low = low.max(bound.low);
            *high = high.min(bound.high);
        }
    }
    boxes.into_values().fold(Area::AllSky, |area, by_role| {
        let whole = (f64::NEG_INFINITY, f64::INFINITY);
        let ra = by_role.get(&Role::DirectorRa).copied().unwrap_or(whole);
        let dec = by_role.get(&Role::DirectorDec).copied().unwrap_or(whole);
        area.and(range_area(ra, dec))
    })
}

fn range_area(ra: (f64, f64), dec: (f64, f64)) -> Area {
    let dec = (dec.0.max(-90.0), dec.1.min(90.0));
    let empty = ra.0 > ra.1 || dec.0 > dec.1 || ra.0 > 360.0 || ra.1 < 0.0;
    if empty {
        return Area::Nowhere;
    }
    let range = |low: f64, high: f64| {
        match RaDecRange::new(Some(Degrees(low)), Some(Degrees(high)), Some(Degrees(dec.0)), Some(Degrees(dec.1))) {
            Ok(range) => Area::Region(Region::RaDec(range)),
            // A range the geometry will not take prunes nothing.
            Err(_) => Area::AllSky,
        }
    };
    let area = range(ra.0.max(0.0), ra.1.min(360.0));
    if ra.1 >= 360.0 && ra.0 > 0.0 {
        // A row stored with RA 360 lies on the meridian of RA 0.
        return area.or(range(0.0, 0.0));
    }
    area
}

fn bound(expr: &Expr, origin: &dyn Fn(&Expr) -> Option<Origin>) -> Option<Bound> {
    match expr {
        Expr::Between(between) if !between.negated => {
            let column = origin(&between.expr)?;
            position(column, number(&between.low)?, number(&between.high)?)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            if let (Some(column), Some(value)) = (origin(left), number(right)) {
                return one_sided(column, *op, value);
            }
            let (value, column) = (number(left)?, origin(right)?);
            one_sided(column, op.swap()?, value)
        }
        _ => None,
    }
}

fn one_sided(column: Origin, op: Operator, value: f64) -> Option<Bound> {
    match op {
        Operator::Lt | Operator::LtEq => position(column, f64::NEG_INFINITY, value),
        Operator::Gt | Operator::GtEq => position(column, value, f64::INFINITY),
        Operator::Eq => position(column, value, value),
        _ => None,
    }
}

fn position(column: Origin, low: f64, high: f64) -> Option<Bound> {
    let usable = matches!(column.role, Role::DirectorRa | Role::DirectorDec) && !low.is_nan() && !high.is_nan();
    usable.then_some(Bound { scan: column.scan, role: column.role, low, high })
}

/// The value of a numeric literal.
fn number(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Literal(value, _) => match value.cast_to(&datafusion::arrow::datatypes::DataType::Float64).ok()? {
            ScalarValue::Float64(Some(v)) if value.data_type().is_numeric() => Some(v),
            _ => None,
        },
        Expr::Cast(cast) => number(&cast.expr),
        Expr::Negative(inner) => number(inner).map(|v| -v),
        _ => None,
    }
}
