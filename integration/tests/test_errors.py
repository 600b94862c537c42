"""Mistakes and forgeries get clear errors with the right code, in each client's own exceptions."""

from __future__ import annotations

import random
import time
from pathlib import Path

import adbc_driver_manager
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from skyflight_testing import clients
from skyflight_testing.cluster import Cluster
from skyflight_testing.settings import FULL, SEED
from skyflight_testing.tables import director, healpix

Status = adbc_driver_manager.AdbcStatusCode

#: SQL, pyarrow's exception, ADBC's status, what the message must say.
MISTAKES = {
    "syntax": ("SELEC 1", pa.ArrowInvalid, Status.INVALID_ARGUMENT, "(?i)selec"),
    "unfinished": ("SELECT * FROM hip_h.hipparcos2 WHERE", pa.ArrowInvalid, Status.INVALID_ARGUMENT, "(?i)expected"),
    "two statements": ("SELECT 1; SELECT 2", pa.ArrowInvalid, Status.INVALID_ARGUMENT, "one at a time"),
    "nothing": ("", pa.ArrowInvalid, Status.INVALID_ARGUMENT, "no statement"),
    "table": ("SELECT * FROM hip_h.hiparcos2", pa.ArrowKeyError, Status.NOT_FOUND, "did you mean .*hipparcos2"),
    "database": ("SELECT * FROM zft_h.object", pa.ArrowKeyError, Status.NOT_FOUND, "did you mean .*ztf_h"),
    "column": ("SELECT hpmagg FROM hip_h.hipparcos2", pa.ArrowInvalid, Status.INVALID_ARGUMENT, "did you mean .*hpmag"),
    "function": ("SELECT seperation(1, 2, 3, 4)", (pa.ArrowInvalid, pa.ArrowKeyError), None, "(?i)did you mean"),
    "type": ("SELECT hip + 'x' FROM hip_h.hipparcos2", pa.ArrowInvalid, Status.INVALID_ARGUMENT, "."),
    "ambiguous": (
        "SELECT object_id FROM ztf_h.object JOIN ztf_h.source ON true", pa.ArrowInvalid, Status.INVALID_ARGUMENT, "(?i)ambiguous",
    ),
    "radius": ("SELECT * FROM hip_h.hipparcos2 WHERE qserv_areaspec_circle(1, 2, -3)", pa.ArrowInvalid, Status.INVALID_ARGUMENT, "radius"),
    "declination": (
        "SELECT * FROM hip_h.hipparcos2 WHERE CONTAINS(POINT(ra_j1991, dec_j1991), CIRCLE(0, 95, 1)) = 1",
        pa.ArrowInvalid, Status.INVALID_ARGUMENT, "(?i)declination|dec",
    ),
}  # fmt: skip

#: The shell takes scripts: it sends one statement after the other.
SHELL_SPLITS = {"two statements", "nothing"}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(sky: Cluster, name: str) -> None:
    sql, exception, status, message = MISTAKES[name]
    with sky.flight() as client:
        with pytest.raises(exception, match=message) as raised:
            client.query(sql)
        assert "(query " not in str(raised.value), "a user's mistake is no fault of ours"
    if sql:  # ADBC sends no empty statement.
        with sky.adbc() as connection, connection.cursor() as cursor:
            with pytest.raises(adbc_driver_manager.Error, match=message) as caught:
                cursor.execute(sql)
                cursor.fetch_arrow_table()
            if status is not None:
                assert caught.value.status_code == status
    if name not in SHELL_SPLITS:
        with pytest.raises(clients.ShellFailed, match=message):
            sky.shell(sql)


def test_mistakes_found_while_running(sky: Cluster) -> None:
    """What only a row can show is the user's mistake too, not ours, and does not look like a complete answer."""
    with sky.flight() as client:
        for sql in (
            "SELECT CAST(redshift AS DOUBLE) FROM ztf_h.object",
            "SELECT 1 / (hip - hip) FROM hip_h.hipparcos2",
        ):
            with pytest.raises(pa.ArrowInvalid):
                client.query(sql)
        assert client.value("SELECT count(*) FROM ztf_h.object") == 2_314


