"""Queries whose rows are exchanged between the workers give what DuckDB gives on the same rows, whatever happens."""

from __future__ import annotations

import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest

from skyflight_testing.clients import FlightSql, grpc
from skyflight_testing.cluster import Cluster
from skyflight_testing.compare import assert_same_rows
from skyflight_testing.duck import Duck
from skyflight_testing.faults import Running, sorted_rows
from skyflight_testing.random_tables import DATABASES, Survey, make_survey
from skyflight_testing.settings import FULL, SEED
from skyflight_testing.tables import director, healpix
from test_random import AREAS

KILLS = 60 if FULL else 8
#: Rows of the table that is big enough to be killed in.
MANY = 120_000

#: By name: a query over `{d}`. All of them are shuffled.
SHUFFLED = {
    "group by": "SELECT objectId, count(*) AS n, sum(flux) AS f, min(band) AS b, max(taken) AS t FROM {d}.Source GROUP BY objectId",
    "group by nulls": "SELECT band, flags, night, count(*) AS n, count(snr) AS s FROM {d}.Source GROUP BY band, flags, night",
    "group by expression": "SELECT visit % 7 AS v, good, avg(flux) AS f FROM {d}.Source GROUP BY visit % 7, good",
    "having": "SELECT visit, count(*) AS n FROM {d}.Source GROUP BY visit HAVING count(*) > 15",
    "distinct": "SELECT DISTINCT band, filterId, good FROM {d}.Source",
    "count distinct": "SELECT count(DISTINCT objectId) AS o, max(flux) AS m FROM {d}.Source",
    "several count distinct": (
        "SELECT count(DISTINCT objectId) AS o, count(DISTINCT band) AS b, count(*) AS n, sum(flux) AS f, min(taken) AS t, "
        "max(DISTINCT flux) AS x, count(flux) AS k, count(DISTINCT visit) FILTER (WHERE flux > 20) AS v, count(DISTINCT band) AS again, "
        "sum(visit) FILTER (WHERE flux > 20) AS s FROM {d}.Source"
    ),
    "count distinct beside counts": "SELECT count(*) AS n, count(DISTINCT flags + 1) AS f FROM {d}.Source WHERE flux > 20",
    "count distinct of nothing": (
        "SELECT count(DISTINCT objectId) AS o, count(DISTINCT band) AS b, count(*) AS n, sum(visit) AS s FROM {d}.Source WHERE flux * 0 > 1"
    ),
    "count distinct within": (
        "SELECT o + b AS both, n FROM (SELECT count(DISTINCT objectId) AS o, count(DISTINCT band) AS b, count(*) AS n FROM {d}.Source)"
    ),
    "count distinct by": "SELECT band, count(DISTINCT objectId) AS o, count(DISTINCT visit) AS v FROM {d}.Source GROUP BY band",
    "median": "SELECT band, median(flux) AS m FROM {d}.Source WHERE flux IS NOT NULL GROUP BY band",
    "grouping sets": "SELECT band, flags, count(*) AS n FROM {d}.Source GROUP BY ROLLUP (band, flags)",
    "inner join": "SELECT o.objectId, s.sourceId FROM {d}.Object o JOIN {d}.Source s ON o.flags = s.flags AND o.epochs = s.visit",
    "left join": "SELECT o.objectId, s.sourceId FROM {d}.Object o LEFT JOIN {d}.Source s ON o.flags = s.flags AND o.epochs = s.visit",
    "right join": "SELECT o.objectId, s.sourceId FROM {d}.Object o RIGHT JOIN {d}.Source s ON o.epochs = s.visit AND o.flags = s.flags",
    "full join": "SELECT o.objectId, s.sourceId FROM {d}.Object o FULL JOIN {d}.Source s ON o.epochs = s.visit AND o.flags = s.flags",
    "join with a filter": "SELECT o.objectId, s.sourceId FROM {d}.Object o LEFT JOIN {d}.Source s ON o.epochs = s.visit AND o.mag < s.flux",
    "full join with a filter": "SELECT o.objectId, s.sourceId FROM {d}.Object o FULL JOIN {d}.Source s ON o.epochs = s.visit AND o.mag < s.flux",
    "semi join": "SELECT objectId FROM {d}.Object o WHERE epochs IN (SELECT visit FROM {d}.Source WHERE flux > 300)",
    "anti join": "SELECT objectId FROM {d}.Object o WHERE NOT EXISTS (SELECT 1 FROM {d}.Source s WHERE s.visit = o.epochs AND s.flux > 100)",
    "not in": "SELECT objectId FROM {d}.Object WHERE epochs NOT IN (SELECT visit FROM {d}.Source WHERE visit IS NOT NULL)",
    "not in, null rows too": "SELECT objectId, hostId FROM {d}.Object WHERE hostId NOT IN (SELECT objectId FROM {d}.Source WHERE flux > 100 AND objectId IS NOT NULL)",
    "not in nothing": "SELECT objectId, hostId FROM {d}.Object WHERE hostId NOT IN (SELECT objectId FROM {d}.Source WHERE flux < -1e300)",
    "not in nulls": (
        "SELECT count(*) AS n FROM (SELECT kind, count(*) FROM {d}.Object WHERE hostId NOT IN (SELECT hostId FROM {d}.Object) GROUP BY kind)"
    ),
    "the value of a sub-query": "SELECT visit, count(*) AS n FROM {d}.Source WHERE flux > (SELECT avg(flux) FROM {d}.Source) GROUP BY visit",
    "values of sub-queries": (
        "SELECT band, sum(visit - low) AS s, max((SELECT min(ra) FROM {d}.Object WHERE mag > (SELECT avg(mag) FROM {d}.Object))) AS r FROM "
        "(SELECT band, visit, (SELECT min(visit) FROM {d}.Source) AS low FROM {d}.Source) GROUP BY band "
        "HAVING count(*) > (SELECT min(visit) FROM {d}.Source WHERE flux < -1e300) OR count(*) >= (SELECT count(*) FROM {d}.Filter)"
    ),
    "join on nulls": "SELECT o.objectId, p.objectId AS other FROM {d}.Object o JOIN {d}.Object p ON o.hostId IS NOT DISTINCT FROM p.hostId",
    "self join on the host": "SELECT o.objectId, h.mag FROM {d}.Object o LEFT JOIN {d}.Object h ON o.hostId = h.objectId",
    "skewed join": "SELECT o.kind, s.band, count(*) AS n FROM {d}.Object o JOIN {d}.Source s ON o.flags = s.flags GROUP BY o.kind, s.band",
    "three joins": (
        "SELECT o.kind, count(*) AS n, sum(f.flux) AS f FROM {d}.Object o JOIN {d}.Source s ON o.epochs = s.visit "
        "LEFT JOIN {d}.ForcedSource f ON f.visit = s.visit AND f.band = s.band GROUP BY o.kind"
    ),
    "with a replicated table": (
        "SELECT f.wide, s.night, count(*) AS n FROM {d}.Source s JOIN {d}.Filter f ON s.filterId = f.filterId GROUP BY f.wide, s.night"
    ),
    "two databases": "SELECT a.sourceId, b.flux FROM cells.Source a JOIN striped.Source b ON a.sourceId = b.sourceId AND a.taken = b.taken",
    "order by": "SELECT sourceId, flux, band FROM {d}.Source ORDER BY flux DESC NULLS LAST, sourceId, band NULLS FIRST",
    "order by groups": "SELECT visit, count(*) AS n FROM {d}.Source GROUP BY visit ORDER BY n DESC, visit NULLS LAST",
    "limit of groups": "SELECT visit, count(*) AS n FROM {d}.Source GROUP BY visit ORDER BY n DESC, visit NULLS LAST LIMIT 5 OFFSET 3",
    "window": (
        "SELECT sourceId, rank() OVER (PARTITION BY band ORDER BY flux NULLS LAST, sourceId) AS r, "
        "sum(flux) OVER (PARTITION BY visit) AS f, lag(sourceId) OVER (PARTITION BY visit ORDER BY sourceId) AS l FROM {d}.Source"
    ),
    "window frame": (
        "SELECT sourceId, count(flux) OVER (PARTITION BY band ORDER BY sourceId, taken NULLS LAST ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) AS c "
        "FROM {d}.Source"
    ),
    # Constants are known where the rows are counted, and not on the worker that numbers them.
    "window over one value": (
        "SELECT visit, n, sum(visit) OVER (PARTITION BY n) AS s, row_number() OVER (PARTITION BY n ORDER BY visit NULLS LAST) AS r FROM "
        "(SELECT visit, count(*) AS n FROM {d}.Source GROUP BY visit) WHERE n = 20"
    ),
    "window over equal columns": (
        "SELECT s.sourceId, max(s.flux) OVER (PARTITION BY o.epochs) AS m, rank() OVER (PARTITION BY s.visit ORDER BY s.sourceId) AS r "
        "FROM {d}.Object o JOIN {d}.Source s ON o.epochs = s.visit AND o.flags = s.flags"
    ),
    "window over all": "SELECT sourceId, row_number() OVER (ORDER BY sourceId, taken NULLS LAST, flux NULLS LAST) AS r FROM {d}.Source",
    "near": (
        "SELECT kind, count(*) AS n FROM (SELECT o.kind FROM {d}.Object o JOIN {d}.Source s "
        "ON separation(o.ra, o.dec, s.ra, s.dec) < 0.5) GROUP BY kind"
    ),
    "near, rows": (
        "SELECT o.objectId, s.sourceId, o.mag, s.flux FROM {d}.Object o JOIN {d}.Source s "
        "ON separation(o.ra, o.dec, s.ra, s.dec) < 0.2 AND s.flux > 10"
    ),
    "near, left join": (
        "SELECT o.objectId, s.sourceId FROM {d}.Object o LEFT JOIN {d}.Source s "
        "ON separation(o.ra, o.dec, s.ra, s.dec) < 0.05 AND s.flux > 100"
    ),
    "near, right join": "SELECT o.objectId, s.sourceId FROM {d}.Source s RIGHT JOIN {d}.Object o ON separation(o.ra, o.dec, s.ra, s.dec) < 0.7",
    "near, semi join": (
        "SELECT objectId FROM {d}.Object o WHERE EXISTS "
        "(SELECT 1 FROM {d}.Source s WHERE separation(o.ra, o.dec, s.ra, s.dec) < 0.1 AND s.flux > 50)"
    ),
    "near, anti join": (
        "SELECT sourceId FROM {d}.Source s WHERE NOT EXISTS "
        "(SELECT 1 FROM {d}.Object o WHERE separation(o.ra, o.dec, s.ra, s.dec) < 0.1 AND o.mag < 18)"
    ),
    "near, of two databases": "SELECT a.objectId, b.objectId AS other FROM cells.Object a JOIN striped.Object b ON separation(a.ra, a.dec, b.ra, b.dec) < 0.1",
    "near, the first two of each": (
        "SELECT objectId, sourceId FROM (SELECT o.objectId, s.sourceId, row_number() OVER (PARTITION BY o.objectId "
        "ORDER BY s.sourceId) AS k FROM {d}.Object o JOIN {d}.Source s ON separation(o.ra, o.dec, s.ra, s.dec) < 0.5) x WHERE k <= 2"
    ),
    "union": "SELECT visit, flags FROM {d}.Source UNION SELECT visit, flags FROM {d}.ForcedSource",
    "union all of groups": (
        "SELECT 'source' AS what, visit, count(*) AS n FROM {d}.Source GROUP BY visit "
        "UNION ALL SELECT 'forced', visit, count(*) FROM {d}.ForcedSource GROUP BY visit"
    ),
    "intersect": "SELECT visit, flags FROM {d}.Source INTERSECT SELECT visit, flags FROM {d}.ForcedSource",
    "except": "SELECT visit, flags FROM {d}.Source EXCEPT SELECT visit, flags FROM {d}.ForcedSource",
    "groups of groups": "SELECT n, count(*) AS m FROM (SELECT visit, count(*) AS n FROM {d}.Source GROUP BY visit) GROUP BY n",
    "correlated": "SELECT objectId, (SELECT max(flux) FROM {d}.Source s WHERE s.visit = o.epochs) AS m FROM {d}.Object o",
    "empty side": "SELECT o.epochs, count(a.alertId) AS n FROM {d}.Object o LEFT JOIN {d}.Alert a ON o.epochs = a.flags GROUP BY o.epochs",
    "pruned side": (
        "SELECT s.band, count(o.objectId) AS n FROM {d}.Source s LEFT JOIN "
        "(SELECT * FROM {d}.Object WHERE ra BETWEEN 11.00001 AND 11.00002 AND dec BETWEEN 60.00001 AND 60.00002) o "
        "ON s.visit = o.epochs GROUP BY s.band"
    ),
}

