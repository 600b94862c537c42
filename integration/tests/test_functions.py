"""The functions of the sky on a partitioned table, so that they run beside the chunks: against numpy, and against values
that erfa, hpgeom and sphgeom gave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skyflight_testing.clients import FlightSql
from skyflight_testing.cluster import Cluster
from skyflight_testing.settings import SEED
from skyflight_testing.tables import Scheme, director, healpix, stripes

SCHEMES: dict[str, Scheme] = {"healpix": healpix(row_limit=200), "stripes": stripes(18, 6)}
EPOCHS = (2016.0, 1991.25)
STAR = f"ra, dec, parallax, pmra, pmdec, rv, {EPOCHS[0]}, {EPOCHS[1]}"


class Place(NamedTuple):
    """A position that is awkward for something, and what others say of it.

    l and b by pyerfa 2.0.1.5 `icrs2g`, the id by sphgeom 30.2026.4000 `HtmPixelization(20).index`, cell and neighbours of
    order 6 by hpgeom 1.6.1 `angle_to_pixel` and `neighbors`.
    """

    ra: float
    dec: float
    l: float
    b: float
    htm20: int
    cell6: int
    neighbours6: list[int]


PLACES = [
    Place(0.0, 0.0, 96.33727234341765, -60.188553267593726, 17042430230528, 19456, [17407, 18090, 18091, 18773, 18775, 19457, 19458, 19459]),
    Place(0.0, 90.0, 122.93191999999999, 27.12825, 16767552323584, 4095, [4092, 4093, 4094, 8190, 8191, 12287, 16381, 16383]),
    Place(123.0, -90.0, 302.93192, -27.12825, 10170482556928, 36864, [32768, 32769, 36865, 36866, 36867, 40960, 40962, 45056]),
    Place(359.9999, -0.0001, 96.33700770787227, -60.18860514479064, 12644383719439, 17407, [17404, 17405, 17406, 18088, 18090, 18772, 18773, 19456]),
    Place(180.0, 45.0, 149.48052965394487, 69.38409625220054, 15461882265600, 10938, [5471, 5493, 5495, 10925, 10927, 10936, 10937, 10939]),
    Place(266.4050892, -28.9361747, 4.24128628295289e-05, -7.08998486944847e-05, 11710822190729, 28830, [28825, 28827, 28828, 28829, 28831, 28849, 28852, 28853]),
    Place(83.633083, 22.0145, 184.5574516220659, -5.784359760386859, 16734347831856, 24185, [24178, 24179, 24182, 24184, 24186, 24187, 24188, 24190]),
    Place(269.44850252, 4.73942005, 31.04941795439635, 14.086603672359661, 14294965050653, 31781, [31758, 31759, 31770, 31780, 31782, 31783, 31792, 31794]),
    Place(45.0, 41.81, 147.16136329488143, -14.934288569104485, 17553749233471, 1023, [1020, 1021, 1022, 1704, 1706, 2388, 2389, 3072]),
    Place(315.0, -41.82, 359.74977835794374, -41.063728647151926, 13155702918399, 46079, [46076, 46077, 46078, 46760, 46762, 47444, 47445, 48128]),
    Place(10.68458, 41.26917, 121.17423482616246, -21.572887928791747, 17324365653309, 2709, [2622, 2623, 2666, 2708, 2710, 2711, 2752, 2754]),
    Place(201.365063, -43.019113, 309.51589578012903, 19.417273073035183, 12022421357773, 43262, [43257, 43259, 43260, 43261, 43263, 43601, 43604, 43605]),
    Place(37.95456067, 89.26410897, 123.2805443765893, 26.461393550812954, 16767809950224, 4095, [4092, 4093, 4094, 8190, 8191, 12287, 16381, 16383]),
    Place(90.0, 1e-07, 206.98912521594985, -11.424493034059186, 16492674416640, 23552, [21503, 22186, 22187, 22869, 22871, 23553, 23554, 23555]),
    Place(270.0, -66.56, 327.281913524876, -19.85020233731799, 11373180766224, 45738, [41300, 41301, 41984, 45736, 45737, 45739, 47104, 47105]),
]


def stars() -> dict[str, np.ndarray]:
    """The places, then stars anywhere; NaN stands for NULL."""
    rng = np.random.default_rng(SEED)
    count = 3_000
    ra, dec = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    ra[: len(PLACES)] = [place.ra for place in PLACES]
    dec[: len(PLACES)] = [place.dec for place in PLACES]
    missing = lambda values, share: np.where(rng.random(count) < share, np.nan, values)  # noqa: E731
    return {
        "id": np.arange(count),
        "ra": ra,
        "dec": dec,
        "parallax": missing(rng.uniform(0.5, 300, count), 0.2),
        "pmra": rng.normal(0, 500, count),
        "pmdec": rng.normal(0, 500, count),
        "rv": missing(rng.normal(0, 60, count), 0.4),
        "flux": missing(rng.normal(800, 1000, count), 0.1),
        "flux_err": rng.uniform(-1, 50, count),
        "zero": rng.uniform(1e12, 3e12, count),
        "zero_err": rng.uniform(1e9, 1e10, count),
        "field": rng.integers(0, 40, count),
    }


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    return stars()


@pytest.fixture(scope="module", params=SCHEMES)
def flight(request: pytest.FixtureRequest, rows: dict, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlightSql]:
    folder = tmp_path_factory.mktemp("functions")
    nullable = {"parallax", "rv", "flux"}
    table = pa.table({name: pa.array(column, from_pandas=name in nullable) for name, column in rows.items()})
    pq.write_table(table, folder / "star.parquet")
    with Cluster(folder / "cluster", workers=2) as cluster:
        cluster.ingest("dr", [director("star", folder / "star.parquet", "id")], SCHEMES[request.param])
        with cluster.flight() as flight:
            yield flight


def columns(flight: FlightSql, *expressions: str) -> list[pa.ChunkedArray]:
    """The expressions of all rows, in the order of id."""
    listed = ", ".join(f"{expression} AS e{i}" for i, expression in enumerate(expressions))
    table = flight.query(f"SELECT id, {listed} FROM dr.star").sort_by("id")
    assert table.num_rows == 3_000
    return table.columns[1:]


def same(got: pa.ChunkedArray, want: np.ndarray, rtol: float = 1e-12, atol: float = 0) -> None:
    """Equal numbers, NULL where `want` is NaN."""
    nulls = np.asarray(got.is_null())
    np.testing.assert_array_equal(nulls, np.isnan(want))
    assert not nulls.all(), "all is NULL, which tests nothing"
    numbers = got.to_numpy(zero_copy_only=False).astype(float)
    np.testing.assert_allclose(numbers[~nulls], want[~nulls], rtol=rtol, atol=atol)


def vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec)])


def separations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Degrees between unit vectors."""
    return np.degrees(2 * np.arcsin(np.minimum(1, np.linalg.norm(a - b, axis=0) / 2)))


