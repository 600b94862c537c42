"""Random shapes, a third of them where spherical geometry usually goes wrong: a pole, or right ascension 0."""

from __future__ import annotations

import math
import random

from .sky import Circle, Polygon, Positions, RangeBox, Shape, TangentBox, moved

KINDS = ("circle", "box", "polygon")


def random_shape(rng: random.Random, positions: Positions, kind: str, place: str) -> Shape:
    """One shape about the size of which nothing is known: from an arcminute to a good part of the sky.

    Most centres are near a row of the catalog, so that small shapes are not all empty.
    """
    size = 10 ** rng.uniform(-2.0, 1.4)
    ra, dec = _center(rng, positions, place, size)
    if kind == "circle":
        return Circle(ra, dec, size)
    if kind == "polygon":
        return _polygon(rng, ra, dec, min(size, 40.0))
    return _box(rng, ra, dec, size, place)


def _center(rng: random.Random, positions: Positions, place: str, size: float) -> tuple[float, float]:
    if place == "pole":
        sign = rng.choice([-1.0, 1.0])
        return rng.uniform(0.0, 360.0), sign * (90.0 if rng.random() < 0.3 else 90.0 - rng.uniform(0.0, size))
    if place == "ra 0":
        dec = math.degrees(math.asin(rng.uniform(-0.98, 0.98)))
        offset = rng.uniform(-0.7, 0.7) * size / math.cos(math.radians(dec))
        return offset % 360.0, dec
    row = rng.randrange(len(positions.id))
    return moved(float(positions.ra[row]), float(positions.dec[row]), rng.uniform(0, 360), rng.uniform(0, 0.7) * size)


def _polygon(rng: random.Random, ra: float, dec: float, radius: float) -> Polygon:
    """Corners on a small circle, in order: always convex."""
    while True:
        bearings = sorted(rng.uniform(0.0, 360.0) for _ in range(rng.randint(3, 9)))
        gaps = [b - a for a, b in zip(bearings, bearings[1:] + [bearings[0] + 360.0])]
        if min(gaps) > 2.0:
            break
    if rng.random() < 0.5:
        bearings.reverse()
    return Polygon(tuple(moved(ra, dec, bearing, radius) for bearing in bearings))


def _box(rng: random.Random, ra: float, dec: float, size: float, place: str) -> Shape:
    if rng.random() < 0.3:
        return TangentBox(ra, dec, 2 * size, 2 * size * rng.uniform(0.2, 1.0))
    low, high = max(dec - size, -90.0), min(dec + size * rng.uniform(0.3, 1.0), 90.0)
    width = min(size / max(math.cos(math.radians(dec)), 0.02), 170.0)
    if place == "ra 0":
        # Certainly across, whatever the centre.
        return RangeBox(360.0 - rng.uniform(0.01, 1.0) * width, low, rng.uniform(0.01, 1.0) * width, high)
    return RangeBox((ra - width) % 360.0, low, (ra + width * rng.uniform(0.3, 1.0)) % 360.0, high)


def places(rng: random.Random) -> str:
    """Where a shape goes: two thirds anywhere, a third at a pole or across right ascension 0."""
    return rng.choices(["anywhere", "pole", "ra 0"], [4, 1, 1])[0]
