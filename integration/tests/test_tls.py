"""TLS: real clients with the authority and without it, and a cluster whose nodes know each other by certificate."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_manager
import duckdb
import pyarrow.flight as flight
import pytest

from skyflight_testing import clients
from skyflight_testing.cluster import Cluster
from skyflight_testing.settings import binary
from skyflight_testing.tables import director, healpix

ROWS = 20_000


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A coordinator with a development certificate and two workers that use its files, each of which turns away who
    has no certificate; a table of 20,000 stars in many chunks."""
    folder = tmp_path_factory.mktemp("tls")
    with Cluster(folder / "cluster", workers=0, config="[tls]\ndevelopment = true\n") as cluster:
        tls = cluster.data / "tls"
        files = [f'certificate = "{tls}/node.pem"', f'key = "{tls}/node.key"', f'ca = "{tls}/ca.pem"']
        demands = [f'client_ca = "{tls}/ca.pem"', "demand_client_certificate = true"]
        cluster.config.write_text("\n".join(["[tls]", *files, *demands, ""]))
        for name in ("w1", "w2"):
            cluster.start_worker(name)
        cluster.await_workers({"w1", "w2"})
        stars = folder / "stars.parquet"
        duckdb.connect().execute(
            f"COPY (SELECT i AS id, (i * 137.50776) % 360 AS ra, degrees(asin(2 * (i + 0.5) / {ROWS} - 1)) AS dec, "
            f"i % 7 AS kind FROM range({ROWS}) t(i)) TO '{stars}' (FORMAT parquet)"
        )
        cluster.ingest("dr1", [director("stars", stars, "id")], healpix(row_limit=500), extra=("--config", str(cluster.config)))
        yield cluster
        assert cluster.panics() == []


@pytest.fixture(scope="module")
def authority(secure: Cluster) -> bytes:
    return (secure.data / "tls" / "ca.pem").read_bytes()


def counted(cluster: Cluster, sql: str, **options: str) -> list[tuple]:
    with cluster.adbc(**options) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def trusting(authority: bytes) -> dict[str, str]:
    return {"adbc.flight.sql.client_option.tls_root_certs": authority.decode()}


def test_everything_speaks_tls(secure: Cluster) -> None:
    assert secure.url.startswith("https://")
    assert [address[:8] for (address,) in secure.records("SELECT address FROM workers")] == ["https://"] * 2


def test_adbc_reads_rows_that_came_from_workers_by_tls(secure: Cluster, authority: bytes) -> None:
    sql = "SELECT kind, count(*), sum(id) FROM dr1.stars GROUP BY kind ORDER BY kind"
    expected = duckdb.sql(f"SELECT i % 7, count(*), sum(i) FROM range({ROWS}) t(i) GROUP BY 1 ORDER BY 1").fetchall()
    assert counted(secure, sql, **trusting(authority)) == expected
    assert counted(secure, "SELECT count(*) FROM dr1.stars WHERE id > -1", **{"adbc.flight.sql.client_option.tls_skip_verify": "true"}) == [(ROWS,)]
    # Rows go from worker to worker, too.
    header = {"adbc.flight.sql.rpc.call_header.x-skyflight-shuffle": "always"}
    shuffled = "SELECT a.kind, count(*) FROM dr1.stars a JOIN dr1.stars b ON a.kind = b.id GROUP BY a.kind ORDER BY a.kind"
    pairs = duckdb.sql(f"SELECT i % 7, count(*) FROM range({ROWS}) t(i) GROUP BY 1 ORDER BY 1").fetchall()
    assert counted(secure, shuffled, **trusting(authority), **header) == pairs
    plan = counted(secure, f"EXPLAIN {shuffled}", **trusting(authority), **header)
    assert any("shuffle" in str(row).lower() for row in plan), plan


def test_rows_straight_from_workers(secure: Cluster, authority: bytes) -> None:
    """Workers are named as places that speak TLS. Whom they turn away, for want of a certificate, the coordinator serves."""
    tls = secure.data / "tls"
    certificate = {
        "adbc.flight.sql.client_option.mtls_cert_chain": (tls / "node.pem").read_text(),
        "adbc.flight.sql.client_option.mtls_private_key": (tls / "node.key").read_text(),
    }
    direct = {"adbc.flight.sql.rpc.call_header.x-skyflight-endpoints": "direct", **trusting(authority)}
    with secure.adbc(**direct) as connection, connection.cursor() as cursor:
        partitions, _ = cursor.adbc_execute_partitions("SELECT id FROM dr1.stars")
        assert len(partitions) > 1
        assert all(b"grpc+tls://" in partition and b"grpc+tcp://" not in partition for partition in partitions)
    assert secure.coordinator is not None
    for known in (True, False):
        sql = f"SELECT id, kind FROM dr1.stars WHERE id >= 0 -- {known}"
        rows = counted(secure, sql, **direct, **(certificate if known else {}))
        assert sorted(rows) == [(i, i % 7) for i in range(ROWS)]
        [(query_id,)] = secure.records("SELECT id FROM queries WHERE sql_text = ? AND state = 'direct'", sql)
        log = secure.coordinator.stderr.read_text(errors="replace").splitlines()
        closed = sum(query_id in line and "query closed" in line for line in log)
        assert closed == 1 if known else closed > 1, f"{closed} times served by the coordinator"


def test_pyarrow_and_the_shell(secure: Cluster, authority: bytes) -> None:
    with flight.connect(clients.grpc(secure.url), tls_root_certs=authority) as client:
        info = client.get_flight_info(clients.statement("SELECT count(*) AS n FROM dr1.stars"))
        assert client.do_get(info.endpoints[0].ticket).read_all().to_pydict() == {"n": [ROWS]}
    command = [str(binary()), "sql", "--url", secure.url, "-c", "SELECT count(*) AS n FROM dr1.stars", "--format", "csv", "--quiet"]
    ca_file = ["--ca-file", str(secure.data / "tls" / "ca.pem")]
    done = subprocess.run([*command, *ca_file], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["n", str(ROWS)]), done.stderr
    without = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert without.returncode == 1 and "--ca-file" in without.stderr


def test_a_server_that_nobody_vouches_for_is_refused(secure: Cluster) -> None:
    with pytest.raises(adbc_driver_manager.Error, match="certificate"):
        counted(secure, "SELECT 1")


def test_workers_turn_away_who_shows_no_certificate(secure: Cluster, authority: bytes) -> None:
    worker, tls = secure.workers["w1"].url, secure.data / "tls"
    ping = flight.Action("skyflight.ping", b"")
    with flight.connect(clients.grpc(worker), tls_root_certs=authority) as stranger, pytest.raises(flight.FlightError):
        list(stranger.do_action(ping, flight.FlightCallOptions(timeout=5)))
    own = {"cert_chain": (tls / "node.pem").read_bytes(), "private_key": (tls / "node.key").read_bytes()}
    with flight.connect(clients.grpc(worker), tls_root_certs=authority, **own) as node:
        assert len(list(node.do_action(ping, flight.FlightCallOptions(timeout=5)))) == 1


def test_the_authoritys_key_is_nowhere(secure: Cluster) -> None:
    assert sorted(path.name for path in (secure.data / "tls").iterdir()) == ["ca.pem", "node.key", "node.pem"]
    assert (secure.data / "tls" / "node.key").stat().st_mode & 0o777 == 0o600


def test_half_a_configuration_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "skyflight.toml"
    config.write_text('[tls]\ncertificate = "node.pem"\n')
    arguments = ["serve", "--config", str(config), "--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0"]
    done = subprocess.run([str(binary()), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "tls.key" in done.stderr
