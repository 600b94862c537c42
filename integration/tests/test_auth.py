"""Users and tokens: what real clients send, and what they are told when it is wrong."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_manager
import pyarrow.flight as flight
import pytest

from skyflight_testing import clients
from skyflight_testing.cluster import Cluster
from skyflight_testing.settings import binary

PASSWORD = "correct horse"


def skyflight(*arguments: str, stdin: str = "", code: int = 0) -> str:
    """Runs the binary; what it printed. `code` is the exit code that is expected."""
    done = subprocess.run([str(binary()), *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def user(cluster: Cluster, *arguments: str, stdin: str = "", code: int = 0) -> str:
    return skyflight("user", *arguments, "--data-dir", str(cluster.data), stdin=stdin, code=code)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("auth") / "cluster"
    with Cluster(folder, workers=1, config='[auth]\nmode = "users"\n', one_process=True) as cluster:
        user(cluster, "add", "ada", stdin=f"{PASSWORD}\n")
        yield cluster
        assert cluster.panics() == []
        logs = "\n".join(log.read_text(errors="replace") for log in cluster.logs.iterdir())
        assert PASSWORD not in logs and "$argon2" not in logs


def adbc_value(cluster: Cluster, sql: str = "SELECT 7", **options: str) -> object:
    with cluster.adbc(**options) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def token_of(cluster: Cluster, name: str, password: str) -> bytes:
    """The Bearer header that pyarrow gets for a user."""
    with flight.connect(clients.grpc(cluster.url)) as client:
        header, value = client.authenticate_basic_token(name.encode(), password.encode())
        assert header == b"authorization" and value.startswith(b"Bearer ")
        return value


def pyarrow_value(cluster: Cluster, bearer: bytes) -> object:
    with cluster.flight(authorization=bearer.decode()) as client:
        return client.value("SELECT 7")


def test_adbc_and_pyarrow_log_in(guarded: Cluster) -> None:
    assert adbc_value(guarded, username="ada", password=PASSWORD) == 7
    assert adbc_value(guarded, username="ADA", password=PASSWORD) == 7
    bearer = token_of(guarded, "ada", PASSWORD)
    assert pyarrow_value(guarded, bearer) == 7
    # A token as the password, as tools do that know no tokens; and as a header, without a Handshake.
    token = bearer.decode().removeprefix("Bearer ")
    assert adbc_value(guarded, username="whoever", password=token) == 7
    assert adbc_value(guarded, **{"adbc.flight.sql.authorization_header": bearer.decode()}) == 7
    assert {name for (name,) in guarded.records("SELECT DISTINCT user_name FROM queries")} == {"ada"}


def test_the_old_handshake_of_pyarrow(guarded: Cluster) -> None:
    class Old(flight.ClientAuthHandler):
        def authenticate(self, outgoing, incoming) -> None:
            outgoing.write(flight.BasicAuth(b"ada", PASSWORD.encode()).serialize())
            self.token = incoming.read()

        def get_token(self) -> bytes:
            return self.token

    with flight.connect(clients.grpc(guarded.url)) as client:
        client.authenticate(Old())
        info = client.get_flight_info(clients.statement("SELECT 7 AS n"))
        assert client.do_get(info.endpoints[0].ticket).read_all().to_pydict() == {"n": [7]}


def test_who_is_nobody_is_told_what_to_do(guarded: Cluster) -> None:
    with pytest.raises(adbc_driver_manager.Error, match="skyflight user add"):
        adbc_value(guarded)
    with pytest.raises(flight.FlightUnauthenticatedError, match="skyflight user add"), guarded.flight() as client:
        client.value("SELECT 7")
    refused = []
    for name, password in (("ada", "wrong"), ("nobody", PASSWORD)):
        with pytest.raises(adbc_driver_manager.Error, match="user or password is wrong") as caught:
            adbc_value(guarded, username=name, password=password)
        refused.append(str(caught.value).splitlines()[0])
    assert refused[0] == refused[1], "nobody learns who is a user"


def test_users_are_managed_while_the_server_runs(guarded: Cluster, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("staple battery\n")
    assert "added vera" in user(guarded, "add", "vera", "--password-file", str(password))
    assert user(guarded, "list").split() == ["ada", "vera"]
    assert "exists already" in user(guarded, "add", "VERA", stdin="12345678\n", code=1)
    assert "at least 8" in user(guarded, "add", "grace", stdin="short\n", code=1)
    assert "cannot name a user" in user(guarded, "add", "a@b", stdin="12345678\n", code=1)
    assert adbc_value(guarded, username="vera", password="staple battery") == 7

    bearer = token_of(guarded, "vera", "staple battery")
    user(guarded, "password", "vera", stdin="another one\n")
    time.sleep(2.5)
    with pytest.raises(flight.FlightUnauthenticatedError, match="log in again"):
        pyarrow_value(guarded, bearer)
    bearer = token_of(guarded, "vera", "another one")
    user(guarded, "remove", "vera")
    time.sleep(2.5)
    with pytest.raises(flight.FlightUnauthenticatedError):
        pyarrow_value(guarded, bearer)
    assert "did you mean \"ada\"" in user(guarded, "remove", "adda", code=1)


def test_keys_change_and_a_restart_locks_nobody_out(guarded: Cluster) -> None:
    bearer = token_of(guarded, "ada", PASSWORD)
    key_file = guarded.data / "session.key"
    key = lambda action: skyflight("key", action, "--file", str(key_file)).split()
    old = key("list")[0]
    key("add")
    assert key("promote")[0] != old
    time.sleep(3)
    assert pyarrow_value(guarded, bearer) == 7, "the old key still verifies"
    fresh = token_of(guarded, "ada", PASSWORD)
    guarded.coordinator.stop()
    guarded.start_all_in_one(1)
    assert pyarrow_value(guarded, bearer) == 7 and pyarrow_value(guarded, fresh) == 7
    key("retire")
    time.sleep(3)
    assert pyarrow_value(guarded, fresh) == 7
    with pytest.raises(flight.FlightUnauthenticatedError, match="log in again"):
        pyarrow_value(guarded, bearer)


@pytest.mark.parametrize("mode, told", [("none", "auth.mode"), ("users", "tls.certificate")])
def test_serving_the_world_has_to_be_said(tmp_path: Path, mode: str, told: str) -> None:
    config = tmp_path / "skyflight.toml"
    config.write_text(f'[auth]\nmode = "{mode}"\n')
    arguments = ["serve", "--config", str(config), "--data-dir", str(tmp_path / "data"), "--listen", "0.0.0.0:0"]
    assert told in skyflight(*arguments, code=1)


def test_old_keys_give_way_by_themselves(tmp_path: Path) -> None:
    """A key is signed with for three seconds here; a token is good for its time, whatever key signed it."""
    config = '[auth]\nmode = "users"\ntoken_ttl_s = 12\nkey_age_s = 3\n'
    with Cluster(tmp_path / "cluster", workers=1, config=config, one_process=True) as cluster:
        user(cluster, "add", "ada", stdin=f"{PASSWORD}\n")
        keys = lambda: [line.split(":")[0] for line in (cluster.data / "session.key").read_text().split()]
        cluster_key = (cluster.data / "cluster.key").read_text()
        issued = time.monotonic()
        bearer, first = token_of(cluster, "ada", PASSWORD), keys()[0]
        while keys()[0] == first:
            assert time.monotonic() < issued + 8
            time.sleep(0.1)
        time.sleep(2.5)
        fresh = token_of(cluster, "ada", PASSWORD)
        assert first in keys()[1:]
        while time.monotonic() < issued + 10:
            assert pyarrow_value(cluster, bearer) == 7, "the old key still verifies"
            time.sleep(0.5)
        assert len(keys()) >= 3, "several have come since"
        # Keys that nobody can have a token of any more are removed.
        while first in keys():
            assert time.monotonic() < issued + 40
            time.sleep(0.2)
        with pytest.raises(flight.FlightUnauthenticatedError, match="log in again"):
            pyarrow_value(cluster, bearer)
        assert pyarrow_value(cluster, token_of(cluster, "ada", PASSWORD)) == 7
        assert fresh != bearer and len(keys()) < 12
        assert (cluster.data / "cluster.key").read_text() == cluster_key, "workers have copies of this one"
        assert cluster.panics() == []