def test_photometry(flight: FlightSql, rows: dict) -> None:
    flux, err, zero, zero_err = (rows[name] for name in ("flux", "flux_err", "zero", "zero_err"))
    ab = 10 ** (-48.6 / 2.5)
    with np.errstate(invalid="ignore", divide="ignore"):
        bright = np.where(flux > 0, flux, np.nan)
        err = np.where(err >= 0, err, np.nan)
        mag = -2.5 * np.log10(bright) + 31.4
        dn_flux = ab * flux / zero
        dn_err = ab / zero * np.hypot(err, flux * zero_err / zero)
        wanted = {
            "scisql_nanojanskyToAbMag(flux)": mag,
            "scisql_nanojanskyToAbMagSigma(flux, flux_err)": 2.5 / np.log(10) * err / bright,
            "scisql_fluxToAbMag(flux * 1e-32)": -2.5 * np.log10(bright * 1e-32) - 48.6,
            "scisql_fluxToAbMagSigma(flux, flux_err)": 2.5 / np.log(10) * err / bright,
            "scisql_abMagToNanojansky(scisql_nanojanskyToAbMag(flux))": bright,
            "scisql_abMagToNanojanskySigma(flux / 100, 0.1)": 0.1 * np.log(10) / 2.5 * 10 ** (-0.4 * (flux / 100 - 31.4)),
            "scisql_abMagToFlux(flux / 100)": 10 ** (-0.4 * (flux / 100 + 48.6)),
            "scisql_abMagToFluxSigma(flux / 100, flux_err)": err * np.log(10) / 2.5 * 10 ** (-0.4 * (flux / 100 + 48.6)),
            "scisql_dnToFlux(flux, zero)": dn_flux,
            "scisql_dnToFluxSigma(flux, flux_err, zero, zero_err)": dn_err,
            "scisql_dnToAbMag(flux, zero)": -2.5 * np.log10(bright / zero),
            "scisql_dnToAbMagSigma(flux, flux_err, zero, zero_err)": 2.5 / np.log(10) * dn_err / np.where(flux > 0, dn_flux, np.nan),
            "scisql_fluxToDn(flux * 1e-20, zero)": flux * 1e-20 * zero / ab,
            "scisql_fluxToDnSigma(flux, flux_err, zero, zero_err)": np.hypot(flux * zero_err, err * zero) / ab,
            "scisql_abMagToDn(flux / 100, zero)": 10 ** (-0.4 * flux / 100) * zero,
            "scisql_abMagToDnSigma(flux / 100, 0.1, zero, zero_err)": 10 ** (-0.4 * flux / 100)
            * np.hypot(zero_err, 0.1 * np.log(10) / 2.5 * zero),
        }
    for got, (name, want) in zip(columns(flight, *wanted), wanted.items()):
        print(name)
        same(got, want, rtol=1e-11, atol=1e-13 * float(np.nanmax(np.abs(want))) if "Mag(" in name else 0)
    # In a condition, which runs beside the chunks.
    found = flight.value("SELECT count(*) FROM dr.star WHERE SCISQL_NANOJANSKYTOABMAG(flux) < 24.5")
    assert found == np.sum(mag < 24.5) > 100


