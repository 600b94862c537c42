"""Rows straight from the workers: the same as through the coordinator, and never a part of them for the whole."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_manager.dbapi as dbapi
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from skyflight_testing import catalogs, clients
from skyflight_testing.clients import field
from skyflight_testing.cluster import Cluster
from skyflight_testing.compare import assert_same_rows
from skyflight_testing.duck import Duck
from skyflight_testing.faults import Running, assert_exact, running_tasks, sorted_rows
from skyflight_testing.settings import SEED, SLOWNESS
from skyflight_testing.tables import Scheme, healpix, stripes
from test_queries import MAY_BE_EMPTY, QUERIES

SCHEMES: dict[str, Scheme] = {"h": healpix(row_limit=8_000), "s": stripes()}

ACTION_CANCEL_QUERY = b"type.googleapis.com/arrow.flight.protocol.sql.ActionCancelQueryRequest"

HEADER = "x-skyflight-endpoints"
REUSE = b"arrow-flight-reuse-connection"

SQL = "SELECT source_id, ra, dec, phot_g_mean_mag FROM ep_{}.gaia WHERE phot_g_mean_mag < 9.25"
#: So much that a slow reader is not done soon.
WIDE = "SELECT source_id, repeat(CAST(source_id AS VARCHAR), 16) AS long FROM ep_h.gaia"
#: So much that not even the buffers of all endpoints hold it.
VAST = "SELECT source_id, repeat(CAST(source_id AS VARCHAR), 80) AS long FROM ep_h.gaia"


@pytest.fixture(scope="module")
def cluster(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three workers, two copies of each chunk, and workers named for however little they give."""
    config = "[coordinator]\ndirect_mib = 0\n"
    with Cluster(tmp_path_factory.mktemp("endpoints") / "cluster", config=config) as cluster:
        for suffix, scheme in SCHEMES.items():
            cluster.ingest(f"ep_{suffix}", catalogs.databases(data, suffix)[0].tables[:1], scheme, replicas=2)
        yield cluster
        assert cluster.panics() == [], "a thread of a server panicked"


@pytest.fixture(scope="module")
def oracle(data: Path) -> Duck:
    duck = Duck()
    for suffix in SCHEMES:
        catalogs.add_to_duck(duck, f"ep_{suffix}", catalogs.databases(data, suffix)[0].tables[:1])
    return duck


def adbc(cluster: Cluster, mode: str | None = None) -> dbapi.Connection:
    options = {f"adbc.flight.sql.rpc.call_header.{HEADER}": mode} if mode else {}
    return clients.adbc(cluster.url, **options)


def rows_at(location: str, ticket: flight.Ticket) -> pa.Table:
    with flight.connect(location) as client:
        return client.do_get(ticket, flight.FlightCallOptions(timeout=120)).read_all()


def drain(reader: flight.FlightStreamReader) -> None:
    """Reads to the end; `read_all` makes an interrupt from the keyboard of a stream that the server cancels."""
    while True:
        try:
            reader.read_chunk()
        except StopIteration:
            return


def read_direct(info: flight.FlightInfo, at: int = 0) -> pa.Table:
    """All endpoints, each from the location that is number `at` of its own."""
    tables = [rows_at(endpoint.locations[at % len(endpoint.locations)].uri.decode(), endpoint.ticket) for endpoint in info.endpoints]
    for table in tables:
        assert table.schema.equals(info.schema, check_metadata=True)
    return pa.concat_tables(tables)


def by_pyarrow(cluster: Cluster, mode: str, sql: str) -> pa.Table:
    with cluster.flight(**{HEADER.replace("-", "_"): mode}) as client:
        if mode == "single":
            return client.query(sql)
        info = client.info(sql)
        assert len(info.endpoints) > 1
        firsts = {endpoint.locations[0].uri for endpoint in info.endpoints}
        assert len(firsts) == 3, f"all workers have something to do: {firsts}"
        assert all(len(endpoint.locations) == 2 for endpoint in info.endpoints), "a worker and a replica"
        first, second = read_direct(info), read_direct(info, 1)
        assert_exact(sorted_rows(second), sorted_rows(first), "the replicas' rows")
        return first


def by_adbc(cluster: Cluster, mode: str, sql: str) -> pa.Table:
    with adbc(cluster, mode) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table()


def state_of(cluster: Cluster, sql: str) -> str | None:
    """What became of the query with that text, of which there is one."""
    deadline = time.monotonic() + 10
    while True:
        records = cluster.records("SELECT state FROM queries WHERE sql_text = ?", sql)
        assert len(records) < 2, records
        state = records[0][0] if records else None
        if state not in (None, "running") or time.monotonic() > deadline:
            return state
        time.sleep(0.05)


