//! Intervals of right ascension, which live on a circle.

use crate::position::reduce_ra;

/// A closed arc of right ascension, east from `start` (in [0, 360)) for `width` degrees (in [0, 360]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RaInterval {
    start: f64,
    width: f64,
}

impl RaInterval {
    pub(crate) const FULL: RaInterval = RaInterval { start: 0.0, width: 360.0 };

    /// From `start` east to `end`, both in degrees, across 0 where `start > end`.
    pub(crate) fn eastward(start: f64, end: f64) -> RaInterval {
        let width = if end < start { end - start + 360.0 } else { end - start };
        RaInterval::of_width(start, width)
    }

    /// From `start` east for `width` degrees.
    pub(crate) fn of_width(start: f64, width: f64) -> RaInterval {
        if width >= 360.0 {
            return RaInterval::FULL;
        }
        RaInterval { start: reduce_ra(start), width: width.max(0.0) }
    }

    /// Everything within `half_width` degrees of `centre`.
    pub(crate) fn around(centre: f64, half_width: f64) -> RaInterval {
        RaInterval::of_width(centre - half_width, 2.0 * half_width)
    }

    /// The arc made longer by `margin` degrees at both ends.
    pub(crate) fn widened(self, margin: f64) -> RaInterval {
        RaInterval::of_width(self.start - margin, self.width + 2.0 * margin)
    }

    pub(crate) fn start(self) -> f64 {
        self.start
    }

    pub(crate) fn width(self) -> f64 {
        self.width
    }

    pub(crate) fn contains(self, ra: f64) -> bool {
        self.width >= 360.0 || reduce_ra(ra - self.start) <= self.width
    }

    pub(crate) fn intersects(self, other: RaInterval) -> bool {
        self.contains(other.start) || other.contains(self.start)
    }

    /// Whether the other arc lies wholly in this one.
    pub(crate) fn holds(self, other: RaInterval) -> bool {
        self.width >= 360.0 || reduce_ra(other.start - self.start) + other.width <= self.width
    }
}