def test_median_and_percentile(flight: FlightSql, rows: dict) -> None:
    flux, field = rows["flux"], rows["field"]
    table = flight.query(
        "SELECT field, scisql_median(flux) AS m, scisql_percentile(flux, 90) AS p, scisql_percentile(flux, field) AS q "
        "FROM dr.star GROUP BY field ORDER BY field"
    )
    assert table["field"].to_pylist() == list(range(40))
    for name, percent in {"m": lambda _: 50, "p": lambda _: 90, "q": lambda group: group}.items():
        want = [np.nanpercentile(flux[field == group], percent(group)) for group in range(40)]
        same(table[name], np.array(want), rtol=1e-12)
    # NaN does not count, as NULL does not.
    bright = "CASE WHEN flux < 0 THEN CAST('NaN' AS DOUBLE) ELSE flux END"
    whole = flight.query(f"SELECT scisql_median(flux) AS m, scisql_percentile({bright}, 33.3) AS p FROM dr.star")
    same(whole["m"], np.array([np.nanmedian(flux)]))
    same(whole["p"], np.array([np.nanpercentile(flux[flux >= 0], 33.3)]))
    assert flight.value("SELECT scisql_median(flux) FROM dr.star WHERE id < 0") is None
    filtered = flight.value("SELECT scisql_median(flux) FILTER (WHERE dec > 0) FROM dr.star")
    assert filtered == pytest.approx(np.nanmedian(flux[rows["dec"] > 0]), rel=1e-12)


