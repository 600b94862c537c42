"""All clients, in the order in which people meet them."""

from __future__ import annotations

from . import adbc, arrow_flight, dbapi, frames, go_adbc, jdbc, rust
from .client import Client

CLIENTS: dict[str, Client] = {
    client.name: client
    for client in (
        adbc.CLIENT,
        arrow_flight.CLIENT,
        dbapi.CLIENT,
        frames.PANDAS,
        frames.POLARS,
        frames.DUCK,
        jdbc.CLIENT,
        go_adbc.CLIENT,
        rust.CLIENT,
    )
}