#: Shuffling these gains nothing or is not proved; they are merged, say why, and are right all the same.
MERGED = {
    "all rows": ("SELECT sourceId, flux FROM {d}.Source", "nothing in it"),
    "grand total": ("SELECT count(*) AS n, sum(flux) AS f FROM {d}.Source", "nothing in it"),
    "top": ("SELECT sourceId, flux FROM {d}.Source WHERE flux IS NOT NULL ORDER BY flux, sourceId LIMIT 7", "nothing in it"),
    "empty table": ("SELECT flags, count(*) AS n FROM {d}.Alert GROUP BY flags", "0 worker"),
    "nothing left": (
        "SELECT kind, count(*) AS n FROM {d}.Object WHERE ra BETWEEN 11.00001 AND 11.00002 AND dec BETWEEN 60.00001 AND 60.00002 GROUP BY kind",
        "worker holds",
    ),
    "not in a part": ("SELECT objectId FROM {d}.Object WHERE epochs NOT IN (SELECT visit FROM {d}.Source ORDER BY visit LIMIT 3)", "cannot be divided"),
    "several distinct": ("SELECT count(DISTINCT objectId) AS o, sum(DISTINCT visit) AS b FROM {d}.Source", "cannot be divided"),
    "cross join": ("SELECT count(*) AS n FROM {d}.Filter f CROSS JOIN {d}.Object o", "nothing in it"),
    "near, a radius for each row": (
        "SELECT kind, count(*) AS n FROM (SELECT o.kind FROM {d}.Object o JOIN {d}.Source s "
        "ON separation(o.ra, o.dec, s.ra, s.dec) < o.epochs / 100.0) GROUP BY kind", "cannot be divided",
    ),
    "near, all rows of both sides": (
        "SELECT kind, count(*) AS n FROM (SELECT o.kind FROM {d}.Object o FULL JOIN {d}.Source s "
        "ON separation(o.ra, o.dec, s.ra, s.dec) < 0.5) GROUP BY kind", "cannot be divided",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return make_survey(tmp_path_factory.mktemp("shuffle") / "files", SEED)


@pytest.fixture(scope="module")
def cluster(survey: Survey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("shuffle") / "cluster") as cluster:
        survey.load(cluster)
        yield cluster
        assert cluster.panics() == [], "a thread of a server panicked"
        assert all(process.alive() for process in cluster.processes()), "a server died"


@pytest.fixture(scope="module")
def duck(survey: Survey) -> Duck:
    oracle = Duck()
    oracle.connection.execute(AREAS)
    survey.add_to(oracle)
    return oracle


def always(cluster: Cluster) -> FlightSql:
    return cluster.flight(x_skyflight_shuffle="always")


def explained(client: FlightSql, sql: str) -> dict[str, str]:
    return {row["plan_type"]: row["plan"] for row in client.query(f"EXPLAIN {sql}").to_pylist()}


def analyzed(client: FlightSql, sql: str) -> dict[str, int]:
    text = explained(client, f"ANALYZE {sql}")["analyze"]
    return {name: int(value) for name, value in re.findall(r"^(\w+): (\d+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("name", SHUFFLED)
def test_as_duckdb(cluster: Cluster, duck: Duck, name: str) -> None:
    for database in DATABASES:
        sql = SHUFFLED[name].format(d=database)
        with always(cluster) as client:
            plan = explained(client, sql)
            assert re.match(r"shuffled over [23] workers, because shuffle is set to always", plan["shuffle"]), plan["shuffle"]
            assert "Network" in plan["stages"], plan["stages"]
            ours = client.query(sql, timeout_s=120)
        theirs = duck.query(sql)
        assert theirs.num_rows > 0, "the query tests nothing"
        assert_same_rows(ours, theirs, ordered=name.startswith(("order by", "limit")))


@pytest.mark.parametrize("name", MERGED)
def test_merged(cluster: Cluster, duck: Duck, name: str) -> None:
    for database in DATABASES:
        text, reason = MERGED[name]
        sql = text.format(d=database)
        with always(cluster) as client:
            why = explained(client, sql)["shuffle"]
            assert re.match(f"merged on the coordinator, because .*{reason}", why), why
            assert_same_rows(client.query(sql, timeout_s=120), duck.query(sql))


def test_who_decides(cluster: Cluster) -> None:
    """By the estimate, unless the session says otherwise: in a header, or in an option that the client sets."""
    sql = "SELECT visit, count(*) AS n FROM cells.Source GROUP BY visit"
    with cluster.flight() as client:
        assert re.match("merged on the coordinator, because about [0-9]+ rows", explained(client, sql)["shuffle"])
    with cluster.flight(x_skyflight_shuffle="never") as client:
        assert "set to never" in explained(client, sql)["shuffle"]
    with cluster.flight(x_skyflight_shuffle="perhaps") as client, pytest.raises(pa.ArrowInvalid, match="auto, always or never"):
        client.query(sql)
    with always(cluster) as client:
        ticket = client.info(sql).endpoints[0].ticket.ticket
        # A ticket keeps what its session wanted, whoever redeems it.
        with cluster.flight() as other:
            assert other.redeem(ticket).read_all().num_rows > 10


def test_counters(cluster: Cluster) -> None:
    """Each chunk is read once, on a worker, and only what is left of the groups comes to the coordinator."""
    with always(cluster) as client:
        counted = analyzed(client, "SELECT n, count(*) FROM (SELECT sourceId, count(*) AS n FROM cells.Source GROUP BY sourceId) GROUP BY n")
    with cluster.flight() as client:
        merged = analyzed(client, "SELECT n, count(*) FROM (SELECT sourceId, count(*) AS n FROM cells.Source GROUP BY sourceId) GROUP BY n")
    assert counted["chunks_done"] == counted["chunks_planned"] == counted["chunks_total"] == merged["chunks_done"] > 10
    assert counted["rows_read"] == merged["rows_read"] > 1_000
    assert counted["rows_received"] < 50 < merged["rows_received"], "groups meet on the workers"
    assert counted["retries"] == 0


def test_mistakes_keep_their_kind(cluster: Cluster) -> None:
    """What a user did wrong is found on a worker, two stages below, and is neither retried nor called internal."""
    sql = "SELECT visit, sum(100 / (flags - flags)) FROM cells.Source GROUP BY visit ORDER BY visit"
    with always(cluster) as client:
        assert explained(client, sql)["shuffle"].startswith("shuffled")
        with pytest.raises(pa.ArrowInvalid, match="(?i)divide by zero"):
            client.query(sql)


def test_strangers_are_refused(cluster: Cluster) -> None:
    """Nobody sets up a task or reads a partition of one without a ticket of the cluster."""
    rng = random.Random(f"{SEED} tickets")
    for worker in cluster.workers.values():
        client = flight.connect(grpc(worker.url))
        for ticket in (b"", b"plan", rng.randbytes(400)):
            with pytest.raises(flight.FlightUnauthenticatedError):
                writer, reader = client.do_exchange(flight.FlightDescriptor.for_command(ticket))
                with writer:
                    writer.begin(pa.schema([]))
                    reader.read_all()
            with pytest.raises(flight.FlightUnauthenticatedError):
                client.do_get(flight.Ticket(ticket)).read_all()
        client.close()


# ---------------------------------------------------------------------------------------------
# A table that takes a while, on a cluster that always shuffles and always sorts for its joins
# ---------------------------------------------------------------------------------------------

PROBES = {
    "groups": "SELECT count(*) AS groups, sum(n) AS n, max(k) AS k FROM (SELECT k, count(*) AS n FROM d.T GROUP BY k)",
    "distinct": "SELECT count(DISTINCT k) AS k, max(id) AS i FROM d.T",
    "join": "SELECT count(*) AS n, sum(a.id) AS s, max(b.id) AS m FROM d.T a JOIN d.T b ON a.k = b.id",
    "sort": "SELECT k, id FROM d.T ORDER BY k DESC, id LIMIT 5 OFFSET 30000",
}


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Duck]]:
    folder = tmp_path_factory.mktemp("big")
    rng = np.random.default_rng(SEED)
    ids = rng.permutation(MANY).astype(np.int64)
    rows = pa.table({
        "id": ids,
        "ra": rng.uniform(0, 360, MANY),
        "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, MANY))),
        # Some keys are frequent, most are alone.
        "k": np.where(rng.random(MANY) < 0.2, rng.integers(0, 5, MANY), rng.integers(0, 2 * MANY, MANY)),
    })  # fmt: skip
    file = folder / "t.parquet"
    pq.write_table(rows, file)
    config = '[coordinator]\nsilence_timeout_s = 4\nshuffle = "always"\nsort_merge_mib = 0\n'
    with Cluster(folder / "cluster", config=config) as cluster:
        cluster.ingest("d", [director("T", file, "id")], healpix(row_limit=1_500), replicas=2)
        duck = Duck()
        duck.add("d", "T", [file])
        yield cluster, duck
        assert cluster.panics() == [], "a thread of a server panicked"


def test_joins_sort_and_merge(big: tuple[Cluster, Duck]) -> None:
    cluster, duck = big
    with cluster.flight() as client:
        for name, sql in PROBES.items():
            plan = explained(client, sql)
            if name != "sort":
                assert plan["shuffle"].startswith("shuffled over 3 workers"), (name, plan["shuffle"])
            assert ("SortMergeJoin" in plan.get("stages", "")) == (name == "join")
            assert_same_rows(client.query(sql), duck.query(sql), ordered=True)
        ordered = client.query("SELECT k, id FROM d.T ORDER BY k, id")
        assert_same_rows(ordered, duck.query("SELECT k, id FROM d.T ORDER BY k, id"), ordered=True)


def test_workers_that_die(big: tuple[Cluster, Duck]) -> None:
    """The rows of these come at the very end, so a query that meets a dead worker is run again, and is right."""
    cluster, duck = big
    names = ["groups", "distinct", "join"]
    expected = {name: sorted_rows(duck.query(PROBES[name])) for name in names}
    typical = {}
    for name in names:
        running = Running(cluster, PROBES[name])
        running.result(120)
        typical[name] = running.took_s
    struck: Counter[str] = Counter()
    for run in range(KILLS):
        rng = random.Random(f"{SEED} shuffle {run}")
        name = names[run % len(names)]
        victim = rng.choice(sorted(cluster.workers))
        running = Running(cluster, PROBES[name])
        time.sleep(rng.uniform(0.1, 0.9) * typical[name])
        struck[name] += running.under_way()
        cluster.workers[victim].kill()
        try:
            found = running.result(120)
            assert_same_rows(sorted_rows(found), expected[name])
        finally:
            cluster.start_worker(victim)
            cluster.await_workers({victim})
    print(f"{KILLS} kills, {dict(struck)} while the query ran; undisturbed, in seconds: {typical}")
    assert struck.total() >= KILLS / 2, "too few kills met a query that ran"


def test_a_worker_that_hangs(big: tuple[Cluster, Duck]) -> None:
    """Stopped, not dead: its connections answer no pings, and the query is run again without it."""
    cluster, duck = big
    worker = cluster.workers["w2"]
    running = Running(cluster, PROBES["groups"])
    time.sleep(0.2)
    worker.child.send_signal(signal.SIGSTOP)
    try:
        assert_same_rows(running.result(240), duck.query(PROBES["groups"]))
    finally:
        worker.child.send_signal(signal.SIGCONT)
    print(f"answer after {running.took_s:.1f} s with a stopped worker")


def test_too_few_workers_left(big: tuple[Cluster, Duck]) -> None:
    cluster, duck = big
    for name in ("w1", "w3"):
        cluster.workers[name].kill()
    try:
        with pytest.raises(flight.FlightUnavailableError):
            Running(cluster, PROBES["groups"]).result(120)
    finally:
        for name in ("w1", "w3"):
            cluster.start_worker(name)
        cluster.await_workers({"w1", "w3"})
    assert_same_rows(Running(cluster, PROBES["groups"]).result(120), duck.query(PROBES["groups"]))


def test_cancelled_tasks_stop(big: tuple[Cluster, Duck]) -> None:
    """A client that goes away leaves nothing running on any worker."""
    cluster, _ = big
    with cluster.flight() as client:
        reader = client.open("SELECT a.id, b.id FROM d.T a JOIN d.T b ON a.k = b.k ORDER BY a.id + b.id")
        time.sleep(0.5)
        assert sum(running_tasks(cluster)) > 0, "the query was over before it was cancelled"
        reader.cancel()
        del reader
    deadline = time.monotonic() + 20
    while sum(running_tasks(cluster)) > 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running_tasks(cluster) == [0, 0, 0]


def running_tasks(cluster: Cluster) -> list[int]:
    """What each worker answers to a ping: field 2 of the status is the number of its tasks."""
    found = []
    for worker in cluster.workers.values():
        client = flight.connect(grpc(worker.url))
        status = next(iter(client.do_action(flight.Action("skyflight.ping", b"")))).body.to_pybytes()
        client.close()
        name_length = status[1]
        rest = status[2 + name_length :]
        found.append(rest[1] if rest[:1] == b"\x10" else 0)
    return found