CLIENTS = {"pyarrow": by_pyarrow, "adbc": by_adbc}

#: Queries of test_queries whose rows are the workers' own, and some that are merged above them. Of the others it is the
#: planner's to say.
OF_WORKERS = {"scan", "scan of expressions", "filter", "filter of text"}
MERGED = {
    "aggregate", "aggregate of nothing", "count distinct", "order by all", "order by limit", "order by limit offset",
    "limit of none", "union all", "values",
}  # fmt: skip


@pytest.mark.parametrize("mode", ["single", "direct"])
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("suffix", SCHEMES)
def test_same_rows(cluster: Cluster, oracle: Duck, suffix: str, client: str, mode: str) -> None:
    sql = f"{SQL.format(suffix)} -- {client} {mode}"
    found = CLIENTS[client](cluster, mode, sql)
    assert found.num_rows > 100_000
    assert_exact(sorted_rows(found), sorted_rows(oracle.query(sql)), f"{client}, {mode}")
    assert state_of(cluster, sql) == ("finished" if mode == "single" else "direct")


@pytest.mark.parametrize("name", QUERIES)
def test_statements(sky: Cluster, duck: Duck, suffix: str, name: str) -> None:
    """Of whatever shape: by the workers where the rows are theirs, by the coordinator where they are merged."""
    text = QUERIES[name].format(s=suffix)
    ordered = "ORDER BY" in text and "OVER" not in text
    theirs = duck.query(text)
    assert theirs.num_rows > 0 or name in MAY_BE_EMPTY, "a query without rows tests nothing"
    schemas = []
    for mode in ("single", "direct"):
        sql = f"{text} -- {mode} {suffix}"
        ours = by_adbc(sky, mode, sql)
        assert_same_rows(ours, theirs, ordered=ordered)
        schemas.append(ours.schema)
        state = state_of(sky, sql.strip())
        assert state == "finished" or (mode == "direct" and state == "direct" and name not in MERGED)
        assert state == "direct" or mode == "single" or name not in OF_WORKERS
    assert schemas[0].equals(schemas[1], check_metadata=True)


def test_explain_and_analyze(cluster: Cluster, oracle: Duck) -> None:
    """They are answered by the coordinator whoever asks."""
    explain = f"EXPLAIN {SQL.format('h')}"
    assert by_adbc(cluster, "direct", explained := f"{explain} -- direct").to_pylist() == by_adbc(cluster, "single", explain).to_pylist()
    assert state_of(cluster, explained) == "finished"
    analyze = f"EXPLAIN ANALYZE {SQL.format('h')}"
    rows = oracle.query(SQL.format("h")).num_rows
    assert str(rows) in str(by_adbc(cluster, "direct", analyze).to_pylist()).replace(",", ""), "it has run, here"
    assert state_of(cluster, analyze) == "finished"


def test_who_is_sent_to_workers(cluster: Cluster, oracle: Duck) -> None:
    """Without a word of the client: ADBC is, pyarrow is not, and nobody for one chunk or for a sum."""
    sql = f"{SQL.format('h')} -- auto"
    with cluster.flight() as client:
        [endpoint] = client.info(f"{sql} of pyarrow").endpoints
        assert endpoint.locations == []
    with adbc(cluster) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        found = cursor.fetch_arrow_table()
        assert_exact(sorted_rows(found), sorted_rows(oracle.query(sql)), "adbc, auto")
        assert state_of(cluster, sql) == "direct"
        one = f"{SQL.format('h')} AND source_id = {found.column('source_id')[0]}"
        for small in (one, "SELECT count(DISTINCT dec) AS n FROM ep_h.gaia"):
            cursor.execute(small)
            assert cursor.fetch_arrow_table().num_rows == 1
            assert state_of(cluster, small) == "finished", small
    with adbc(cluster, "single") as connection, connection.cursor() as cursor:
        cursor.execute(f"{sql} of one who says single")
        assert cursor.fetch_arrow_table().num_rows == found.num_rows
        assert state_of(cluster, f"{sql} of one who says single") == "finished"