def test_galactic_coordinates(flight: FlightSql, rows: dict) -> None:
    # From the three angles of the definition (ESA 1997, SP-1200, vol. 1, section 1.5.3).
    pole_ra, pole_dec, node = np.radians([192.85948, 27.12825, 32.93192])
    ra, dec = np.radians(rows["ra"]), np.radians(rows["dec"])
    sin_b = np.sin(pole_dec) * np.sin(dec) + np.cos(pole_dec) * np.cos(dec) * np.cos(ra - pole_ra)
    y = np.cos(pole_dec) * np.sin(dec) - np.sin(pole_dec) * np.cos(dec) * np.cos(ra - pole_ra)
    x = np.cos(dec) * np.sin(ra - pole_ra)
    l = np.degrees(node + np.arctan2(y, x)) % 360
    got_l, got_b, both, back = columns(
        flight,
        "galactic_l(ra, dec)",
        "galactic_b(ra, dec)",
        "icrs_to_galactic(ra, dec)",
        "galactic_to_icrs(galactic_l(ra, dec), galactic_b(ra, dec))",
    )
    same(got_b, np.degrees(np.arcsin(sin_b)), rtol=0, atol=1e-6)
    away = separations(vectors(got_l.to_numpy(), got_b.to_numpy()), vectors(l, np.degrees(np.arcsin(sin_b))))
    assert away.max() < 1e-6
    assert [star["l"] for star in both.to_pylist()] == got_l.to_pylist()
    assert [star["b"] for star in both.to_pylist()] == got_b.to_pylist()
    there = np.array([[star["ra"], star["dec"]] for star in back.to_pylist()]).T
    assert separations(vectors(*there), vectors(rows["ra"], rows["dec"])).max() < 1e-12
    for place, l, b in zip(PLACES, got_l.to_pylist(), got_b.to_pylist()):
        assert (l, b) == pytest.approx((place.l, place.b), abs=1e-11)


def moved(rows: dict) -> dict[str, np.ndarray]:
    """A straight line in astronomical units and years; where parallax or velocity is missing, at a distance of 1."""
    years = EPOCHS[1] - EPOCHS[0]
    ra, dec = np.radians(rows["ra"]), np.radians(rows["dec"])
    mas = np.pi / 180 / 3.6e6
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)])
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    parallax = rows["parallax"] * mas
    velocity = rows["rv"] / (149_597_870.7 / (365.25 * 86_400))
    distance = np.where(np.isnan(parallax), 1, 1 / parallax)
    radial = np.where(np.isnan(parallax) | np.isnan(velocity), 0, velocity)
    line = vectors(rows["ra"], rows["dec"])
    speed = distance * mas * (rows["pmra"] * east + rows["pmdec"] * north) + radial * line
    place = distance * line + years * speed
    new = np.linalg.norm(place, axis=0)
    ra, dec = np.arctan2(place[1], place[0]), np.arctan2(place[2], np.hypot(place[0], place[1]))
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)])
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    receding = np.sum(speed * place, axis=0) / new * (149_597_870.7 / (365.25 * 86_400))
    return {
        "ra": np.degrees(ra) % 360,
        "dec": np.degrees(dec),
        "parallax": 1 / new / mas + 0 * rows["parallax"],
        "pmra": np.sum(speed * east, axis=0) / new / mas,
        "pmdec": np.sum(speed * north, axis=0) / new / mas,
        # Without a parallax its change is not known.
        "radial_velocity": np.where(np.isnan(parallax), rows["rv"], receding + 0 * rows["rv"]),
    }


def test_epoch_propagation(flight: FlightSql, rows: dict) -> None:
    want = moved(rows)
    names = list(want)
    *single, star, ra, dec = columns(
        flight,
        *(f"epoch_prop_{name}({STAR})" for name in names),
        f"epoch_prop({STAR})",
        f"coord1(EPOCH_PROP_POS({STAR}))",
        f"coord2(EPOCH_PROP_POS({STAR}))",
    )
    # At the poles east has no direction: the motion there is compared as a whole below.
    polar = np.abs(rows["dec"]) == 90
    for name, got in zip(names, single):
        print(name)
        if name in ("ra", "dec"):
            continue
        ours = got.to_numpy(zero_copy_only=False).astype(float)
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(want[name]))
        np.testing.assert_allclose(ours[~polar], want[name][~polar], rtol=1e-7, atol=1e-6)
        assert [one[name] for one in star.to_pylist()] == got.to_pylist()
    pm = np.hypot(single[names.index("pmra")].to_numpy(), single[names.index("pmdec")].to_numpy())
    np.testing.assert_allclose(pm, np.hypot(want["pmra"], want["pmdec"]), rtol=1e-7)
    at = vectors(ra.to_numpy(), dec.to_numpy())
    assert separations(at, vectors(want["ra"], want["dec"])).max() * 3.6e9 < 10, "microarcseconds"
    assert (ra, dec) == (single[0], single[1])
    assert np.max(separations(at, vectors(rows["ra"], rows["dec"]))) * 3600 > 10, "no star has moved"


