"""The table in the documentation is the one that the tests prove."""

from __future__ import annotations

from pathlib import Path

from . import table
from .client import CAPABILITIES
from .registry import CLIENTS


def test_table_is_up_to_date() -> None:
    assert table.PAGE.read_text() == table.page(), "write it anew: python -m clients.table, in integration/"


def test_every_capability_has_a_test() -> None:
    """A "yes" in the table is a test that ran: no capability is only declared."""
    tests = (Path(__file__).parent / "test_clients.py").read_text()
    assert [name for name in CAPABILITIES if f'@pytest.mark.capability("{name}")' not in tests] == []


def test_every_client_has_a_reason_for_what_it_cannot() -> None:
    for client in CLIENTS.values():
        assert set(client.cannot) <= set(CAPABILITIES), client.name
        assert all(len(reason) > 10 for reason in client.cannot.values()), client.name