def test_altered_tickets(sky: Cluster) -> None:
    """Not one bit of a ticket can be changed."""
    sql = "SELECT count(*) FROM hip_h.hipparcos2 WHERE hpmag < 6"
    with sky.flight() as client:
        ticket = client.info(sql).endpoints[0].ticket.ticket
        bits = range(len(ticket) * 8)
        chosen = bits if FULL else random.Random(SEED).sample(bits, min(len(bits), 250))
        other: dict[str, int] = {}
        for bit in chosen:
            altered = bytearray(ticket)
            altered[bit // 8] ^= 1 << bit % 8
            try:
                client.redeem(bytes(altered)).read_all()
            except flight.FlightUnauthenticatedError:
                continue
            except Exception as error:
                other[f"{type(error).__name__}: {error}"] = bit
            else:
                pytest.fail(f"the ticket with bit {bit} of {len(bits)} turned over gave rows")
        assert not other, f"of {len(chosen)} altered tickets some got another code: {other}"
        assert client.redeem(ticket).read_all().num_rows == 1, "the ticket itself is good"


def test_tickets_of_others(sky: Cluster) -> None:
    with sky.flight() as client:
        ticket = client.info("SELECT 1").endpoints[0].ticket.ticket
        for forged in (b"", b"\0", b"ticket", ticket[:-1], ticket + b"\0", ticket[1:], random.Random(SEED).randbytes(200)):
            with pytest.raises(flight.FlightUnauthenticatedError):
                client.redeem(forged).read_all()


def test_a_ticket_may_be_redeemed_again(sky: Cluster) -> None:
    """Tickets hold all it takes: each use gives the same rows."""
    sql = "SELECT hip FROM hip_s.hipparcos2 WHERE hpmag < 4"
    with sky.flight() as client:
        ticket = client.info(sql).endpoints[0].ticket.ticket
        answers = [sorted(client.redeem(ticket).read_all().column(0).to_pylist()) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2] and len(answers[0]) > 100


def test_bad_token(sky: Cluster) -> None:
    with flight.connect(clients.grpc(sky.url)) as client:
        _, bearer = client.authenticate_basic_token(b"ada", b"")
    header, payload, signature = bearer.decode().split(".")
    for altered in (f"{header}.{payload}.{signature[::-1]}", f"{header}.{payload[:-4]}AAAA.{signature}"):
        with sky.flight(authorization=altered) as client, pytest.raises(flight.FlightUnauthenticatedError):
            client.query("SELECT 1")


def test_worker_refuses_without_ticket(sky: Cluster) -> None:
    """A worker trusts a ticket of the cluster and nothing else."""
    statement = clients.statement("SELECT 1").command
    for worker in sky.workers.values():
        with clients.FlightSql(worker.url) as client:
            for forged in (b"", b"x", statement):
                with pytest.raises(flight.FlightError) as raised:
                    client.redeem(forged).read_all()
                assert isinstance(raised.value, flight.FlightUnauthenticatedError), raised.value
            # Signed by the cluster, but nothing that a worker gives rows for.
            with sky.flight() as coordinator:
                ticket = coordinator.info("SELECT 1").endpoints[0].ticket.ticket
            with pytest.raises(pa.ArrowInvalid, match="takes the ticket of a task"):
                client.redeem(ticket).read_all()


def test_expired_ticket(data: Path, tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", workers=1, config="[coordinator]\nticket_ttl_s = 1\n") as cluster:
        stars = director("stars", data / "sky/s82_rrlyr_object.parquet", "object_id", wrap_ra=True)
        cluster.ingest("short", [stars], healpix(), replicas=1)
        with cluster.flight() as client:
            ticket = client.info("SELECT count(*) FROM short.stars").endpoints[0].ticket.ticket
            assert client.redeem(ticket).read_all().column(0)[0].as_py() == 483
            time.sleep(2.5)
            with pytest.raises(flight.FlightUnauthenticatedError, match="(?i)expired"):
                client.redeem(ticket).read_all()
