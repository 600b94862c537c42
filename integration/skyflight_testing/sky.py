"""Brute force on the sphere with numpy: which positions lie in a shape, without any index.

Each shape gives a *margin* for every position: how far inside its border it is, in degrees, negative outside. A
position whose margin is within rounding of zero may be counted either way; all others may not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

Array = np.ndarray

#: Two correct computations may disagree on a border by this much (degrees; 0.4 microarcsec).
ROUNDING_DEG = 1e-10


def unit_vectors(ra: Array, dec: Array) -> Array:
    """Rows of x, y, z for positions in degrees."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def separation(a: Array, b: Array) -> Array:
    """Degrees between unit vectors: the half-chord's arcsine, or its complement's beyond 90 degrees."""
    half = np.linalg.norm(a - b, axis=-1) / 2
    rest = np.linalg.norm(a + b, axis=-1) / 2
    near = 2 * np.arcsin(np.clip(half, 0, 1))
    far = np.pi - 2 * np.arcsin(np.clip(rest, 0, 1))
    return np.degrees(np.where(half <= rest, near, far))


def north_and_east(ra: float, dec: float) -> tuple[Array, Array]:
    """Unit vectors towards north and east at a position; at a pole its right ascension says which way is north."""
    ra, dec = np.radians(ra), np.radians(dec)
    north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    return north, np.array([-np.sin(ra), np.cos(ra), 0.0])


def moved(ra: float, dec: float, bearing: float, distance: float) -> tuple[float, float]:
    """The position at a distance and bearing (east of north) from another; degrees."""
    center = unit_vectors(np.float64(ra), np.float64(dec))
    north, east = north_and_east(ra, dec)
    bearing, distance = np.radians(bearing), np.radians(distance)
    direction = np.cos(bearing) * north + np.sin(bearing) * east
    x, y, z = np.cos(distance) * center + np.sin(distance) * direction
    return float(np.degrees(np.arctan2(y, x)) % 360.0), float(np.degrees(np.arctan2(z, np.hypot(x, y))))


@dataclass(frozen=True)
class Positions:
    """A catalog's ids and positions."""

    id: Array
    ra: Array
    dec: Array
    vector: Array

    @staticmethod
    def of(id: Array, ra: Array, dec: Array) -> "Positions":
        return Positions(id, ra, dec, unit_vectors(ra, dec))


class Shape(Protocol):
    """A region, as brute force sees it and as SQL spells it."""

    def margin(self, p: Positions) -> Array: ...

    def spellings(self, ra: str, dec: str) -> list[str]:
        """Predicates that mean this shape; one of them is chosen for a query."""
        ...


def number(value: float) -> str:
    """A literal that reads back as the same double."""
    return repr(float(value))


def numbers(*values: float) -> str:
    return ", ".join(number(value) for value in values)


@dataclass(frozen=True)
class Circle:
    ra: float
    dec: float
    radius: float

    def margin(self, p: Positions) -> Array:
        return self.radius - separation(p.vector, unit_vectors(np.float64(self.ra), np.float64(self.dec)))

    def spellings(self, ra: str, dec: str) -> list[str]:
        center, circle = numbers(self.ra, self.dec), numbers(self.ra, self.dec, self.radius)
        return [
            f"separation({ra}, {dec}, {center}) <= {number(self.radius)}",
            f"CONTAINS(POINT('ICRS', {ra}, {dec}), CIRCLE('ICRS', {circle})) = 1",
            f"qserv_areaspec_circle({circle})",
            f"scisql_s2PtInCircle({ra}, {dec}, {circle}) = 1",
            f"scisql_angSep({ra}, {dec}, {center}) < {number(self.radius)}",
            f"1 = contains(point({ra}, {dec}), circle(point({center}), {number(self.radius)}))",
            f"{number(self.radius)} >= DISTANCE(POINT({center}), POINT({ra}, {dec}))",
        ]