@pytest.mark.parametrize("way", ["CANCEL", "CancelFlightInfo", "CancelQuery"])
def test_cancel(cluster: Cluster, way: str) -> None:
    """A query that was handed out ends at the workers, and its tickets open nothing more."""
    sql = f"{VAST} -- to be cancelled by {way}"
    with cluster.flight(**{HEADER.replace("-", "_"): "direct"}) as client:
        info = client.info(sql)
        endpoint = info.endpoints[0]
        with flight.connect(endpoint.locations[0]) as worker:
            reader = worker.do_get(endpoint.ticket)
            reader.read_chunk()
            assert running_of_all(cluster) > 0
            if way == "CANCEL":
                assert state_of(cluster, sql) == "direct"
                [[query_id]] = cluster.records("SELECT id FROM queries WHERE sql_text = ?", sql)
            started = time.monotonic()
            if way == "CANCEL":
                client.query(f"CANCEL '{query_id}'")
            elif way == "CancelFlightInfo":
                list(client.client.do_action(flight.Action(way, field(1, info.serialize())), client.options()))
            else:
                request = field(1, ACTION_CANCEL_QUERY) + field(2, field(1, info.serialize()))
                list(client.client.do_action(flight.Action(way, request), client.options()))
            # A stream that is not read is told nothing before it is read again; it holds no processor meanwhile.
            with pytest.raises(flight.FlightCancelledError):
                drain(reader)
            assert await_idle(cluster, started + SLOWNESS), "the workers still work"
            print(f"{way}: the workers idle after {time.monotonic() - started:.2f} s")
            for at in (worker, client.client):
                with pytest.raises(flight.FlightCancelledError):
                    drain(at.do_get(endpoint.ticket))
    await_state(cluster, sql, "cancelled")


def test_cancel_of_what_adbc_reads(cluster: Cluster) -> None:
    """Somebody else's CANCEL ends all endpoints, and the driver says so: what came before is not all."""
    sql = f"{VAST} -- to be cancelled under ADBC"
    with adbc(cluster, "direct") as connection, connection.cursor() as cursor, cluster.flight() as other:
        cursor.execute(sql)
        reader = cursor.fetch_record_batch()
        reader.read_next_batch()
        assert state_of(cluster, sql) == "direct"
        query_id = other.value(f"SELECT id FROM system.queries WHERE sql = '{sql}'")
        other.query(f"CANCEL '{query_id}'")
        with pytest.raises((pa.ArrowException, dbapi.Error, OSError), match="(?i)cancel"):
            while True:
                reader.read_next_batch()
        reader.close()
    assert await_idle(cluster, time.monotonic() + SLOWNESS)
    await_state(cluster, sql, "cancelled")


def await_state(cluster: Cluster, sql: str, state: str) -> None:
    deadline = time.monotonic() + 10
    while state_of(cluster, sql) != state and time.monotonic() < deadline:
        time.sleep(0.05)
    assert state_of(cluster, sql) == state


def test_locations_as_each_client_understands_them(cluster: Cluster) -> None:
    """ADBC's partitions are its endpoints; the last location is the connection it has."""
    with adbc(cluster) as connection, connection.cursor() as cursor:
        partitions, _ = cursor.adbc_execute_partitions(SQL.format("h"))
        assert len(partitions) > 1
        assert all(REUSE in partition and partition.count(b"grpc+tcp://127.0.0.1:") == 2 for partition in partitions)
    with cluster.flight(**{HEADER.replace("-", "_"): "direct"}) as client:
        info = client.info(SQL.format("h"))
        assert not any(location.uri.startswith(REUSE) for endpoint in info.endpoints for location in endpoint.locations)


def test_redeemed_at_the_coordinator_as_often_as_wanted(cluster: Cluster, oracle: Duck) -> None:
    sql = SQL.format("h")
    expected = sorted_rows(oracle.query(sql))
    with cluster.flight(**{HEADER.replace("-", "_"): "direct"}) as client:
        info = client.info(sql)
        for _ in range(2):
            tables = [client.redeem(endpoint.ticket.ticket).read_all() for endpoint in info.endpoints]
            assert all(table.schema.equals(info.schema, check_metadata=True) for table in tables)
            assert_exact(sorted_rows(pa.concat_tables(tables)), expected, "at the coordinator")


def test_altered_tickets(cluster: Cluster) -> None:
    """Neither a worker nor the coordinator takes them."""
    rng = random.Random(f"{SEED} altered endpoint")
    with cluster.flight(**{HEADER.replace("-", "_"): "direct"}) as client:
        endpoint = client.info(SQL.format("h")).endpoints[0]
        with flight.connect(endpoint.locations[0]) as worker:
            for _ in range(40):
                altered = bytearray(endpoint.ticket.ticket)
                altered[rng.randrange(len(altered))] ^= 1 << rng.randrange(8)
                for at in (worker, client.client):
                    with pytest.raises(flight.FlightUnauthenticatedError):
                        at.do_get(flight.Ticket(bytes(altered))).read_all()


def test_no_rows(cluster: Cluster) -> None:
    for condition in ("source_id = -1", "phot_g_mean_mag > 99"):
        sql = f"SELECT source_id, ra FROM ep_h.gaia WHERE {condition}"
        for mode in ("single", "direct"):
            assert by_adbc(cluster, mode, sql).num_rows == 0


def test_unknown_mode(cluster: Cluster) -> None:
    with cluster.flight(**{HEADER.replace("-", "_"): "many"}) as client:
        with pytest.raises(pa.ArrowInvalid, match="auto, single or direct"):
            client.info(SQL.format("h"))


