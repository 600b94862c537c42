"""Fixtures: the loaded cluster that most tests share, and the oracles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from skyflight_testing import catalogs, settings
from skyflight_testing.cluster import Cluster
from skyflight_testing.duck import Duck
from skyflight_testing.tables import Scheme, healpix, stripes

SCHEMES: dict[str, Scheme] = {"h": healpix(), "s": stripes()}


@pytest.fixture(scope="session")
def data() -> Path:
    folder = settings.data_folder()
    if folder is None:
        pytest.skip("no real catalogs at ../shared/data; SKYFLIGHT_TEST_DATA says where else")
    return folder


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="session", params=sorted(SCHEMES), ids={"h": "healpix", "s": "stripes"}.get)
def suffix(request: pytest.FixtureRequest) -> str:
    """Every test that asks for it runs once for each scheme; databases of a scheme end in it."""
    return request.param


@pytest.fixture(scope="session")
def sky(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One coordinator and three workers with all of data/sky, in both schemes, two copies of each chunk."""
    with Cluster(tmp_path_factory.mktemp("sky") / "cluster") as cluster:
        for suffix, scheme in SCHEMES.items():
            for database in catalogs.databases(data, suffix):
                cluster.ingest(database.name, database.tables, scheme)
            cluster.ingest(f"case01_{suffix}", catalogs.case01(data), scheme, within_s=120)
        yield cluster
        assert cluster.panics() == [], "a thread of a server panicked"
        assert all(process.alive() for process in cluster.processes()), "a server died"


@pytest.fixture(scope="session")
def duck(data: Path) -> Duck:
    """DuckDB over the source files of everything in `sky`, under the same names."""
    oracle = Duck()
    for suffix in SCHEMES:
        for database in catalogs.databases(data, suffix):
            catalogs.add_to_duck(oracle, database.name, database.tables, database.as_stored)
        catalogs.add_to_duck(oracle, f"case01_{suffix}", catalogs.case01(data))
    return oracle