def test_cells_and_trixels(flight: FlightSql, rows: dict) -> None:
    cell, neighbours, corners, bounds, htm, level = columns(
        flight,
        "healpix_index(6, ra, dec)",
        "healpix_neighbours(6, healpix_index(6, ra, dec))",
        "healpix_corners(6, healpix_index(6, ra, dec))",
        "healpix_bounds(6, healpix_index(6, ra, dec))",
        "scisql_s2HtmId(ra, dec, 20)",
        "scisql_s2HtmLevel(scisql_s2HtmId(ra, dec, 20))",
    )
    for i, place in enumerate(PLACES):
        assert (htm[i].as_py(), cell[i].as_py()) == (place.htm20, place.cell6)
        assert neighbours[i].as_py() == place.neighbours6
    assert set(level.to_pylist()) == {20}
    for ra, dec, box, four in zip(rows["ra"], rows["dec"], bounds.to_pylist(), corners.to_pylist()):
        assert box["dec_min"] <= dec <= box["dec_max"]
        wraps = box["ra_min"] > box["ra_max"]
        assert box["ra_min"] <= ra <= box["ra_max"] or (wraps and (ra >= box["ra_min"] or ra <= box["ra_max"])) or abs(dec) == 90
        # No cell of order 6 is longer than 2 degrees.
        there = np.array([[corner["ra"], corner["dec"]] for corner in four]).T
        assert there.shape == (2, 4) and separations(vectors(*there), vectors(np.array([ra]), np.array([dec]))).max() < 2
    # Ids in ranges, as a join with rows made of a list.
    found = flight.value(
        "SELECT count(*) FROM dr.star s JOIN (SELECT unnest(htm_ranges(circle(0, 80, 12), 10)) AS r) AS c "
        "ON scisql_s2HtmId(s.ra, s.dec, 10) BETWEEN c.r['htm_min'] AND c.r['htm_max'] WHERE separation(s.ra, s.dec, 0, 80) <= 12"
    )
    inside = separations(vectors(rows["ra"], rows["dec"]), vectors(np.array([0.0]), np.array([80.0]))) <= 12
    assert found == np.sum(inside) > 20


def test_geometry(flight: FlightSql, rows: dict) -> None:
    place = vectors(rows["ra"], rows["dec"])
    area, center, meets = columns(
        flight,
        "area(circle(ra, dec, 1 + id / 1000e0))",
        "distance(centroid(box(ra, dec, 2, 3)), point(ra, dec))",
        "intersects(circle(ra, dec, 5), circle(359, -88, 7))",
    )
    same(area, 4 * np.pi * np.sin(np.radians(1 + rows["id"] / 1000) / 2) ** 2 * (180 / np.pi) ** 2, rtol=1e-12)
    assert max(center.to_pylist()) < 1e-11
    near = separations(place, vectors(np.array([359.0]), np.array([-88.0]))) <= 12
    assert meets.to_pylist() == near.astype(int).tolist() and 10 < near.sum() < 1_000
    # A triangle about the pole as a geometry, as numbers and as bytes; its sides are planes.
    corners = vectors(np.array([10.0, 130.0, 250.0]), np.array([70.0, 70.0, 70.0])).T
    inside = np.all([np.dot(np.cross(corners[i], corners[(i + 1) % 3]), place) >= 0 for i in range(3)], axis=0)
    numbers = "10, 70, 130, 70, 250, 70"
    for test in (
        f"INTERSECTS(POINT(ra, dec), POLYGON({numbers})) = 1",
        f"scisql_s2PtInCPoly(ra, dec, {numbers}) = 1",
        f"scisql_s2PtInCPoly(ra, dec, scisql_s2CPolyToBin({numbers})) = 1",
    ):
        assert flight.value(f"SELECT count(*) FROM dr.star WHERE {test}") == inside.sum() > 20, test


def test_functions_are_described(flight: FlightSql) -> None:
    described = flight.query(
        "SELECT DISTINCT routine_name AS n, description AS d FROM information_schema.routines WHERE routine_name LIKE 'scisql%'"
    )
    assert len(set(described["n"].to_pylist())) == 30
    assert all(described["d"].to_pylist())
