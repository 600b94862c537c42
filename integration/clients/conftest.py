"""Fixtures: one small cluster, and every client that this machine can run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from skyflight_testing.cluster import Cluster
from skyflight_testing.settings import binary

from . import small_sky
from .build import Missing, go, jdbc, rust
from .client import Client, Place, Session
from .registry import CLIENTS

#: A user of the server that asks who comes.
USER, PASSWORD = "vera", "dark-matter 1970"

#: Clients that need a toolchain, and what makes their program.
PROGRAMS = {"jdbc": jdbc, "go": go, "rust": rust}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of capabilities runs with each client that has them; which those are, docs/clients.md says."""
    marker = metafunc.definition.get_closest_marker("capability")
    if marker is not None:
        able = [name for name, client in CLIENTS.items() if all(client.can(capability) for capability in marker.args)]
        metafunc.parametrize("client", able, indirect=True)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("clients")
    with Cluster(folder / "cluster", workers=2) as cluster:
        small_sky.load(cluster, folder)
        yield cluster
        assert cluster.panics() == [], "a thread of a server panicked"
        assert all(process.alive() for process in cluster.processes()), "a server died"


@pytest.fixture(scope="session")
def place(cluster: Cluster) -> Place:
    assert cluster.coordinator is not None
    return Place("127.0.0.1", cluster.coordinator.port)


@pytest.fixture(scope="session")
def guarded_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A server that asks who comes."""
    folder = tmp_path_factory.mktemp("guarded")
    with Cluster(folder / "cluster", config='[auth]\nmode = "users"\n', one_process=True, workers=1) as cluster:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        command = [str(binary()), "user", "add", USER, "--data-dir", str(cluster.data), "--password-file", str(secret)]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=60)
        yield cluster


@pytest.fixture(scope="session")
def guarded(guarded_cluster: Cluster) -> Place:
    assert guarded_cluster.coordinator is not None
    return Place("127.0.0.1", guarded_cluster.coordinator.port)


def with_tls(folder: Path) -> Iterator[Cluster]:
    """A server with a development certificate of an authority of its own."""
    with Cluster(folder / "cluster", config="[tls]\ndevelopment = true\n", one_process=True, workers=1) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def secured_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A server that speaks TLS."""
    yield from with_tls(tmp_path_factory.mktemp("secured"))


@pytest.fixture(scope="session")
def secured(secured_cluster: Cluster) -> Place:
    assert secured_cluster.coordinator is not None
    return Place("127.0.0.1", secured_cluster.coordinator.port, ca=secured_cluster.data / "tls" / "ca.pem")


@pytest.fixture(scope="session")
def stranger_ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The certificate of an authority that the secured server's is not signed by."""
    for cluster in with_tls(tmp_path_factory.mktemp("stranger")):
        yield cluster.data / "tls" / "ca.pem"


@pytest.fixture(scope="session")
def toolchain() -> Callable[[Client], None]:
    """Makes a client's program; without its toolchain the test is skipped, or fails where none may be."""

    def make(client: Client) -> None:
        try:
            PROGRAMS.get(client.name, lambda: [])()
        except Missing as missing:
            if os.environ.get("SKYFLIGHT_CLIENTS") == "all":
                pytest.fail(f"{client.title}: {missing}")
            pytest.skip(f"{client.title}: {missing}")

    return make


@pytest.fixture
def client(request: pytest.FixtureRequest, toolchain: Callable[[Client], None]) -> Client:
    found = CLIENTS[request.param]
    toolchain(found)
    return found


@pytest.fixture
def session(client: Client, place: Place) -> Iterator[Session]:
    """A session in the small database."""
    opened = client.open(replace(place, database=small_sky.DATABASE))
    yield opened
    opened.close()