def test_a_worker_killed_before_the_first_message(cluster: Cluster, oracle: Duck) -> None:
    """It was named, and is gone when its rows are asked for: ADBC goes to the replica, anybody to the coordinator."""
    sql = SQL.format("h")
    expected = sorted_rows(oracle.query(sql))
    with cluster.flight(**{HEADER.replace("-", "_"): "direct"}) as client, adbc(cluster) as connection, connection.cursor() as cursor:
        info = client.info(sql)
        partitions, _ = cursor.adbc_execute_partitions(sql)
        port = cluster.workers["w1"].port
        assert any(f":{port}".encode() in partition for partition in partitions)
        cluster.workers["w1"].kill()
        try:
            tables = []
            for partition in partitions:
                cursor.adbc_read_partition(partition)
                tables.append(cursor.fetch_arrow_table())
            assert_exact(sorted_rows(pa.concat_tables(tables)), expected, "by replicas")
            tables = [client.redeem(endpoint.ticket.ticket).read_all() for endpoint in info.endpoints]
            assert_exact(sorted_rows(pa.concat_tables(tables)), expected, "at the coordinator")
            # Who asks now is not sent there, and to one location where the other is gone.
            again = client.info(sql)
            named = [location.uri for endpoint in again.endpoints for location in endpoint.locations]
            assert named and not any(uri.endswith(f":{port}".encode()) for uri in named)
            assert_exact(sorted_rows(read_direct(again)), expected, "without the dead worker")
            assert_exact(sorted_rows(by_adbc(cluster, "single", sql)), expected, "single")
        finally:
            cluster.start_worker("w1")
            cluster.await_workers({"w1"})


def await_begun(cluster: Cluster, worker: str) -> None:
    """Until a client reads from a worker: before that it may still go to the replica, and hear of nothing."""
    deadline = time.monotonic() + 10 * SLOWNESS
    while running_tasks(cluster, worker) == 0:
        assert time.monotonic() < deadline, f"nobody reads from {worker}"
        time.sleep(0.01)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_worker_killed_in_mid_stream_is_an_error(cluster: Cluster, client: str) -> None:
    """Never a short result: the client hears of it."""
    with cluster.flight(**{HEADER.replace("-", "_"): "direct"}) as flights, adbc(cluster, "direct") as connection:
        rows = 0
        try:
            with pytest.raises((pa.ArrowException, dbapi.Error, OSError)) as raised, connection.cursor() as cursor:
                if client == "adbc":
                    cursor.execute(VAST)
                    batches = iter(cursor.fetch_record_batch())
                    killed = "w2"
                else:
                    endpoint = flights.info(VAST).endpoints[0]
                    [killed] = [name for name, worker in cluster.workers.items() if endpoint.locations[0].uri.endswith(f":{worker.port}".encode())]
                    reader = flight.connect(endpoint.locations[0]).do_get(endpoint.ticket)
                    batches = (chunk.data for chunk in reader)
                rows += next(batches).num_rows
                await_begun(cluster, killed)
                cluster.workers[killed].kill()
                for batch in batches:
                    rows += batch.num_rows
            print(f"{client}: {rows} rows, then {raised.value}")
            assert 0 < rows < catalogs.ROWS["gaia"]
        finally:
            if not cluster.workers[killed].alive():
                cluster.start_worker(killed)
                cluster.await_workers({killed})


def test_a_worker_killed_in_mid_stream_in_single_mode(cluster: Cluster, oracle: Duck) -> None:
    """There the coordinator goes to the replica, and every row comes once."""
    running = Running(cluster, WIDE, pause_s=0.01)
    time.sleep(0.5)
    struck = running.under_way()
    cluster.workers["w3"].kill()
    try:
        assert_exact(sorted_rows(running.result(120)), sorted_rows(oracle.query(WIDE)), "w3 killed")
        assert struck, "the query was over before the worker was killed"
    finally:
        cluster.start_worker("w3")
        cluster.await_workers({"w3"})


def running_of_all(cluster: Cluster) -> int:
    return sum(running_tasks(cluster, worker) for worker in cluster.workers)


def await_idle(cluster: Cluster, deadline: float) -> bool:
    while running_of_all(cluster):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_client_that_goes_away_ends_the_work(cluster: Cluster) -> None:
    with adbc(cluster, "direct") as connection, connection.cursor() as cursor:
        cursor.execute(VAST)
        reader = cursor.fetch_record_batch()
        reader.read_next_batch()
        assert running_of_all(cluster) > 0
        cursor.adbc_cancel()
        reader.close()
    assert await_idle(cluster, time.monotonic() + SLOWNESS), "the workers still work"