@dataclass(frozen=True)
class RangeBox:
    """Between two right ascensions (west to east, across 0 where the first is larger) and two declinations."""

    ra_min: float
    dec_min: float
    ra_max: float
    dec_max: float

    def margin(self, p: Positions) -> Array:
        width = (self.ra_max - self.ra_min) % 360.0
        # Distance inside in right ascension, not shortened towards the poles: only its sign and zero matter.
        east = (p.ra - self.ra_min) % 360.0
        in_ra = np.where(east <= width, np.minimum(east, width - east), -np.minimum(east - width, 360.0 - east))
        return np.minimum(in_ra, np.minimum(p.dec - self.dec_min, self.dec_max - p.dec))

    def spellings(self, ra: str, dec: str) -> list[str]:
        box = numbers(self.ra_min, self.dec_min, self.ra_max, self.dec_max)
        west, east = number(self.ra_min), number(self.ra_max)
        if self.ra_min <= self.ra_max:
            in_ra = f"{ra} BETWEEN {west} AND {east}"
        else:
            in_ra = f"({ra} >= {west} OR {ra} <= {east})"
        return [
            f"qserv_areaspec_box({box})",
            f"scisql_s2PtInBox({ra}, {dec}, {box}) = 1",
            f"{in_ra} AND {dec} BETWEEN {number(self.dec_min)} AND {number(self.dec_max)}",
            f"NOT ({dec} < {number(self.dec_min)} OR {dec} > {number(self.dec_max)}) AND {in_ra}",
        ]


@dataclass(frozen=True)
class TangentBox:
    """ADQL's BOX: sides are great circles at right angles to the arms of a cross about the centre."""

    ra: float
    dec: float
    width: float
    height: float

    def margin(self, p: Positions) -> Array:
        center = unit_vectors(np.float64(self.ra), np.float64(self.dec))
        north, east = north_and_east(self.ra, self.dec)
        along, up, out = p.vector @ east, p.vector @ north, p.vector @ center
        across = self.width / 2 - np.abs(np.degrees(np.arctan2(along, out)))
        return np.minimum(across, self.height / 2 - np.abs(np.degrees(np.arctan2(up, out))))

    def spellings(self, ra: str, dec: str) -> list[str]:
        box = numbers(self.ra, self.dec, self.width, self.height)
        return [f"CONTAINS(POINT('ICRS', {ra}, {dec}), BOX('ICRS', {box})) = 1"]


@dataclass(frozen=True)
class Polygon:
    """A convex polygon with great-circle sides."""

    vertices: tuple[tuple[float, float], ...]

    def margin(self, p: Positions) -> Array:
        corners = unit_vectors(*np.array(self.vertices).T)
        normals = np.cross(corners, np.roll(corners, -1, axis=0))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        if np.sum(normals @ corners.mean(axis=0)) < 0:
            normals = -normals
        # A product for each edge: as wide as the polygon has edges, so a loop keeps the memory small.
        least = np.full(len(p.id), np.inf)
        for normal in normals:
            least = np.minimum(least, p.vector @ normal)
        return np.degrees(np.arcsin(np.clip(least, -1, 1)))

    def spellings(self, ra: str, dec: str) -> list[str]:
        flat = numbers(*(value for vertex in self.vertices for value in vertex))
        return [
            f"CONTAINS(POINT('ICRS', {ra}, {dec}), POLYGON('ICRS', {flat})) = 1",
            f"qserv_areaspec_poly({flat})",
            f"scisql_s2PtInCPoly({ra}, {dec}, {flat}) = 1",
        ]


def members(shape: Shape, p: Positions) -> tuple[Array, Array]:
    """The ids that must be in the shape, and those so near its border that they may be."""
    margin = shape.margin(p)
    return np.sort(p.id[margin > ROUNDING_DEG]), np.sort(p.id[np.abs(margin) <= ROUNDING_DEG])
